package tokenizer

import (
	"fmt"
	"math"
	"unicode/utf8"
)

// unknownPenalty is how much less likely than the least likely piece a character outside the vocabulary is.
const unknownPenalty = 10

// piece is one entry of a unigram vocabulary; its id is its place in the list.
type piece struct {
	text  string
	score float64 // natural logarithm of its probability
}

// unigram segments words into the pieces of the highest total score.
type unigram struct {
	scores       []float64
	unknown      int32
	unknownScore float64
	next         map[uint64]int32 // node<<8 | byte → node of the trie of all pieces; 0 is the root
	id           []int32          // piece that ends at a node, or -1
}

func newUnigram(pieces []piece, unknown int) (*unigram, error) {
	if unknown < 0 || unknown >= len(pieces) {
		return nil, fmt.Errorf("unigram model: the unknown piece has id %d, the vocabulary has %d pieces", unknown, len(pieces))
	}
	u := &unigram{scores: make([]float64, len(pieces)), unknown: int32(unknown), next: map[uint64]int32{}, id: []int32{-1}}
	least := math.Inf(1)
	for i, p := range pieces {
		if math.IsNaN(p.score) || math.IsInf(p.score, 0) {
			return nil, fmt.Errorf("unigram model: piece %d (%q) has score %v", i, p.text, p.score)
		}
		if p.text == "" || !utf8.ValidString(p.text) {
			return nil, fmt.Errorf("unigram model: piece %d (%q) is empty or not UTF-8", i, p.text)
		}
		u.scores[i], least = p.score, min(least, p.score)
		u.insert(p.text, int32(i))
	}
	u.unknownScore = least - unknownPenalty
	return u, nil
}

func (u *unigram) insert(text string, id int32) {
	node := int32(0)
	for i := range len(text) {
		key := uint64(node)<<8 | uint64(text[i])
		child, ok := u.next[key]
		if !ok {
			child = int32(len(u.id))
			u.next[key], u.id = child, append(u.id, -1)
		}
		node = child
	}
	u.id[node] = id
}

// arc is the best way to reach a place in a word.
type arc struct {
	score float64
	from  int // where its last piece starts, -1 while the place is not reached
	id    int32
}

// encode appends the pieces of word on its best path (Viterbi): from each place all pieces that match there, shorter
// ones first, replace a worse arc but not an equal one; a character that is no piece of its own may be unknown.
// Neighbouring unknowns are one id.
func (u *unigram) encode(dst []int32, word string) []int32 {
	best := make([]arc, len(word)+1)
	for i := range best {
		best[i].from = -1
	}
	for start, r := range word {
		here, width := best[start].score, utf8.RuneLen(r)
		if r == utf8.RuneError {
			_, width = utf8.DecodeRuneInString(word[start:])
		}
		reach := func(end int, score float64, id int32) {
			if a := &best[end]; a.from < 0 || score > a.score {
				*a = arc{score, start, id}
			}
		}
		single := false
		node := int32(0)
		for end := start; end < len(word); {
			child, ok := u.next[uint64(node)<<8|uint64(word[end])]
			if !ok {
				break
			}
			node = child
			end++
			if id := u.id[node]; id >= 0 {
				reach(end, here+u.scores[id], id)
				single = single || end == start+width
			}
		}
		if !single {
			reach(start+width, here+u.unknownScore, u.unknown)
		}
	}
	return u.trace(dst, best)
}

// trace reads the best path from its end and appends its ids in order.
func (u *unigram) trace(dst []int32, best []arc) []int32 {
	first := len(dst)
	for end := len(best) - 1; end > 0; end = best[end].from {
		id := best[end].id
		if id == u.unknown && len(dst) > first && dst[len(dst)-1] == id {
			continue
		}
		dst = append(dst, id)
	}
	for i, j := first, len(dst)-1; i < j; i, j = i+1, j-1 {
		dst[i], dst[j] = dst[j], dst[i]
	}
	return dst
}
