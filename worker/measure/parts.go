package measure

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/eval"
	"github.com/sciflux/sciflux/reward"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/worker/opened"
)

// Part is what was measured of a split with one variant, a shard of it or all: Tuples holds the numbers, the rest the
// pictures of the report as PNG, by tuple index.
type Part struct {
	Tuples      []eval.Tuple   `json:"tuples"`
	Implicit    map[int][]byte `json:"shown,omitempty"` // the first implicit picture
	Superficial map[int][]byte `json:"sp,omitempty"`    // base only: the first superficial and explicit pictures
	Explicit    map[int][]byte `json:"ep,omitempty"`
}

func newPart() Part {
	return Part{Implicit: map[int][]byte{}, Superficial: map[int][]byte{}, Explicit: map[int][]byte{}}
}

// shownTuples bounds the tuples of a split whose pictures are kept for the report.
const shownTuples = 24

// show keeps the pictures of some tuples, n each, that the report will need.
func (p *Part) show(images reward.Images, tuples, first int, kind eval.Kind, n int, v run.Variant) error {
	into := map[eval.Kind]map[int][]byte{eval.Implicit: p.Implicit, eval.Explicit: p.Explicit, eval.Superficial: p.Superficial}[kind]
	if kind != eval.Implicit && v != run.VariantBase {
		return nil
	}
	for i := range tuples {
		if first+i >= shownTuples {
			return nil
		}
		pic, err := images.Picture(i * n)
		if err != nil {
			return err
		}
		if into[first+i], err = pic.PNG(); err != nil {
			return err
		}
	}
	return nil
}

// join takes another shard in.
func (p *Part) join(o Part) {
	p.Tuples = append(p.Tuples, o.Tuples...)
	for into, from := range map[*map[int][]byte]map[int][]byte{&p.Implicit: o.Implicit, &p.Superficial: o.Superficial, &p.Explicit: o.Explicit} {
		for k, v := range from {
			(*into)[k] = v
		}
	}
}

// Split is one split's evaluation: what each variant measured, tuples in order.
type Split struct {
	Name  string
	Parts map[run.Variant]*Part
}

// ReadSplits joins stored shards, in the order of the tuples, into one set a split.
func ReadSplits(ctx context.Context, o store.Objects, parts []activities.EvalPart) ([]Split, error) {
	var splits []Split
	for _, p := range parts {
		if p.Data.IsZero() {
			continue // a quick evaluation leaves no data
		}
		text, err := store.Read(ctx, o, p.Data)
		if err != nil {
			return nil, err
		}
		var m Part
		if err := json.Unmarshal(text, &m); err != nil {
			return nil, fmt.Errorf("read evaluation %s: %w", p.Data.Key, err)
		}
		splits = add(splits, p, m)
	}
	for _, s := range splits {
		for _, m := range s.Parts {
			eval.Sort(m.Tuples)
		}
	}
	return splits, nil
}

// add joins a shard to its split, which may be new.
func add(splits []Split, of activities.EvalPart, m Part) []Split {
	k := 0
	for k < len(splits) && splits[k].Name != of.Split {
		k++
	}
	if k == len(splits) {
		splits = append(splits, Split{of.Split, map[run.Variant]*Part{}})
	}
	if splits[k].Parts[of.Variant] == nil {
		empty := newPart()
		splits[k].Parts[of.Variant] = &empty
	}
	splits[k].Parts[of.Variant].join(m)
	return splits
}

// Summarise reduces shards to one result per split and variant. See activities.Evaluator.
func Summarise(ctx context.Context, r *opened.Run, c activities.SummaryJob) ([]run.EvalResult, error) {
	splits, err := ReadSplits(ctx, r.Objects, c.Parts)
	if err != nil {
		return nil, err
	}
	var out []run.EvalResult
	for _, s := range splits {
		variants := map[run.Variant][]eval.Tuple{}
		for v, m := range s.Parts {
			variants[v] = m.Tuples
		}
		out = append(out, eval.Results(s.Name, variants, r.Recipe.Config.Eval.Pictures, r.Recipe.Bootstrap())...)
	}
	return out, nil
}
