package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sciflux/sciflux/picture"
	"github.com/sciflux/sciflux/random"
	"github.com/sciflux/sciflux/report"
	"github.com/sciflux/sciflux/run"
)

type scoreBenchOptions struct {
	model         string
	images, batch int
}

func (a *app) benchScoreCommand() *cobra.Command {
	var o scoreBenchOptions
	c := &cobra.Command{
		Use:     "score --model DIR",
		Short:   "Time scoring of 64×64 pictures, decoding and preprocessing included",
		Example: "  sciflux bench score --model world --json",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return a.runBenchScore(c.Context(), o) },
	}
	c.Flags().StringVar(&o.model, "model", "", "SciScore folder, or world for the one inside the binary")
	c.Flags().IntVar(&o.images, "images", 256, "pictures that count")
	c.Flags().IntVar(&o.batch, "batch", 0, "pictures at once (0: as many as fit its memory well)")
	_ = c.MarkFlagRequired("model")
	return c
}

const benchSide = 64 // pixels

func (a *app) runBenchScore(ctx context.Context, o scoreBenchOptions) error {
	if o.images < 1 || o.batch < 0 {
		return run.Errorf(run.ClassConfig, "use", fmt.Sprintf("--images %d --batch %d", o.images, o.batch), "give at least one picture", "not allowed")
	}
	scorer, err := a.openScorer(o.model, o.batch)
	if err != nil {
		return err
	}
	defer scorer.Close()
	files, err := pngs(o.images)
	if err != nil {
		return err
	}
	const prompt = "an unripe apple on a table"
	score := func(files [][]byte) error {
		prompts := slices.Repeat([]string{prompt}, len(files))
		_, err := scorer.ScorePictures(ctx, prompts, func(i int) (*picture.Picture, error) { return picture.Decode(files[i]) })
		return err
	}
	if err := score(files[:min(len(files), 32)]); err != nil { // warms up
		return err
	}
	start := time.Now()
	if err := score(files); err != nil {
		return err
	}
	type speed struct {
		ImagesPerSecond float64 `json:"images_per_second"`
		PeakRSS         int64   `json:"peak_rss_bytes"`
		Images          int     `json:"images"`
		Seconds         float64 `json:"seconds"`
	}
	s := speed{PeakRSS: peakRSS(), Images: o.images, Seconds: time.Since(start).Seconds()}
	s.ImagesPerSecond = float64(o.images) / s.Seconds
	return a.print.Value(s, func(w io.Writer) {
		fmt.Fprintf(w, "%.1f pictures/s, %d in %s, %s\n", s.ImagesPerSecond, s.Images, report.Seconds(s.Seconds), report.Bytes(s.PeakRSS))
	})
}

// pngs are random pictures as PNG files.
func pngs(n int) ([][]byte, error) {
	files := make([][]byte, n)
	for i := range files {
		p, key := picture.New(benchSide, benchSide), random.New(uint64(i))
		for k := range p.Pix {
			p.Pix[k] = byte(key.Uint64(uint64(k)))
		}
		var err error
		if files[i], err = p.PNG(); err != nil {
			return nil, err
		}
	}
	return files, nil
}
