package vae

import (
	"context"
	"testing"

	"github.com/sciflux/sciflux/engine/cpu"
)

// BenchmarkDecode turns the latents of 64 pictures of 64×64 into pixels with the world's autoencoder.
func BenchmarkDecode(b *testing.B) {
	be, err := cpu.New(cpu.Options{})
	if err != nil {
		b.Fatal(err)
	}
	v, err := Open("../../models/world/vae", be, Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer v.Close()
	f := v.Config.Factor()
	latents := noise(1, 64, v.Config.LatentChannels, 64/f, 64/f)
	for b.Loop() {
		if _, err := v.Decode(context.Background(), latents); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*64)/b.Elapsed().Seconds(), "images/s")
}
