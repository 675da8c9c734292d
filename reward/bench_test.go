package reward

import (
	"context"
	"testing"

	"github.com/sciflux/sciflux/engine/cpu"
)

// BenchmarkScore rates 64 generated pictures for one prompt with the world's scorer.
func BenchmarkScore(b *testing.B) {
	be, err := cpu.New(cpu.Options{})
	if err != nil {
		b.Fatal(err)
	}
	s, err := OpenSciScore("../models/world-sciscore", be, SciScoreOptions{Batch: 16})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	images := noisy(64, 64, 64)
	prompts := make([]string, images.B)
	for i := range prompts {
		prompts[i] = "a picture of an apple"
	}
	for b.Loop() {
		if _, err := s.Score(context.Background(), prompts, images); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*images.B)/b.Elapsed().Seconds(), "images/s")
}
