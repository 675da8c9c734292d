// Package tokenizer turns text into the integer ids that the text encoders were trained on: CLIP's byte-level BPE, T5's
// SentencePiece unigram model and BERT's WordPiece. Ids agree with transformers 4.50, also on the text that nobody types
// on purpose: wrong ids are never noticed, they only train a worse model. A folder whose vocabulary is in a tokenizer.json
// alone, as transformers 5 saves it, follows the rules of that file under every class.
package tokenizer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Classes name the variants of a tokenizer, as model_index.json does. The same vocabulary gives other ids under the
// slow and the fast class for a few texts (CJK and control characters for CLIP).
const (
	CLIP     = "CLIPTokenizer"     // the one FLUX's pipeline loads, without the optional ftfy repairs
	CLIPFast = "CLIPTokenizerFast" // the one an AutoProcessor loads, so SciScore's
	T5Fast   = "T5TokenizerFast"   // FLUX's second tokenizer
	T5       = "T5Tokenizer"       // read as T5Fast: SentencePiece itself differs only on combining marks after mapped letters
	BERT     = "BertTokenizer"
	BERTFast = "BertTokenizerFast" // the detector's captions
)

// Tokenizer is one loaded vocabulary with the rules that cut text. It is safe for concurrent use.
type Tokenizer interface {
	// Encode gives the ids of text with the model's special tokens at its ends, not padded. More than maxLength ids
	// are cut at the right end of the text, so that the special tokens stay. maxLength 0 means no limit.
	Encode(text string, maxLength int) []int32
	// Pad extends ids with the padding id to length; longer ids are returned as they are.
	Pad(ids []int32, length int) []int32
	// ID looks up the id of a vocabulary entry, spelt as in the vocabulary file.
	ID(piece string) (int32, bool)
	// Size is one more than the largest id, the least number of rows an embedding needs.
	Size() int
}

// Load reads the tokenizer in folder dir. The class says which rules apply; with an empty class it is taken from
// tokenizer_config.json.
func Load(dir, class string) (Tokenizer, error) {
	if info, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("load tokenizer %s: %w", dir, err)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("load tokenizer %s: not a folder; give the folder that holds the vocabulary", dir)
	}
	config, err := readConfig(dir)
	if err != nil {
		return nil, fmt.Errorf("load tokenizer %s: %w", dir, err)
	}
	if class == "" {
		class = config.Class
	}
	var t Tokenizer
	switch class {
	case CLIP:
		t, err = loadCLIP(dir, config, false)
	case CLIPFast:
		t, err = loadCLIP(dir, config, true)
	case T5, T5Fast:
		t, err = loadT5(dir, config)
	case BERT, BERTFast:
		t, err = loadBERT(dir, config, class == BERTFast)
	default:
		err = fmt.Errorf("class %q is not known; use one of %s", class, strings.Join([]string{CLIP, CLIPFast, T5, T5Fast, BERT, BERTFast}, ", "))
	}
	if err != nil {
		return nil, fmt.Errorf("load tokenizer %s: %w", dir, err)
	}
	return t, nil
}

// Batch encodes texts and pads them to length: ids [len(texts), length], row-major.
func Batch(t Tokenizer, texts []string, length int) []int32 {
	ids := make([]int32, 0, len(texts)*length)
	for _, text := range texts {
		ids = append(ids, t.Pad(t.Encode(text, length), length)...)
	}
	return ids
}

// vocabulary is what every kind of tokenizer has: entries with ids, and the ids that frame a text.
type vocabulary struct {
	ids           map[string]int32
	size          int
	before, after []int32 // special tokens at the two ends
	pad           int32
}

// ID implements Tokenizer.
func (v *vocabulary) ID(piece string) (int32, bool) {
	id, ok := v.ids[piece]
	return id, ok
}

// Size implements Tokenizer.
func (v *vocabulary) Size() int { return v.size }

// Pad implements Tokenizer.
func (v *vocabulary) Pad(ids []int32, length int) []int32 {
	out := slices.Clone(ids)
	for len(out) < length {
		out = append(out, v.pad)
	}
	return out
}

// frame puts the special tokens round the ids of a text, of which it keeps as many as fit.
func (v *vocabulary) frame(ids []int32, maxLength int) []int32 {
	if maxLength > 0 {
		ids = ids[:min(len(ids), v.room(maxLength))]
	}
	out := make([]int32, 0, len(v.before)+len(ids)+len(v.after))
	out = append(append(append(out, v.before...), ids...), v.after...)
	if maxLength > 0 && len(out) > maxLength {
		out = out[:maxLength] // not even the special tokens fit
	}
	return out
}

// room is the number of a text's own ids that fit into maxLength; without a limit it is as large as an int can be.
func (v *vocabulary) room(maxLength int) int {
	if maxLength <= 0 {
		return int(^uint(0) >> 1)
	}
	return max(0, maxLength-len(v.before)-len(v.after))
}

// maxID bounds the ids a vocabulary may hold: larger ones than any model's embedding come from a damaged file.
const maxID = 1 << 24

// newVocabulary checks ids that were read from a file and notes their range.
func newVocabulary(ids map[string]int32) (vocabulary, error) {
	if len(ids) == 0 {
		return vocabulary{}, errors.New("the vocabulary is empty")
	}
	v := vocabulary{ids: ids}
	for piece, id := range ids {
		if id < 0 || id > maxID {
			return vocabulary{}, fmt.Errorf("vocabulary entry %q has id %d, outside 0…%d", piece, id, maxID)
		}
		v.size = max(v.size, int(id)+1)
	}
	return v, nil
}

// special looks up the id of a special token.
func (v *vocabulary) special(role, piece string) (int32, error) {
	id, ok := v.ids[piece]
	if !ok {
		return 0, fmt.Errorf("the vocabulary lacks %q, the %s token; the files belong to another tokenizer or are incomplete", piece, role)
	}
	return id, nil
}

// readOptional reads a file that need not exist; ok tells whether it does.
func readOptional(dir, name string) (data []byte, ok bool, err error) {
	data, err = os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	return data, err == nil, err
}
