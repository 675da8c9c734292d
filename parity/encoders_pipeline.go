package parity

import (
	"context"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/model/pipeline"
)

func openPipeline(c *Case, o Options) (*pipeline.Pipeline, error) {
	path, be, err := prepare(c, o)
	if err != nil {
		return nil, err
	}
	return pipeline.Open(path, be, pipeline.Options{Storage: o.storage(), Compute: engine.DTypes[o.DType]})
}

func runPromptEncode(ctx context.Context, c *Case, o Options) (*Outputs, error) {
	var args struct {
		Prompts []string `json:"prompts"`
		MaxLen  int      `json:"max_sequence_length"`
	}
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	if err := c.atLeastOne(map[string]int{"number of prompts": len(args.Prompts), "max_sequence_length": args.MaxLen}); err != nil {
		return nil, err
	}
	p, err := openPipeline(c, o)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	clipIDs, t5IDs, err := p.Tokens(args.Prompts, args.MaxLen)
	if err != nil {
		return nil, err
	}
	text, pooled, err := p.EncodePrompts(ctx, args.Prompts, args.MaxLen)
	if err != nil {
		return nil, err
	}
	out, b := NewOutputs(), len(args.Prompts)
	out.Int32("clip_ids", []int{b, len(clipIDs) / b}, clipIDs)
	out.Int32("t5_ids", []int{b, args.MaxLen}, t5IDs)
	out.tensor("text", text)
	out.tensor("pooled", pooled)
	return out, nil
}

func runGenerate(ctx context.Context, c *Case, o Options) (*Outputs, error) {
	var args struct {
		Prompts  []string `json:"prompts"`
		Height   int      `json:"height"`
		Width    int      `json:"width"`
		Steps    int      `json:"steps"`
		Guidance float64  `json:"guidance"`
		MaxLen   int      `json:"max_sequence_length"`
	}
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	latents, err := c.hostInput("latents")
	if err != nil {
		return nil, err
	}
	p, err := openPipeline(c, o)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	f := p.Factor() // the reference leaves off what does not fill a token; here it would be refused
	g, err := p.Generate(ctx, pipeline.GenerateOptions{
		Prompts: args.Prompts, Height: args.Height / f * f, Width: args.Width / f * f, Steps: args.Steps, Guidance: args.Guidance,
		MaxLen:  args.MaxLen,
		Latents: latents,
	})
	if err != nil {
		return nil, err
	}
	out := NewOutputs()
	out.tensor("latents", g.Latents)
	out.tensor("image", g.Images)
	return out, nil
}
