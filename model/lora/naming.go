package lora

import (
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strings"
)

// knownNamings is what an error says of them.
const knownNamings = "diffusers (transformer.…, also bare), PEFT (base_model.model.…), kohya (lora_unet_…), " +
	"ComfyUI and ai-toolkit (diffusion_model.…), OneTrainer (lora_transformer_…), LyCORIS (lycoris_…), the original dotted names (double_blocks.…) and XLabs (….processor.qkv_lora1)"

// peftPrefix is what peft puts before the paths of a model that it wraps.
const peftPrefix = "base_model.model."

// dottedPrefixes may stand before a dotted path, several behind one another.
var dottedPrefixes = []string{peftPrefix, "transformer.", "diffusion_model.", "model.", "unet."}

// flatPrefixes stand before a path whose dots are underscores: of kohya's scripts (over original or diffusers names),
// OneTrainer and LyCORIS.
var flatPrefixes = []string{"lora_unet_", "lora_transformer_", "lycoris_"}

// textPrefixes begin the names of what belongs to text encoders and embeddings, which this program does not train.
var textPrefixes = []string{
	"text_encoder.", "text_encoder_2.", "text_encoder_3.", "text_encoders.",
	"lora_te_", "lora_te1_", "lora_te2_", "lora_te3_", "lora_text_encoder",
	"lycoris_text_model_", "lycoris_text_encoder", "text_model.", "clip_l.", "t5xxl.", "te1.", "te2.", "bundle_emb.", "emb_params",
}

// target is what a path of a file names: layers, and whether it names them by the original's path, as rows of it.
type target struct {
	parts    []int // indices of the model's layers, in the order of their rows
	original bool
}

// namings finds layers by every path that files know them by.
type namings struct {
	dotted, flat map[string]target
}

func newNamings(layers []Layer) namings {
	n := namings{dotted: map[string]target{}, flat: map[string]target{}}
	fused := map[string][]int{}
	for i, l := range layers {
		n.dotted[l.Name] = target{parts: []int{i}}
		if l.Original == "" {
			continue
		}
		fused[l.Original] = append(fused[l.Original], i)
		if alias := xlabs(l); alias != "" {
			fused[alias] = append(fused[alias], i)
		}
	}
	for path, parts := range fused {
		if _, same := n.dotted[path]; !same {
			n.dotted[path] = target{parts: parts, original: true}
		}
	}
	for path, t := range n.dotted {
		n.flat[flat(path)] = t
	}
	return n
}

func flat(path string) string { return strings.ReplaceAll(path, ".", "_") }

var (
	doubleAttention = regexp.MustCompile(`^(double_blocks\.\d+)\.(img|txt)_attn\.(qkv|proj)$`)
	singleLinear    = regexp.MustCompile(`^(single_blocks\.\d+)\.linear([12])$`)
)

// xlabs is the path that XLabs' trainer has for an original layer, if any: stream 1 is the image, stream 2 the text. Its
// qkv of a single block are the rows of linear1 that belong to the attention.
func xlabs(l Layer) string {
	if m := doubleAttention.FindStringSubmatch(l.Original); m != nil {
		stream := map[string]string{"img": "1", "txt": "2"}[m[2]]
		return m[1] + ".processor." + m[3] + "_lora" + stream
	}
	m := singleLinear.FindStringSubmatch(l.Original)
	switch {
	case m == nil:
		return ""
	case m[2] == "2":
		return m[1] + ".processor.proj_lora"
	case strings.Contains(l.Name, ".attn."):
		return m[1] + ".processor.qkv_lora"
	}
	return ""
}

// find looks a path up without its prefixes, which it returns bare.
func (n namings) find(path string) (bare string, t target, ok bool) {
	bare = path
	for i := 0; i < len(dottedPrefixes); i++ {
		if rest, had := strings.CutPrefix(bare, dottedPrefixes[i]); had {
			bare, i = rest, -1
		}
	}
	if t, ok = n.dotted[bare]; ok {
		return bare, t, true
	}
	for _, prefix := range flatPrefixes {
		if rest, had := strings.CutPrefix(bare, prefix); had {
			t, ok = n.flat[rest]
			return rest, t, ok
		}
	}
	return bare, target{}, false
}

