package trainer

import (
	"context"
	"slices"
	"testing"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/enginetest"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/model/flux"
	"github.com/sciflux/sciflux/random"
)

// TestStarvedStepsHoldNothing: memory may run out at any allocation of a learner's life, when it is made as in a step of
// either stage. The error says so, nothing stays in use, and the adapter is where it was, so that the step can be taken again.
func TestStarvedStepsHoldNothing(t *testing.T) {
	m, be := tiny(t), fast(t, 1)
	tr := rollout(t, be, m, nil, plan(flow.Exact), 36, 2)
	groups := []Group{group(7, 2)}
	for name, step := range map[string]func(l *Learner) error{
		"stage 1": func(l *Learner) error { _, err := l.SFT(t.Context(), []Example{example(1, 2)}); return err },
		"dpo": func(l *Learner) error {
			_, err := l.DPO(t.Context(), []Pair{pair(tr, 36)}, moved(t, m, 5), loss)
			return err
		},
		"match": func(l *Learner) error {
			_, err := l.Match(t.Context(), groups, 0, 1, peersOf(t, m), flow.NFT{Beta: 1, AdvantageClip: 5, WeightMin: 1e-5})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			whole := learner(t, be, m, moved(t, m, 3), plain)
			if err := step(whole); err != nil {
				t.Fatal(err)
			}
			want := whole.Adapter.Weights.Floats()
			policy := moved(t, m, 3)
			start := slices.Clone(policy.Weights.Floats())
			var got []float32
			enginetest.Starve(t, be, func(starved engine.Backend) error {
				l, err := NewLearner(starved, m, policy, plain, setting, flux.SessionOptions{})
				if err != nil {
					return err
				}
				defer l.Close()
				if err := step(l); err != nil {
					if !slices.Equal(l.Adapter.Weights.Floats(), start) {
						t.Error("a step that memory ran out in moved the adapter")
					}
					return err
				}
				got = slices.Clone(l.Adapter.Weights.Floats())
				return nil
			})
			if !slices.Equal(got, want) {
				t.Error("after the attempts that failed a step gives other bits")
			}
		})
	}
}

// TestStarvedSampler: a sampling holds nothing when memory runs out.
func TestStarvedSampler(t *testing.T) {
	m, be := tiny(t), fast(t, 1)
	start := normal(random.New(3).Purpose("start"), 2*size)
	still := plan(flow.Exact)
	still.Churn = 0
	sample := func(be engine.Backend) error {
		_, err := Rollout(context.Background(), be, m, moved(t, m, 3), setting, still, start, 2, conditioning(1, 2), nil)
		return err
	}
	if err := sample(be); err != nil { // kernels keep their working space, which is no leak
		t.Fatal(err)
	}
	enginetest.Starve(t, be, sample)
}
