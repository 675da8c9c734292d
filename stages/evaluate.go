package stages

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/dataset/world"
	"github.com/sciflux/sciflux/eval"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/model/lora"
	"github.com/sciflux/sciflux/random"
	"github.com/sciflux/sciflux/reward"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/trainer"
)

// measured is an evaluated shard as it is stored: eval.Tuple holds the numbers, Shown the pictures of the report.
type measured struct {
	Tuples []eval.Tuple   `json:"tuples"`
	Shown  map[int][]byte `json:"shown,omitempty"` // PNG of the first implicit picture, by tuple index
	SP     map[int][]byte `json:"sp,omitempty"`    // base only: first superficial and explicit pictures
	EP     map[int][]byte `json:"ep,omitempty"`
}

// shownTuples bounds the tuples of a split whose pictures are kept for the report.
const shownTuples = 24

// Evaluate implements activities.Evaluator. Noises depend on the evaluation's own seed, the tuple, the kind of prompt and
// the picture's number alone, so every variant draws from the same ones.
func (s *Studio) Evaluate(ctx context.Context, c activities.EvalShard, m activities.Monitor) (activities.EvalPart, error) {
	part := activities.EvalPart{Variant: c.Variant, Split: c.Split}
	d, err := s.desk(ctx, c.Job)
	if err != nil {
		return part, err
	}
	rows, err := d.testRows(ctx, c.Split)
	if err != nil {
		return part, err
	}
	var adapter *lora.Adapter
	if c.Variant != run.VariantBase {
		if adapter, err = d.evaluated(ctx, c.Checkpoint); err != nil {
			return part, err
		}
	}
	if c.Quick {
		return d.quick(ctx, c, rows, adapter)
	}
	key := fmt.Sprintf("%s%s-%s-%03d.json", run.Keys(c.Job.Run).Eval(), c.Variant, c.Split, c.Shard)
	ref, ok, err := d.made(ctx, key)
	tell := func(tuples int, since time.Time) {
		m.Report(run.Progress{Stage: run.StageEvaluate, Part: key, Step: tuples, StepsTotal: c.Of * len(rows), Note: fmt.Sprintf("%s %s", c.Variant, c.Split),
			StepSeconds: time.Since(since).Seconds(), At: time.Now()})
	}
	if err != nil {
		return part, err
	}
	if ok {
		part.Data = ref
		tell(shardRows(len(rows), c), time.Now())
		return part, nil
	}
	out := measured{Shown: map[int][]byte{}, SP: map[int][]byte{}, EP: map[int][]byte{}}
	for from := c.Shard * evalGroup; from < len(rows); from += c.Shards * evalGroup {
		if stopping(m) {
			return part, run.ErrPreempted
		}
		start := time.Now()
		group := rows[from:min(from+evalGroup, len(rows))]
		if err := d.measure(ctx, &out, group, from, c.Variant, adapter); err != nil {
			return part, err
		}
		tell(len(out.Tuples), start)
	}
	part.Data, err = d.keep(ctx, key, func(w io.Writer) error { return json.NewEncoder(w).Encode(out) })
	return part, err
}

// shardRows is the number of tuples of a shard, which takes every Shards-th group.
func shardRows(rows int, c activities.EvalShard) (n int) {
	for from := c.Shard * evalGroup; from < rows; from += c.Shards * evalGroup {
		n += min(evalGroup, rows-from)
	}
	return n
}

// evalGroup is the number of tuples that are drawn together.
const evalGroup = 8

// measure draws and measures some tuples with every kind of prompt.
func (d *desk) measure(ctx context.Context, out *measured, group []row, first int, v run.Variant, adapter *lora.Adapter) error {
	tuples := make([]eval.Tuple, len(group))
	for i, r := range group {
		tuples[i] = eval.Tuple{Index: first + i, ID: r.ID, Law: r.Law, Category: r.Category}
	}
	for _, kind := range eval.Kinds() {
		n := d.picturesOf(kind)
		images, err := d.draw(ctx, group, first, kind, n, adapter)
		if err != nil {
			return err
		}
		if err := d.assess(ctx, tuples, group, kind, n, images); err != nil {
			return err
		}
		if err := out.show(images, group, first, kind, n, v); err != nil {
			return err
		}
	}
	out.Tuples = append(out.Tuples, tuples...)
	return nil
}