// textPrefix is the prefix of a text encoder's tensor.
func textPrefix(name string) (string, bool) {
	name = strings.TrimPrefix(name, peftPrefix)
	i := slices.IndexFunc(textPrefixes, func(p string) bool { return strings.HasPrefix(name, p) })
	if i < 0 {
		return "", false
	}
	return strings.TrimRight(textPrefixes[i], "._"), true
}

var digits = regexp.MustCompile(`\d+`)

// unknownNaming says that no path of the file is known.
func unknownNaming(path string) string {
	return fmt.Sprintf("naming %s is not known; known are %s", digits.ReplaceAllString(path, "N"), knownNamings)
}

// piece says which tensor of a module a name's end means.
type piece int

const (
	pieceA piece = iota
	pieceB
	pieceAlpha
)

// pieceSuffixes are the ends of names, longer ones before those that they end with.
var pieceSuffixes = []struct {
	text string
	piece
}{
	{".lora_A.alpha", pieceAlpha}, {".lora_B.alpha", pieceAlpha}, {".lora_alpha", pieceAlpha}, {".alpha", pieceAlpha},
	{".lora_A.weight", pieceA}, {".lora_A", pieceA}, {".lora_down.weight", pieceA},
	{".lora_B.weight", pieceB}, {".lora_B", pieceB}, {".lora_up.weight", pieceB},
	{".lora.down.weight", pieceA}, {".lora_linear_layer.down.weight", pieceA}, {".down.weight",
		pieceA}, // diffusers before 0.22, and XLabs
	{".lora.up.weight", pieceB}, {".lora_linear_layer.up.weight", pieceB}, {".up.weight", pieceB},
}

// inMemory is peft's in-memory form, with the adapter's name: …lora_A.default.weight.
var inMemory = regexp.MustCompile(`\.(lora_[AB])\.([^.]+)\.(weight|alpha)$`)

// cutPiece splits a tensor's name into the module's path, the piece, and the adapter's name where it says one.
func cutPiece(name string) (path string, p piece, adapter string, ok bool) {
	if m := inMemory.FindStringSubmatch(name); m != nil {
		adapter = m[2]
		name = strings.TrimSuffix(name, m[0]) + "." + m[1] + "." + m[3]
	}
	for _, s := range pieceSuffixes {
		if path, ok = strings.CutSuffix(name, s.text); ok {
			return path, s.piece, adapter, true
		}
	}
	return "", 0, "", false
}

// otherKinds are parts of tensor names that belong to something else than plain LoRA.
var otherKinds = []struct{ part, kind string }{
	{"lora_magnitude_vector", "DoRA"}, {"dora_scale", "DoRA"}, {".hada_", "LoHa"}, {".lokr_", "LoKr"}, {".oft_", "OFT"}, {".boft_",
		"BOFT"},
	{".lora_mid", "LoCon with a middle factor"}, {".lora_diag", "KaSA"}, {"lora_embedding_", "an embedding"}, {".diff",
		"whole weight differences"},
	{"lora_B.bias", "trained biases, as of FLUX's control LoRAs"}, {"lora_bias", "trained biases"}, {".bias", "trained biases"},
	{"_norm.scale", "trained norms, as of FLUX's control LoRAs"}, {".set_weight", "whole weights"}, {".reshape_weight",
		"weights of another shape"},
}

// strays names the tensors that are no part of a plain LoRA adapter, by kind.
func strays(names []string) []string {
	byKind := map[string][]string{}
	for _, name := range names {
		kind := "no part of a plain LoRA adapter"
		for _, o := range otherKinds {
			if strings.Contains(name, o.part) {
				kind = "no plain LoRA but " + o.kind
				break
			}
		}
		byKind[kind] = append(byKind[kind], name)
	}
	var faults []string
	for kind, list := range byKind {
		faults = append(faults, fmt.Sprintf("tensor %s: %s; merge it into its base, or train plain LoRA", some(list), kind))
	}
	sort.Strings(faults)
	return faults
}
