package lora

import (
	"encoding/json"
	"fmt"

	"github.com/sciflux/sciflux/store/safetensors"
)

// split gives each part of a fused layer its rows of b and the columns that belong to it with their rows of a: the change
// of a part is scale·(its rows of b)·a, and columns that are zero in its rows add nothing to it.
func (r *reader) split(t target, whole loaded) error {
	var parts []Layer
	for _, i := range t.parts {
		parts = append(parts, r.layers[i])
	}
	first := parts[0].OriginalRow
	blocks := columns(parts, whole.Rank, whole.b, r.ranks)
	for k, i := range t.parts {
		l := parts[k]
		if _, twice := r.found[i]; twice {
			return fmt.Errorf("module %s is given in two namings", l.Name)
		}
		if blocks[k].width() == 0 {
			if r.ranks == nil {
				r.empty = append(r.empty, l.Name)
			}
			continue
		}
		m := loaded{Module: whole.Module, a: whole.a, b: whole.b}
		if t.original {
			m.b = whole.b[(l.OriginalRow-first)*whole.Rank:][:l.Out*whole.Rank]
			if l.Swapped {
				m.b = swapHalves(m.b)
			}
		}
		m.Layer = l
		r.found[i] = m.block(blocks[k])
	}
	return nil
}

// swapHalves is a copy of a matrix with its lower half of rows first.
func swapHalves(b []float32) []float32 {
	half := len(b) / 2
	return append(append(make([]float32, 0, len(b)), b[half:]...), b[:half]...)
}

// span is columns [from, to).
type span struct{ from, to int }

func (s span) width() int { return s.to - s.from }

// block keeps some columns of b and their rows of a.
func (m loaded) block(s span) loaded {
	if s.width() == m.Rank {
		return m
	}
	c := loaded{Module: m.withRank(s.width()), a: m.a[s.from*m.In : s.to*m.In]}
	for o := range m.Out {
		c.b = append(c.b, m.b[o*m.Rank:][s.from:s.to]...)
	}
	return c
}

// columns says which columns of b [rows of all parts, rank] belong to each part of a fused layer. A block-diagonal b keeps
// the blocks, zero ones too: a part with nothing in its block is an adapter at its start. The blocks are those that our
// writer says, else equal ones as the reference loader takes them, else those that the used columns show; then a part that
// uses none has none. Where no blocks fit all columns belong to all parts.
func columns(parts []Layer, rank int, b []float32, written map[string]int) []span {
	all := make([]span, len(parts))
	for i := range all {
		all[i] = span{0, rank}
	}
	if len(parts) == 1 {
		return all
	}
	used := usedColumns(parts, rank, b)
	for _, blocks := range [][]span{writtenBlocks(parts, rank, written), equalBlocks(len(parts), rank), shownBlocks(used, rank)} {
		if blocks != nil && inside(used, blocks) {
			return blocks
		}
	}
	return all
}

// usedColumns is the smallest span of columns of each part outside which its rows are zero.
func usedColumns(parts []Layer, rank int, b []float32) []span {
	used := make([]span, len(parts))
	for i, l := range parts {
		s := span{rank, 0}
		for o := range l.Out {
			row := b[(l.OriginalRow-parts[0].OriginalRow+o)*rank:][:rank]
			for k, v := range row {
				if v != 0 {
					s.from, s.to = min(s.from, k), max(s.to, k+1)
				}
			}
		}
		if s.to > 0 {
			used[i] = s
		}
	}
	return used
}

// inside tells whether each part uses columns of its block alone.
func inside(used, blocks []span) bool {
	for i, u := range used {
		if u.width() > 0 && (u.from < blocks[i].from || u.to > blocks[i].to) {
			return false
		}
	}
	return true
}

// writtenBlocks are the blocks of parts of known ranks, nil when these do not add up.
func writtenBlocks(parts []Layer, rank int, written map[string]int) []span {
	blocks, at := make([]span, len(parts)), 0
	for i, l := range parts {
		width := written[l.Name]
		if width < 0 || width > rank-at {
			return nil
		}
		blocks[i] = span{at, at + width}
		at += width
	}
	if at != rank {
		return nil
	}
	return blocks
}

func equalBlocks(parts, rank int) []span {
	if rank%parts != 0 {
		return nil
	}
	blocks, width := make([]span, parts), rank/parts
	for i := range blocks {
		blocks[i] = span{i * width, (i + 1) * width}
	}
	return blocks
}

// shownBlocks stretches spans that follow each other over the zero columns between them; nil when they do not follow each
// other, or there are none.
func shownBlocks(used []span, rank int) []span {
	blocks, last, end := make([]span, len(used)), -1, 0
	for i, u := range used {
		if u.width() == 0 {
			continue
		}
		if u.from < end {
			return nil
		}
		if last >= 0 {
			blocks[last].to = u.from
			blocks[i].from = u.from
		}
		last, end = i, u.to
	}
	if last < 0 {
		return nil
	}
	blocks[last].to = rank
	return blocks
}

// ranksKey is where our kohya files say the ranks of their modules, so that blocks of zeros keep them.
const ranksKey = "sciflux_ranks"

// writtenRanks reads them; nil when there are none that can be read.
func writtenRanks(file safetensors.Source) map[string]int {
	text := headerText(file, ranksKey)
	if text == "" || len(text) > maxConfig {
		return nil
	}
	ranks := map[string]int{}
	if json.Unmarshal([]byte(text), &ranks) != nil {
		return nil
	}
	return ranks
}