// picturesOf is the number of pictures of a kind of prompt: implicit prompts, whose gain is the question, get all.
func (d *desk) picturesOf(kind eval.Kind) int {
	n := d.cfg.Eval.Pictures
	switch kind {
	case eval.Explicit:
		return max(1, n/2)
	case eval.Superficial:
		return max(1, n/4)
	}
	return n
}

// draw generates n pictures of each row's prompt of a kind, row-major.
func (d *desk) draw(ctx context.Context, group []row, first int, kind eval.Kind, n int, adapter *lora.Adapter) (reward.Images, error) {
	e, size := d.cfg.Eval, d.latentSize()
	var all reward.Images
	var texts []string
	var start []float32
	var keys []random.Key
	flush := func() error {
		if len(texts) == 0 {
			return nil
		}
		cond, err := d.conditioning(ctx, texts)
		if err != nil {
			return err
		}
		t, err := trainer.Rollout(ctx, d.be, d.pipe.Transformer, adapter, d.setting(e.Guidance), d.plan(flow.Form(d.cfg.OFT.Forms.Step), e.Steps, e.SChurn), start, len(texts), cond,
			func(step int, dst []float32) {
				for b, k := range keys {
					k.Purpose("noise").Index(uint64(step)).Normal(dst[b*size : (b+1)*size])
				}
			})
		if err != nil {
			return err
		}
		images, err := d.decode(ctx, t.Latents[len(t.Latents)-1], len(texts))
		all = joinImages(all, images)
		texts, start, keys = nil, nil, nil
		return err
	}
	for i, r := range group {
		for k := range n {
			key := random.New(e.Seed).Purpose("eval "+string(kind)).Index(uint64(first+i), uint64(k))
			noise := make([]float32, size)
			key.Purpose("start").Normal(noise)
			texts, start, keys = append(texts, r.prompt(kind)), append(start, noise...), append(keys, key)
			if len(texts) == maxBatch {
				if err := flush(); err != nil {
					return all, err
				}
			}
		}
	}
	return all, flush()
}

// assess scores pictures against the implicit prompt of their tuple and asks the judge where there is one.
func (d *desk) assess(ctx context.Context, tuples []eval.Tuple, group []row, kind eval.Kind, n int, images reward.Images) error {
	texts := make([]string, 0, images.B)
	for _, r := range group {
		for range n {
			texts = append(texts, r.prompt(eval.Implicit))
		}
	}
	scores, err := d.scorer.Score(ctx, texts, images)
	if err != nil {
		return err
	}
	for b, score := range scores {
		p := eval.Picture{Score: score}
		if d.judge != nil {
			j, err := d.judge.Judge(worldPicture(images, b), group[b/n].Tuple)
			if err != nil {
				return fmt.Errorf("judge picture of %s: %w", group[b/n].ID, err)
			}
			p.Verdict, p.Outside = j.Verdict.String(), j.Outside
			if j.Found {
				p.Box = &[4]float64{j.Box.CX, j.Box.CY, j.Box.W, j.Box.H}
			}
		}
		tuples[b/n].Add(kind, p)
	}
	return nil
}

// show keeps the pictures that the report will need.
func (m *measured) show(images reward.Images, group []row, first int, kind eval.Kind, n int, v run.Variant) error {
	into := map[eval.Kind]map[int][]byte{eval.Implicit: m.Shown, eval.Explicit: m.EP, eval.Superficial: m.SP}[kind]
	if kind != eval.Implicit && v != run.VariantBase {
		return nil
	}
	for i := range group {
		if first+i >= shownTuples {
			return nil
		}
		png, err := encodePNG(images, i*n)
		if err != nil {
			return err
		}
		into[first+i] = png
	}
	return nil
}

