package stages

import (
	"context"
	"errors"
	"time"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/random"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/trainer"
)

// TrainSFT implements activities.Trainer. StageCompare continues SFT's own sequence of steps, so its step numbers and
// random numbers go on where SFT ended.
func (s *Studio) TrainSFT(ctx context.Context, c activities.SFTChunk, m activities.Monitor) (activities.ChunkResult, error) {
	d, err := s.desk(ctx, c.Job)
	if err != nil {
		return activities.ChunkResult{}, err
	}
	if done, ok, err := d.finished(ctx, c.Stage, c.To); ok || err != nil {
		return done, err
	}
	from, err := d.newest(ctx, c.Stage, c.From, c.To)
	if err != nil {
		return activities.ChunkResult{}, err
	}
	o := d.cfg.SFT
	t, err := d.begin(ctx, from, false, o.Optim, o.Guidance)
	if err != nil {
		return activities.ChunkResult{}, err
	}
	defer t.Close()
	if from == c.From {
		t.seconds = c.Spent
	}
	total := o.Steps
	if c.Stage == run.StageCompare {
		total = 0 // as many as fit in stage 2's time
	}
	var events []run.Event
	for t.step < c.To {
		if stopping(m) {
			return d.preempt(ctx, t, store.Manifest{Stage: c.Stage})
		}
		start := time.Now()
		batches, err := d.sftBatches(ctx, t.step)
		if err != nil {
			return activities.ChunkResult{}, err
		}
		r, err := t.SFT(ctx, batches)
		if err != nil {
			return activities.ChunkResult{}, classify(err)
		}
		took := t.stepped(r, 0, 0, start)
		events = append(events, run.Event{Stage: c.Stage, Step: t.step, Kind: "step", Values: map[string]float64{
			"loss": r.Loss, "grad_norm": r.Norm, "learning_rate": r.Rate}})
		m.Report(run.Progress{Stage: c.Stage, Step: t.step, StepsTotal: total, Note: "training", StepSeconds: took, Loss: r.Loss, At: time.Now()})
	}
	summary := t.tally.summary()
	t.tally = tally{}
	if err := d.record(ctx, events, c.Stage, t.step); err != nil {
		return activities.ChunkResult{}, err
	}
	end := c.Stage == run.StageSFT && c.To >= d.cfg.SFT.Steps
	return d.commit(ctx, t, store.Manifest{Stage: c.Stage, StageEnd: end}, result{Summary: summary})
}

// stepped counts an optimiser step and returns how long it took.
func (t *training) stepped(r trainer.StepResult, kl, clamped float64, start time.Time) float64 {
	t.step++
	t.tally.add(r, kl, clamped)
	if t.average != nil {
		t.average.Add(t.Adapter)
	}
	took := time.Since(start).Seconds()
	t.seconds += took
	return took
}

// finished returns the result of a chunk whose last checkpoint exists and is whole.
func (d *desk) finished(ctx context.Context, stage run.Stage, step int) (activities.ChunkResult, bool, error) {
	ref, _, err := d.checkpoints().Find(ctx, stage, step)
	if err == nil {
		err = d.checkpoints().Verify(ctx, ref)
	}
	switch {
	case errors.Is(err, store.ErrNotExist), errors.Is(err, store.ErrCorrupt):
		return activities.ChunkResult{}, false, nil
	case err != nil:
		return activities.ChunkResult{}, false, err
	}
	r, err := d.chunkResult(ctx, ref)
	return r, err == nil, err
}

// newest is the newest whole checkpoint between from and to: what a stopped attempt left, or from itself.
func (d *desk) newest(ctx context.Context, stage run.Stage, from run.CheckpointRef, to int) (run.CheckpointRef, error) {
	inside, err := d.checkpoints().LatestUpTo(ctx, stage, to)
	switch {
	case errors.Is(err, store.ErrNotExist):
		return from, nil
	case err != nil:
		return from, err
	case inside.Step > from.Step || from.Stage != stage:
		return inside, nil
	}
	return from, nil
}

