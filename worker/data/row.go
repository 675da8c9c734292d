package data

import (
	"context"
	"fmt"

	"github.com/sciflux/sciflux/dataset"
	"github.com/sciflux/sciflux/dataset/world"
	"github.com/sciflux/sciflux/eval"
	"github.com/sciflux/sciflux/run"
)

// Row is one tuple as training and evaluation use it.
type Row struct {
	Index                           int // in its split
	ID, Law, Category, Object       string
	Implicit, Explicit, Superficial []string    // wordings, at least one of each
	World                           bool        // a tuple of the procedural world, which can be judged
	Tuple                           world.Tuple // then, what was drawn

	right []*dataset.Image
}

// Pictures is the number of right pictures of the row.
func (r Row) Pictures() int { return len(r.right) }

// Prompt is the wording that evaluation uses: the first one.
func (r Row) Prompt(k eval.Kind) string {
	return map[eval.Kind][]string{eval.Implicit: r.Implicit, eval.Explicit: r.Explicit, eval.Superficial: r.Superficial}[k][0]
}

// Prompt is one prompt of stage 2.
type Prompt struct {
	Text   string
	Object string // the noun that a detector looks for
	Row    int    // of the training rows, whose wordings take turns; -1 for a prompt of a file
}

// open opens a split's files.
func (s *Set) open(ctx context.Context, split string) (*dataset.Set, error) {
	set, err := dataset.OpenOptions{Outside: s.cfg.Data.AllowOutside}.Open(ctx, s.folder, split)
	if err != nil {
		return nil, run.Errorf(run.ClassData, "open data set", s.folder, "", "%w", err)
	}
	return set, nil
}

// rowsOf are the rows of a split, the first limit of them unless limit is 0; it says whether they are the world's.
func rowsOf(set *dataset.Set, limit int) (rows []Row, isWorld bool, err error) {
	folder, split, n := set.Dir, set.Split, set.Len()
	if limit > 0 {
		n = min(n, limit)
	}
	isWorld = true
	for i := range n {
		r, err := set.Row(i)
		if err != nil {
			return nil, false, run.Errorf(run.ClassData, "read data set", folder, "", "%w", err)
		}
		row, drawn, err := rowOf(folder, split, i, r)
		if err != nil {
			return nil, false, err
		}
		isWorld = isWorld && drawn
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return nil, false, run.Errorf(run.ClassData, "open data set", folder, "check data.source and the split's name", "split %s has no rows", split)
	}
	return rows, isWorld, nil
}

func rowOf(folder, split string, i int, r dataset.Row) (row Row, isWorld bool, err error) {
	row = Row{Index: i, ID: r.Cells["id"].Value, Law: r.Law(), Category: r.Category(), Object: r.Object(),
		Implicit: r.Implicit.Wordings(), Explicit: r.Explicit.Wordings(), Superficial: r.Superficial.Wordings(), right: r.ExplicitImages.Present()}
	if row.ID == "" {
		row.ID = fmt.Sprintf("%s-%d", split, i)
	}
	if len(row.Implicit) == 0 || len(row.Explicit) == 0 || len(row.Superficial) == 0 {
		return row, false, rowError(folder, split, i, "an implicit, explicit or superficial prompt is missing; every tuple needs all three")
	}
	row.Tuple, isWorld = world.FromRow(r)
	row.World = isWorld
	return row, isWorld, nil
}

func rowError(folder, split string, i int, what string) error {
	return run.Errorf(run.ClassData, "read data set", folder, "", "row %d of %s: %s", i, split, what)
}

// spread picks n rows evenly over the tasks: one of each task in turn, in the order of the split.
func spread(rows []Row, n int) []Row {
	var laws []string
	byLaw := map[string][]Row{}
	for _, r := range rows {
		if byLaw[r.Law] == nil {
			laws = append(laws, r.Law)
		}
		byLaw[r.Law] = append(byLaw[r.Law], r)
	}
	var out []Row
	for k := 0; len(out) < min(n, len(rows)); k++ {
		for _, law := range laws {
			if k < len(byLaw[law]) && len(out) < n {
				out = append(out, byLaw[law][k])
			}
		}
	}
	return out
}
