package dataset

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Column is a column's name and the shape it is read as; "other" is not read.
type Column struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
}

// Tally is a value of a column and how many rows have it.
type Tally struct {
	Value string `json:"value"`
	Rows  int    `json:"rows"`
}

// Summary describes one split for a person.
type Summary struct {
	Dir                 string   `json:"dir"`
	Split               string   `json:"split"`
	Rows                int      `json:"rows"`
	Bytes               int64    `json:"bytes"` // of the files
	RowGroups           [][]int  `json:"row_groups"`
	Columns             []Column `json:"columns"`
	Categories          []Tally  `json:"categories"`
	Laws                []Tally  `json:"laws"`
	ImplicitPrompts     int      `json:"implicit_prompts"` // wordings in all
	ExplicitPictures    int      `json:"explicit_pictures"`
	SuperficialPictures int      `json:"superficial_pictures"`
	Sizes               []Tally  `json:"picture_sizes"` // "64x64"
	Problems            []string `json:"problems"`      // the first few rows that cannot be trained on
}

const mostProblems = 10

// Inspect reads a split through and describes it; rows that cannot be used are listed as problems, not errors.
func Inspect(ctx context.Context, dir, split string) (*Summary, error) {
	s, err := open(dir, split)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }()
	sum := &Summary{Dir: s.Dir, Split: split, Rows: s.Len(), RowGroups: s.RowGroups(), Problems: []string{}}
	for _, sh := range s.shards {
		sum.Bytes += sh.pq.Size()
	}
	for _, c := range s.shards[0].cols {
		sum.Columns = append(sum.Columns, Column{c.name, c.kind.String()})
	}
	laws, categories, sizes := map[string]int{}, map[string]int{}, map[string]int{}
	for r, err := range s.All(ctx) {
		if err != nil {
			return nil, err
		}
		laws[r.Law()]++
		categories[r.Category()]++
		sum.add(r, sizes)
	}
	sum.Laws, sum.Categories, sum.Sizes = tallies(laws), tallies(categories), tallies(sizes)
	return sum, nil
}

func (s *Summary) add(r Row, sizes map[string]int) {
	s.ImplicitPrompts += len(r.Implicit.Wordings())
	s.ExplicitPictures += len(r.ExplicitImages.Present())
	s.SuperficialPictures += len(r.SuperficialImages.Present())
	for _, im := range append(r.ExplicitImages.Present(), r.SuperficialImages.Present()...) {
		if w, h, err := im.Size(); err == nil {
			sizes[fmt.Sprintf("%dx%d", w, h)]++
		}
	}
	if err := r.check(Needs{Explicit: true, Superficial: true, Object: r.Cells["object"].Valid}); err != nil && len(s.Problems) < mostProblems {
		s.Problems = append(s.Problems, fmt.Sprintf("row %d: %v", r.Index, err))
	}
}

// tallies are sorted by rows, most first, then by value.
func tallies(counts map[string]int) []Tally {
	out := make([]Tally, 0, len(counts))
	for v, n := range counts {
		out = append(out, Tally{v, n})
	}
	slices.SortFunc(out, func(a, b Tally) int {
		if a.Rows != b.Rows {
			return b.Rows - a.Rows
		}
		return strings.Compare(a.Value, b.Value)
	})
	return out
}
