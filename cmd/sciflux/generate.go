package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sciflux/sciflux/cmd/sciflux/internal/console"
	"github.com/sciflux/sciflux/model/lora"
	"github.com/sciflux/sciflux/model/pipeline"
	"github.com/sciflux/sciflux/models"
	"github.com/sciflux/sciflux/picture"
	"github.com/sciflux/sciflux/run"
)

type generateOptions struct {
	model, adapter, out string
	prompts             []string
	seed                uint64
	steps, size         int
	guidance            float64
}

func (a *app) generateCommand() *cobra.Command {
	var o generateOptions
	c := &cobra.Command{
		Use:     "generate --model DIR --prompt TEXT [--adapter FILE] [--out DIR]",
		Short:   "Draw pictures, with or without an adapter",
		Long:    "Draw one picture for each prompt. The picture of the n-th prompt starts from the noise of seed + n, so that two adapters can be compared picture by picture.",
		Example: `  sciflux generate --model world --adapter ~/.local/state/sciflux/runs/world/export --prompt "an unripe apple on a table" --out pictures`,
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return a.runGenerate(c.Context(), o) },
	}
	f := c.Flags()
	f.StringVar(&o.model, "model", "", "pipeline folder in diffusers layout, or world for the one inside the binary")
	f.StringVar(&o.adapter, "adapter", "", "LoRA file or folder")
	f.StringArrayVar(&o.prompts, "prompt", nil, "prompt; may be repeated")
	f.StringVar(&o.out, "out", ".", "folder for the pictures")
	f.Uint64Var(&o.seed, "seed", 0, "seed of the first picture's noise")
	f.IntVar(&o.steps, "steps", 0, "denoising steps (0: the model's usual number)")
	f.IntVar(&o.size, "size", 0, "side in pixels (0: the model's own)")
	f.Float64Var(&o.guidance, "guidance", 3.5, "value of the guidance input of guidance-distilled models")
	for _, name := range []string{"model", "prompt"} {
		_ = c.MarkFlagRequired(name)
	}
	return c
}

// drawn is one picture as JSON.
type drawn struct {
	Prompt string `json:"prompt"`
	Seed   uint64 `json:"seed"`
	Path   string `json:"path"`
}

func (a *app) runGenerate(ctx context.Context, o generateOptions) error {
	if o.steps < 0 || o.size < 0 {
		return run.Errorf(run.ClassConfig, "use", fmt.Sprintf("--steps %d --size %d", o.steps, o.size), "give numbers above 0, or 0 for the model's own", "not allowed")
	}
	pipe, err := a.openPipeline(o.model)
	if err != nil {
		return err
	}
	defer pipe.Close()
	if o.size != 0 {
		if _, err := pipe.Grid(o.size, o.size); err != nil {
			return run.Errorf(run.ClassConfig, "use", fmt.Sprintf("--size %d", o.size), "", "%w", err)
		}
	}
	var adapter *lora.Adapter
	if o.adapter != "" {
		if adapter, err = lora.Load(o.adapter, pipe.Transformer.Layers()); err != nil {
			return run.Errorf(run.ClassModel, "read adapter", o.adapter, "it must belong to this model", "%w", err)
		}
	}
	seeds := make([]uint64, len(o.prompts))
	for i := range seeds {
		seeds[i] = o.seed + uint64(i)
	}
	if err := a.tellAbout(pipe, o.prompts); err != nil {
		return err
	}
	got, err := pipe.Generate(ctx, pipeline.GenerateOptions{
		Prompts: o.prompts, Height: o.size, Width: o.size, Steps: o.steps, Guidance: o.guidance, Seeds: seeds, Adapter: adapter,
	})
	if err != nil {
		return err
	}
	list, err := save(got, o, seeds)
	if err != nil {
		return err
	}
	return a.print.Value(list, func(w io.Writer) {
		var rows [][]string
		for _, d := range list {
			rows = append(rows, []string{d.Path, fmt.Sprint(d.Seed), d.Prompt})
		}
		console.Table(w, []string{"picture", "seed", "prompt"}, rows)
	})
}

// tellAbout notes what a model does not take as it is given: prompts that are too long, and weights that are converted.
func (a *app) tellAbout(pipe *pipeline.Pipeline, prompts []string) error {
	if err := pipe.Check(); err != nil {
		return err
	}
	for _, note := range pipe.Notes() {
		a.print.Note("%s", note)
	}
	cut, err := pipe.Truncated(prompts, pipe.TextLength())
	if err == nil && cut.Any() {
		a.print.Note("%s", cut)
	}
	return err
}

// save writes the pictures as PNG files.
func save(got *pipeline.Generated, o generateOptions, seeds []uint64) ([]drawn, error) {
	h, w := got.Images.Shape[2], got.Images.Shape[3]
	size, values := 3*h*w, got.Images.Floats()
	var list []drawn
	for i, prompt := range o.prompts {
		p, err := picture.FromFloats(values[i*size:(i+1)*size], w, h)
		if err != nil {
			return nil, err
		}
		data, err := p.PNG()
		if err != nil {
			return nil, err
		}
		path := filepath.Join(o.out, fmt.Sprintf("%04d-seed-%d.png", i, seeds[i]))
		if err := replace(path, data); err != nil {
			return nil, err
		}
		list = append(list, drawn{prompt, seeds[i], path})
	}
	return list, nil
}

// openPipeline opens a pipeline folder, or the one inside the binary.
func (a *app) openPipeline(model string) (*pipeline.Pipeline, error) {
	folder, err := a.modelFolder(model, "world")
	if err != nil {
		return nil, err
	}
	be, err := backend(0)
	if err != nil {
		return nil, err
	}
	return pipeline.Open(folder, be, pipeline.Options{Compute: be.Fast()})
}

// modelFolder is a model's folder; the word world stands for one inside the binary, which is unpacked.
func (a *app) modelFolder(model, inside string) (string, error) {
	if model != builtin {
		return model, nil
	}
	dir, err := a.stateDir()
	if err != nil {
		return "", err
	}
	return models.Unpack(models.Files, inside, filepath.Join(dir, "cache", "models"))
}
