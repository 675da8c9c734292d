package tokenizer

import (
	"container/heap"
	"fmt"
	"strings"
)

// endOfWord marks the last symbol of a word in CLIP's vocabulary.
const endOfWord = "</w>"

// byteSymbols gives every byte a printable character, as GPT-2's vocabulary writes bytes: the printable ones of Latin-1
// stand for themselves, the others in increasing order for the code points from 256 on.
var byteSymbols = func() (table [256]string) {
	next := rune(256)
	for b := range table {
		r := rune(b)
		if !(r >= '!' && r <= '~' || r >= 0xa1 && r <= 0xac || r >= 0xae) {
			r = next
			next++
		}
		table[b] = string(r)
	}
	return table
}()

// bpe merges the bytes of a word into vocabulary entries. It works on symbols: numbers of the strings that occur in the
// byte table or in a merge, which are not all in the vocabulary.
type bpe struct {
	symbols   map[string]int32
	ids       []int32 // vocabulary id of each symbol, that of the unknown token where it has none
	merges    map[[2]int32]merge
	letter    [256]int32 // symbol of a byte inside a word
	last      [256]int32 // symbol of a word's last byte
	immediate bool       // see encode
}

type merge struct {
	rank int
	into int32
}

// newBPE builds the tables. Merges are pairs in order of rank; a pair given twice has its later rank. With strict, the
// rule of the fast classes, all parts of a merge must be in the vocabulary.
func newBPE(vocab map[string]int32, merges [][2]string, unknown int32, strict bool) (*bpe, error) {
	p := &bpe{symbols: map[string]int32{}, merges: make(map[[2]int32]merge, len(merges)), immediate: strict}
	symbol := func(s string) int32 {
		n, ok := p.symbols[s]
		if ok {
			return n
		}
		id, known := vocab[s]
		if !known {
			id = unknown
		}
		n = int32(len(p.ids))
		p.symbols[s], p.ids = n, append(p.ids, id)
		return n
	}
	for b, s := range byteSymbols {
		p.letter[b], p.last[b] = symbol(s), symbol(s+endOfWord)
	}
	for rank, pair := range merges {
		joined := pair[0] + pair[1]
		if strict {
			for _, s := range []string{pair[0], pair[1], joined} {
				if _, ok := vocab[s]; !ok {
					return nil, fmt.Errorf("merge %d (%s %s): %q is not in the vocabulary", rank, pair[0], pair[1], s)
				}
			}
		}
		p.merges[[2]int32{symbol(pair[0]), symbol(pair[1])}] = merge{rank, symbol(joined)}
	}
	return p, nil
}

// parseMerges reads merges.txt: a first line that is never a merge, then one pair per line, best first. No more than
// limit are read, as the slow class does.
func parseMerges(text string, limit int) ([][2]string, error) {
	lines := strings.Split(strings.TrimSpace(strings.ReplaceAll(text, "\r\n", "\n")), "\n")[1:]
	lines = lines[:min(len(lines), limit)]
	merges := make([][2]string, len(lines))
	for i, line := range lines {
		fields := strings.Fields(line)
		if len(fields) != 2 {
			return nil, fmt.Errorf("merges.txt: line %d: %q is not a pair of symbols", i+2, line)
		}
		merges[i] = [2]string{fields[0], fields[1]}
	}
	return merges, nil
}

// candidate is a possible merge of the symbol at pos with its right neighbour.
type candidate struct {
	rank, pos   int
	left, right int32
}

type candidates []candidate

func (c candidates) Len() int      { return len(c) }
func (c candidates) Swap(i, j int) { c[i], c[j] = c[j], c[i] }
func (c candidates) Less(i, j int) bool {
	if c[i].rank != c[j].rank {
		return c[i].rank < c[j].rank
	}
	return c[i].pos < c[j].pos
}
func (c *candidates) Push(x any) { *c = append(*c, x.(candidate)) }
func (c *candidates) Pop() any {
	last := (*c)[len(*c)-1]
	*c = (*c)[:len(*c)-1]
	return last
}

// word is a doubly linked list of symbols while they are being merged.
type word struct {
	symbols    []int32 // -1 where a symbol was merged into its left neighbour
	prev, next []int
}

func (p *bpe) newWord(text string) word {
	n := len(text)
	w := word{make([]int32, n), make([]int, n), make([]int, n)}
	for i := range n {
		w.symbols[i], w.prev[i], w.next[i] = p.letter[text[i]], i-1, i+1
	}
	w.symbols[n-1] = p.last[text[n-1]]
	return w
}

// encode appends the ids of one word. The pair of lowest rank is merged at all its places from left to right, then the
// next one, in O(n log n) by a queue: pairs that a round makes wait until it is over, even if their rank is lower. The
// fast classes take such pairs at once; a merge list that training made has none.
func (p *bpe) encode(dst []int32, text string) []int32 {
	if text == "" {
		return dst
	}
	w := p.newWord(text)
	var queue, fresh candidates
	for i := range len(text) - 1 {
		queue = p.consider(queue, &w, i)
	}
	heap.Init(&queue)
	for len(queue) > 0 {
		c := heap.Pop(&queue).(candidate)
		if w.symbols[c.pos] == c.left && w.next[c.pos] < len(text) && w.symbols[w.next[c.pos]] == c.right {
			p.join(&w, c)
			fresh = p.consider(fresh, &w, w.prev[c.pos])
			fresh = p.consider(fresh, &w, c.pos)
		}
		if p.immediate || len(queue) == 0 || queue[0].rank != c.rank {
			for _, f := range fresh {
				heap.Push(&queue, f)
			}
			fresh = fresh[:0]
		}
	}
	for i := 0; i < len(text); i = w.next[i] {
		dst = append(dst, p.ids[w.symbols[i]])
	}
	return dst
}

// consider adds the pair that starts at i if it may be merged.
func (p *bpe) consider(list candidates, w *word, i int) candidates {
	if i < 0 || w.next[i] >= len(w.symbols) {
		return list
	}
	left, right := w.symbols[i], w.symbols[w.next[i]]
	if m, ok := p.merges[[2]int32{left, right}]; ok {
		list = append(list, candidate{m.rank, i, left, right})
	}
	return list
}

// join replaces the pair at c.pos by its merged symbol.
func (p *bpe) join(w *word, c candidate) {
	gone := w.next[c.pos]
	w.symbols[c.pos] = p.merges[[2]int32{c.left, c.right}].into
	w.symbols[gone] = -1
	w.next[c.pos] = w.next[gone]
	if w.next[gone] < len(w.symbols) {
		w.prev[w.next[gone]] = c.pos
	}
}
