package trainer

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/sciflux/sciflux/engine/graph"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/model/flux"
	"github.com/sciflux/sciflux/random"
)

// TestRolloutKeepsWhatTrainingNeeds: n+1 latents that start with the noise, and with each step its σ, σ' and std.
func TestRolloutKeepsWhatTrainingNeeds(t *testing.T) {
	m, be := tiny(t), fast(t, 0)
	for _, form := range []flow.Form{flow.Paper, flow.Corrected, flow.Exact} {
		p := plan(form)
		tr := rollout(t, be, m, nil, p, 31, 2)
		if len(tr.Latents) != 6 || len(tr.Steps) != 5 || len(tr.LogProb) != 5 || !slices.Equal(tr.Timesteps, p.Timesteps) || tr.Batch != 2 {
			t.Fatalf("%s: %d latents, %d steps, %d log-probabilities", form, len(tr.Latents), len(tr.Steps), len(tr.LogProb))
		}
		for i, s := range tr.Steps {
			want := flow.NewStep(form, float64(p.Sigmas[i]), float64(p.Sigmas[i+1]), 5, p.Churn)
			if s != want || (s.Std == 0) != (form == flow.Exact && i == 4) {
				t.Errorf("%s step %d: %+v, want %+v", form, i, s, want)
			}
		}
		if tr.Steps[0].Sigma != 1 || tr.Steps[4].Next != 0 {
			t.Errorf("%s: from σ %v to %v", form, tr.Steps[0].Sigma, tr.Steps[4].Next)
		}
	}
}

// TestRolloutWithoutChurnIsEuler: no noise is asked for, there are no log-probabilities, and every form is the same path.
func TestRolloutWithoutChurnIsEuler(t *testing.T) {
	m, be := tiny(t), fast(t, 1)
	var want []float32
	for _, form := range []flow.Form{flow.Paper, flow.Corrected, flow.Exact} {
		p := plan(form)
		p.Churn = 0
		tr, err := Rollout(context.Background(), be, m, nil, setting, p, example(32, 1).Noise, 1, conditioning(32, 1), nil)
		if err != nil {
			t.Fatal(err)
		}
		if tr.LogProb != nil {
			t.Errorf("%s: log-probabilities of a deterministic path", form)
		}
		if want == nil {
			want = tr.Latents[5]
		} else if !slices.Equal(tr.Latents[5], want) {
			t.Errorf("%s: another path", form)
		}
	}
}

// TestNoisyStepsThenFlow: after the noisy steps no noise is drawn and the step is Euler's; 0 means all.
func TestNoisyStepsThenFlow(t *testing.T) {
	m, be := tiny(t), fast(t, 1)
	for noisy, want := range map[int][]int{0: {0, 1, 2, 3, 4}, 1: {0}, 3: {0, 1, 2}, 5: {0, 1, 2, 3, 4}, 9: {0, 1, 2, 3, 4}} {
		p := plan(flow.Corrected)
		p.Noisy = noisy
		var asked []int
		tr, err := Rollout(context.Background(), be, m, nil, setting, p, example(33, 1).Noise, 1, conditioning(33, 1), func(step int, dst []float32) {
			asked = append(asked, step)
			clear(dst)
		})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(asked, want) {
			t.Errorf("noisy %d: noise asked for in steps %v, want %v", noisy, asked, want)
		}
		for i, s := range tr.Steps {
			if euler := s == flow.NewStep(flow.Corrected, float64(p.Sigmas[i]), float64(p.Sigmas[i+1]), 5, 0); euler == slices.Contains(want, i) {
				t.Errorf("noisy %d: step %d is %+v", noisy, i, s)
			}
		}
	}
}

// TestSamplesOfARolloutAreAlone: a sample's path does not depend on what shares its batch: to rounding for another batch
// size, to the bit for the same size.
func TestSamplesOfARolloutAreAlone(t *testing.T) {
	m, be := tiny(t), fast(t, 0)
	a := moved(t, m, 3)
	four, one := rollout(t, be, m, a, plan(flow.Corrected), 34, 4), rollout(t, be, m, a, plan(flow.Corrected), 34, 1)
	for i, x := range one.Latents {
		near(t, "latents", four.Latents[i][:size], x, 1e-5)
	}
	p := plan(flow.Corrected)
	start := slices.Clone(four.Latents[0])
	copy(start[size:], normal(random.New(99), 3*size)) // other neighbours
	c := conditioning(34, 1)
	c.Text, c.Pooled = slices.Concat(c.Text, conditioning(98, 3).Text), slices.Concat(c.Pooled, conditioning(98, 3).Pooled)
	other, err := Rollout(context.Background(), be, m, a, setting, p, start, 4, c, func(step int, dst []float32) {
		for i := range 4 {
			random.New(34).Purpose("step").Index(uint64(step), uint64(i)).Normal(dst[i*size : (i+1)*size])
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range other.Latents {
		if !slices.Equal(other.Latents[i][:size], four.Latents[i][:size]) {
			t.Fatalf("latents %d of a sample change with its neighbours", i)
		}
	}
}

func TestRolloutStopsWhenCancelled(t *testing.T) {
	m, be := tiny(t), fast(t, 1)
	ctx, cancel := context.WithCancel(context.Background())
	steps := 0
	_, err := Rollout(ctx, be, m, nil, setting, plan(flow.Corrected), example(35, 1).Noise, 1, conditioning(35, 1), func(int, []float32) {
		if steps++; steps == 2 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || steps != 2 {
		t.Errorf("error %v after %d steps", err, steps)
	}
}

// TestTrainingGivesItsMemoryBack: beyond what the backend keeps for the next call, nothing outlives a rollout or a learner.
func TestTrainingGivesItsMemoryBack(t *testing.T) {
	m, be := tiny(t), fast(t, 1)
	round := func() int64 {
		l := unclosed(t, be, m, moved(t, m, 3), plain, flux.SessionOptions{Memory: graph.Full})
		sft(t, l, example(1, 2))
		dpo(t, l, nil, loss, pair(rollout(t, be, m, nil, plan(flow.Corrected), 36, 2), 36))
		l.Close()
		live, _ := be.Memory()
		return live
	}
	first := round()
	for range 3 {
		if live := round(); live != first {
			t.Fatalf("%d bytes more than after the first round", live-first)
		}
	}
}
