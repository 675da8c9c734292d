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
	Layout              string   `json:"layout"` // parquet, webdataset or image folder
	Rows                int      `json:"rows"`
	Bytes               int64    `json:"bytes"`       // of the data files; of an image folder the pictures
	Compression         []string `json:"compression"` // of parquet files
	RowGroups           [][]int  `json:"row_groups"`
	Columns             []Column `json:"columns"`
	Categories          []Tally  `json:"categories"`
	Laws                []Tally  `json:"laws"`
	OneCaption          int      `json:"one_caption_rows"` // rows whose three prompts are one caption
	ImplicitPrompts     int      `json:"implicit_prompts"` // wordings in all
	ExplicitPictures    int      `json:"explicit_pictures"`
	SuperficialPictures int      `json:"superficial_pictures"`
	Sizes               []Tally  `json:"picture_sizes"` // "64x64", as stored
	Traits              []Tally  `json:"picture_traits"`
	Problems            []string `json:"problems"`     // the first few rows that cannot be trained on
	ProblemRows         int      `json:"problem_rows"` // all of them
}

// Traits of pictures that a person should know of, because they become something else in training.
const (
	TraitAlpha    = "transparent in places; alpha is dropped, what lies under it is trained on"
	TraitGrey16   = "grey of 16 bits; the high 8 are taken"
	TraitDeep     = "of 16 bits a colour; the high 8 are taken"
	TraitAnimated = "animated; the first frame is taken"
	TraitTurned   = "stored turned (EXIF or XMP); turned upright"
	TraitInks     = "in inks (CMYK); converted without a profile"
)

const mostProblems = 10

// Inspect reads a split through and describes it; rows that cannot be used are listed as problems, not errors.
func (o OpenOptions) Inspect(ctx context.Context, dir, split string) (*Summary, error) {
	s, err := o.Open(ctx, dir, split)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }()
	sum := &Summary{Dir: s.Dir, Split: split, Layout: s.Layout, Rows: s.Len(), RowGroups: s.RowGroups(), Problems: []string{}}
	for _, f := range s.files() {
		sum.Bytes += f.size
	}
	for _, c := range s.columns {
		kind := c.kind.String()
		if c.kind == images && c.list {
			kind = "list<" + kind + ">"
		}
		sum.Columns = append(sum.Columns, Column{c.name, kind})
	}
	for _, sh := range s.shards {
		for _, codec := range sh.pq.Codecs() {
			if !slices.Contains(sum.Compression, codec) {
				sum.Compression = append(sum.Compression, codec)
			}
		}
	}
	laws, categories, sizes, traits := map[string]int{}, map[string]int{}, map[string]int{}, map[string]int{}
	all := Needs{Explicit: true, Superficial: true}
	err = examine(ctx, s.rows, false, all.images, func(r Row, looks []look) error {
		laws[r.Law()]++
		categories[r.Category()]++
		for _, l := range looks {
			countPicture(l, sizes, traits)
			if s.Layout == layoutFolder {
				sum.Bytes += int64(l.bytes)
			}
		}
		sum.add(s, r, looks)
		return nil
	})
	sum.Laws, sum.Categories, sum.Sizes, sum.Traits = tallies(laws), tallies(categories), tallies(sizes), tallies(traits)
	return sum, err
}

// countPicture counts what the head of a picture tells.
func countPicture(l look, sizes, traits map[string]int) {
	i := l.info
	if i.Format == "" {
		return
	}
	sizes[fmt.Sprintf("%dx%d", i.Width, i.Height)]++
	for trait, has := range map[string]bool{
		TraitAlpha: i.Alpha, TraitGrey16: i.Bits > 8 && i.Grey, TraitDeep: i.Bits > 8 && !i.Grey, TraitAnimated: i.Animated,
		TraitTurned: i.Orientation > 1, TraitInks: i.Inks,
	} {
		if has {
			traits[trait]++
		}
	}
}

func (s *Summary) add(set *Set, r Row, looks []look) {
	s.ImplicitPrompts += len(r.Implicit.Wordings())
	s.ExplicitPictures += len(r.ExplicitImages.Present())
	s.SuperficialPictures += len(r.SuperficialImages.Present())
	if r.OneCaption {
		s.OneCaption++
	}
	needs := Needs{Explicit: true, Superficial: set.Layout == layoutParquet && !r.OneCaption, Object: r.Cells["object"].Valid}
	if err := r.check(needs, looks); err != nil {
		if s.ProblemRows++; len(s.Problems) < mostProblems {
			where := fmt.Sprintf("row %d", r.Index)
			if r.origin != "" {
				where += " (" + r.origin + ")"
			}
			s.Problems = append(s.Problems, fmt.Sprintf("%s: %v", where, err))
		}
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
