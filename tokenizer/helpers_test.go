package tokenizer

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// folder writes files into a fresh folder.
func folder(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func load(t testing.TB, class string, files map[string]string) Tokenizer {
	t.Helper()
	tk, err := Load(folder(t, files), class)
	if err != nil {
		t.Fatal(err)
	}
	return tk
}

// spell writes ids as the vocabulary entries they stand for.
func spell(t testing.TB, tk Tokenizer, ids []int32) string {
	t.Helper()
	var all map[string]int32
	switch v := tk.(type) {
	case *clip:
		all = v.ids
	case *t5:
		all = v.ids
	case *bert:
		all = v.ids
	}
	names := map[int32]string{}
	for text, id := range all {
		names[id] = text
	}
	words := make([]string, len(ids))
	for i, id := range ids {
		name, ok := names[id]
		if !ok {
			t.Fatalf("id %d is not in the vocabulary", id)
		}
		words[i] = name
	}
	return strings.Join(words, " ")
}

// clipMerges is a small merge list; the first line is never a merge.
const clipMerges = "#version: 0.2\na p\nap p\nl e</w>\napp le</w>\nr e\n' s</w>\n2 0\nd o\n"

// clipVocab lists all byte symbols, their word-final forms, the merged symbols and the two special tokens.
func clipVocab(merges string) string {
	ids := map[string]int{}
	add := func(s string) {
		if _, ok := ids[s]; !ok {
			ids[s] = len(ids)
		}
	}
	for _, s := range byteSymbols {
		add(s)
	}
	for _, s := range byteSymbols {
		add(s + endOfWord)
	}
	for _, line := range strings.Split(merges, "\n")[1:] {
		if line != "" {
			add(strings.ReplaceAll(line, " ", ""))
		}
	}
	add(clipStart)
	add(clipEnd)
	data, _ := json.Marshal(ids)
	return string(data)
}

func clipFolder() map[string]string {
	return map[string]string{"vocab.json": clipVocab(clipMerges), "merges.txt": clipMerges}
}

// spieceFile encodes a SentencePiece model.
func spieceFile(pieces []piece, unknown int, charsmap []byte) string {
	var out []byte
	bytesField := func(dst []byte, number uint64, data []byte) []byte {
		dst = binary.AppendUvarint(dst, number<<3|wireBytes)
		dst = binary.AppendUvarint(dst, uint64(len(data)))
		return append(dst, data...)
	}
	for _, p := range pieces {
		entry := bytesField(nil, 1, []byte(p.text))
		entry = binary.AppendUvarint(entry, 2<<3|wireFixed32)
		entry = binary.LittleEndian.AppendUint32(entry, math.Float32bits(float32(p.score)))
		entry = binary.AppendUvarint(binary.AppendUvarint(entry, 3<<3|wireVarint), 1)
		out = bytesField(out, 1, entry)
	}
	trainer := binary.AppendUvarint(binary.AppendUvarint(nil, 40<<3|wireVarint), uint64(unknown))
	trainer = binary.AppendUvarint(binary.AppendUvarint(trainer, 3<<3|wireVarint), 1)
	out = bytesField(out, 2, trainer)
	return string(bytesField(out, 3, bytesField(nil, 2, charsmap)))
}

// t5Pieces is a small vocabulary; "▁ab" is likelier than "▁a" and "b" together.
var t5Pieces = []piece{
	{"<pad>", 0}, {"</s>", 0}, {"<unk>", 0}, {"▁", -2}, {"a", -3}, {"b", -3.5}, {"▁a", -3.25}, {"▁ab", -5}, {"aa", -6}, {"é", -7}, {"c", -4}, {"bc", -7.5},
}

// t5Map lists the replacements of the small character map.
var t5Map = [][2]string{{"\t", " "}, {"\n", " "}, {"\u3000", " "}, {"ａ", "a"}, {"…", "..."}, {"\u00ad", ""}, {"e\u0301", "é"}}

func t5Folder() map[string]string {
	return map[string]string{"spiece.model": spieceFile(t5Pieces, 2, buildCharsmap(t5Map))}
}

// buildCharsmap lays out a double-array trie in the plainest way: every node gets a block of 256 units of its own. The
// value of a node lies at the block's start, where byte 0 would be.
func buildCharsmap(entries [][2]string) []byte {
	type node struct {
		children map[byte]int
		value    int // place in the blob, -1 for none
	}
	nodes, blob := []node{{map[byte]int{}, -1}}, []byte{}
	for _, e := range entries {
		at := 0
		for i := range len(e[0]) {
			next, ok := nodes[at].children[e[0][i]]
			if !ok {
				next = len(nodes)
				nodes = append(nodes, node{map[byte]int{}, -1})
				nodes[at].children[e[0][i]] = next
			}
			at = next
		}
		nodes[at].value = len(blob)
		blob = append(append(blob, e[1]...), 0)
	}
	// Unit of node n lies at block(parent) ^ byte; its offset, relative to its own place by xor, leads to block(n).
	block := func(n int) uint32 { return uint32(n+1) * 256 }
	units := make([]uint32, 256*(len(nodes)+1))
	unit := func(place, to uint32, label byte, hasValue bool) uint32 {
		offset := place ^ to
		u := uint32(label)
		if hasValue {
			u |= 1 << 8
		}
		if offset < 1<<21 {
			return u | offset<<10
		}
		return u | 1<<9 | offset>>8<<10
	}
	units[0] = unit(0, block(0), 0, false)
	for n, from := range nodes {
		if from.value >= 0 {
			units[block(n)] = uint32(from.value) | 1<<31
		}
		for c, to := range from.children {
			place := block(n) ^ uint32(c)
			units[place] = unit(place, block(to), c, nodes[to].value >= 0)
		}
	}
	out := binary.LittleEndian.AppendUint32(nil, uint32(4*len(units)))
	for _, u := range units {
		out = binary.LittleEndian.AppendUint32(out, u)
	}
	return append(out, blob...)
}

const bertVocab = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nun\n##ripe\napple\n##s\n,\n.\ncafe\n果\n'\n$\ni\n##i\n"

func bertFolder() map[string]string { return map[string]string{"vocab.txt": bertVocab} }