// preempt commits what was finished and says so.
func (d *desk) preempt(ctx context.Context, t *training, m store.Manifest) (activities.ChunkResult, error) {
	if t.tally.Steps > 0 {
		if _, err := d.commit(context.WithoutCancel(ctx), t, m, result{Summary: t.tally.summary()}); err != nil {
			return activities.ChunkResult{}, err
		}
	}
	return activities.ChunkResult{}, run.ErrPreempted
}

func stopping(m activities.Monitor) bool {
	select {
	case <-m.Stopping():
		return true
	default:
		return false
	}
}

// classify gives errors of the trainer their class.
func classify(err error) error {
	var bad *trainer.NonFiniteError
	if errors.As(err, &bad) {
		return &run.Error{Class: run.ClassNonFinite, Op: "train", Cause: err, Hint: "lower the learning rate"}
	}
	return err
}

// sftBatches are the micro-batches of the optimiser step after step: pictures in a keyed permutation of each epoch,
// every random number keyed by the sample's place in the run.
func (d *desk) sftBatches(ctx context.Context, step int) ([]trainer.Example, error) {
	o := d.cfg.SFT
	batches := make([]trainer.Example, o.Accumulate)
	for a := range batches {
		first := (step*o.Accumulate + a) * o.Batch
		e, err := d.sftExample(ctx, first, o.Batch)
		if err != nil {
			return nil, err
		}
		batches[a] = e
	}
	return batches, nil
}

func (d *desk) sftExample(ctx context.Context, first, count int) (trainer.Example, error) {
	var e trainer.Example
	o, grid := d.cfg.SFT, d.pipe.Scheduler.TrainingGrid()
	density := flow.Density{Kind: o.Density.Kind, Mean: o.Density.Mean, Std: o.Density.Std, Scale: o.Density.Scale}
	var captions []string
	for sample := first; sample < first+count; sample++ {
		key := random.New(d.job.Seed).Purpose("sft").Index(uint64(sample))
		row := d.rowOf(sample)
		caption, picture := d.chooseCaption(row, sample, key), key.Purpose("picture").Intn(0, row.Pictures())
		captions = append(captions, caption)
		latents, err := d.latents(ctx, row, picture, key.Purpose("posterior"))
		if err != nil {
			return e, err
		}
		noise := make([]float32, len(latents))
		key.Purpose("noise").Normal(noise)
		sigma := grid[flow.GridIndex(density.U(draw(key.Purpose("sigma"), density)), len(grid))]
		weight, err := flow.LossWeight(o.Weighting, float64(sigma))
		if err != nil {
			return e, err
		}
		e.Latents, e.Noise = append(e.Latents, latents...), append(e.Noise, noise...)
		e.Sigma, e.Weight = append(e.Sigma, sigma), append(e.Weight, weight)
	}
	var err error
	e.Conditioning, err = d.conditioning(ctx, captions)
	return e, err
}

// draw is the raw number that a density wants.
func draw(key random.Key, d flow.Density) float64 {
	if d.Normal() {
		z := make([]float32, 1)
		key.Normal(z)
		return float64(z[0])
	}
	return key.Float64(0)
}

// rowOf is the training row of a sample: each epoch goes through all rows once in an order of its own.
func (d *desk) rowOf(sample int) row {
	n := len(d.rows)
	epoch := sample / n
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.order.epoch != epoch || d.order.rows == nil {
		d.order.epoch = epoch
		d.order.rows = random.New(d.job.Seed).Purpose("sft order").Index(uint64(epoch)).Permutation(n)
	}
	return d.rows[d.order.rows[sample%n]]
}

// chooseCaption picks one wording of the kind that the config asks for.
func (d *desk) chooseCaption(r row, sample int, key random.Key) string {
	kind := r.Implicit
	if c := d.cfg.Data.Captions; c == "explicit" || (c == "both" && sample%2 == 1) {
		kind = r.Explicit
	}
	return kind[key.Purpose("caption").Intn(0, len(kind))]
}
