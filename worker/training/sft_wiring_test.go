package training

import (
	"errors"
	"math"
	"testing"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/trainer"
	"github.com/sciflux/sciflux/worker/checkpoint"
	"github.com/sciflux/sciflux/worker/opened"
)

// examplesByHand are a step's micro-batches, sample by sample.
func examplesByHand(t *testing.T, r *opened.Run, step int) []trainer.Example {
	t.Helper()
	batches, err := r.Recipe.Batches(step, r.Data.Rows)
	if err != nil {
		t.Fatal(err)
	}
	var out []trainer.Example
	for _, batch := range batches {
		var e trainer.Example
		for _, s := range batch {
			z, err := r.Latents.Draw(t.Context(), r.Data.Rows[s.Row], s.Picture, s.Posterior)
			if err != nil {
				t.Fatal(err)
			}
			noise := make([]float32, len(z))
			s.Noise.Normal(noise)
			c, err := r.Models.Conditioning(t.Context(), []string{s.Caption}, 9)
			if err != nil {
				t.Fatal(err)
			}
			e.Latents, e.Noise = append(e.Latents, z...), append(e.Noise, noise...)
			e.Sigma, e.Weight = append(e.Sigma, s.Sigma), append(e.Weight, s.Weight)
			e.Text, e.Pooled = append(e.Text, c.Text...), append(e.Pooled, c.Pooled...)
		}
		out = append(out, e)
	}
	return out
}

// TestSFTTakesTheStepsOfTheRecipe: in chunks and beyond the stage's end, the adapter is to the bit what the trainer makes of
// the recipe's samples with stage 1's constants, and each chunk reports its own steps.
func TestSFTTakesTheStepsOfTheRecipe(t *testing.T) {
	r := opening(t)
	start, err := checkpoint.Initial(r)
	if err != nil {
		t.Fatal(err)
	}
	want := byHand(t, r, start, 2.5, trainer.OptimizerConfig{LR: 0.02, Beta1: 0.7, Beta2: 0.9, Eps: 1e-4, WeightDecay: 1e-4, MaxGradNorm: 0.3})
	c := activities.SFTChunk{Job: r.Job, Stage: run.StageSFT, Spent: 100}
	for _, chunk := range []struct {
		stage run.Stage
		to    int
		end   bool
		name  string
	}{
		{run.StageSFT, 2, false, "sft-000002.jsonl"}, {run.StageSFT, 3, true, "sft-000003.jsonl"},
		{run.StageCompare, 4, false, "compare-000004.jsonl"},
	} {
		c.Stage, c.To = chunk.stage, chunk.to
		first, sum := c.From.Step, trainer.StepResult{}
		got, err := SFT(t.Context(), r, c, stopping(0))
		if err != nil {
			t.Fatal(err)
		}
		events := logged(t, r, chunk.name)
		for step := first; step < c.To; step++ {
			taken, err := want.SFT(t.Context(), examplesByHand(t, r, step))
			if err != nil {
				t.Fatal(err)
			}
			sum.Loss, sum.Norm = sum.Loss+taken.Loss, sum.Norm+taken.Norm
			e := events[step-first]
			if e.Stage != chunk.stage || e.Step != step+1 || e.Kind != "step" ||
				e.Values["loss"] != taken.Loss || e.Values["grad_norm"] != taken.Norm || e.Values["learning_rate"] != 0.02 {
				t.Errorf("%s: logged %+v, the step was %+v", chunk.name, e, taken)
			}
		}
		sameAdapter(t, chunk.name, r, got.Checkpoint, want.Adapter)
		n := float64(c.To - first)
		s := got.Summary
		if float64(s.Steps) != n || math.Abs(s.Loss-sum.Loss/n) > 1e-9 || math.Abs(s.GradNorm-sum.Norm/n) > 1e-9 ||
			math.Abs(s.LearnRate-0.02) > 1e-12 {
			t.Errorf("%s: summary %+v", chunk.name, s)
		}
		m := manifest(t, r, chunk.stage, chunk.to)
		if m.StageEnd != chunk.end || m.Epoch != 0 || m.Reference != "" || m.Parent != c.From.Manifest || m.Seconds <= 100 ||
			len(events) != c.To-first {
			t.Errorf("%s: %d events, manifest %+v", chunk.name, len(events), m)
		}
		c.From = got.Checkpoint
	}
}

// TestAStoppedChunkIsNoStageEnd: what is committed when the work has to leave is taken up, and only its end is the stage's.
func TestAStoppedChunkIsNoStageEnd(t *testing.T) {
	r := opening(t)
	c := activities.SFTChunk{Job: r.Job, Stage: run.StageSFT, To: 3, Spent: 50}
	if _, err := SFT(t.Context(), r, c, stopping(2)); !errors.Is(err, run.ErrPreempted) {
		t.Fatal(err)
	}
	if m := manifest(t, r, run.StageSFT, 2); m.StageEnd || m.Seconds <= 50 {
		t.Errorf("manifest of what a stopped attempt left: %+v", m)
	}
	got, err := SFT(t.Context(), r, c, stopping(0))
	if err != nil {
		t.Fatal(err)
	}
	m := manifest(t, r, run.StageSFT, 3)
	if !m.StageEnd || got.Summary.Steps != 3 || len(logged(t, r, "sft-000003.jsonl")) != 1 || m.Seconds <= 50 {
		t.Errorf("summary %+v, manifest %+v", got.Summary, m)
	}
}