// quick measures the first tuples' implicit prompts alone.
func (d *desk) quick(ctx context.Context, c activities.EvalShard, rows []row, adapter *lora.Adapter) (activities.EvalPart, error) {
	part := activities.EvalPart{Variant: c.Variant, Split: c.Split}
	during := d.cfg.Eval.During
	rows = rows[:min(during.Tuples, len(rows))]
	tuples := make([]eval.Tuple, len(rows))
	images, err := d.draw(ctx, rows, 0, eval.Implicit, during.Pictures, adapter)
	if err != nil {
		return part, err
	}
	if err := d.assess(ctx, tuples, rows, eval.Implicit, during.Pictures, images); err != nil {
		return part, err
	}
	means := eval.Summarise(tuples)
	part.Quick = run.QuickEval{Stage: c.Checkpoint.Stage, Step: c.Checkpoint.Step, Epoch: c.Checkpoint.Epoch, IP: means.IP, JudgeIP: means.JudgeIP}
	return part, nil
}

// Summarise implements activities.Evaluator.
func (s *Studio) Summarise(ctx context.Context, c activities.SummaryJob) ([]run.EvalResult, error) {
	d, err := s.desk(ctx, c.Job)
	if err != nil {
		return nil, err
	}
	sets, err := d.readParts(ctx, c.Parts)
	if err != nil {
		return nil, err
	}
	var out []run.EvalResult
	for _, set := range sets {
		out = append(out, eval.Results(set.split, set.variants(), d.cfg.Eval.Pictures, eval.Bootstrap{Resamples: d.cfg.Eval.Bootstrap, Seed: d.cfg.Eval.Seed})...)
	}
	return out, nil
}

// splitParts is one split's evaluation: what each variant measured, tuples in order.
type splitParts struct {
	split string
	parts map[run.Variant]*measured
}

func (p splitParts) variants() map[run.Variant][]eval.Tuple {
	out := map[run.Variant][]eval.Tuple{}
	for v, m := range p.parts {
		out[v] = m.Tuples
	}
	return out
}

// readParts joins shards, in the order of the tuples, into one set a split and variant.
func (d *desk) readParts(ctx context.Context, parts []activities.EvalPart) ([]splitParts, error) {
	var sets []splitParts
	for _, p := range parts {
		if p.Data.IsZero() {
			continue
		}
		data, err := store.Read(ctx, d.objects(), p.Data)
		if err != nil {
			return nil, err
		}
		var m measured
		if err := json.Unmarshal(data, &m); err != nil {
			return nil, fmt.Errorf("read evaluation %s: %w", p.Data.Key, err)
		}
		k := -1
		for i := range sets {
			if sets[i].split == p.Split {
				k = i
			}
		}
		if k < 0 {
			sets, k = append(sets, splitParts{p.Split, map[run.Variant]*measured{}}), len(sets)
		}
		if sets[k].parts[p.Variant] == nil {
			sets[k].parts[p.Variant] = &measured{Shown: map[int][]byte{}, SP: map[int][]byte{}, EP: map[int][]byte{}}
		}
		sets[k].parts[p.Variant].join(m)
	}
	for _, set := range sets {
		for _, m := range set.parts {
			eval.Sort(m.Tuples)
		}
	}
	return sets, nil
}

func (m *measured) join(o measured) {
	m.Tuples = append(m.Tuples, o.Tuples...)
	for into, from := range map[*map[int][]byte]map[int][]byte{&m.Shown: o.Shown, &m.SP: o.SP, &m.EP: o.EP} {
		for k, v := range from {
			(*into)[k] = v
		}
	}
}

// worldPicture is picture b as the judge takes it.
func worldPicture(images reward.Images, b int) world.Picture {
	size := 3 * images.H * images.W
	return world.FromPlanes(images.Data[b*size:(b+1)*size], images.W)
}
