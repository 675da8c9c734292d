package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/graph"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/model/flux"
	"github.com/sciflux/sciflux/model/lora"
	"github.com/sciflux/sciflux/model/weights"
	"github.com/sciflux/sciflux/random"
	"github.com/sciflux/sciflux/report"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/trainer"
)

func (a *app) benchCommand() *cobra.Command {
	c := &cobra.Command{Use: "bench", Short: "Measure speed and memory of training and scoring", Example: "  sciflux bench step --model world", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(a.benchStepCommand(), a.benchScoreCommand())
	return c
}

type stepOptions struct {
	model, dtype, compute, memory            string
	batch, image, text, steps, rank, threads int
	overhead                                 bool
}

func (a *app) benchStepCommand() *cobra.Command {
	var o stepOptions
	c := &cobra.Command{
		Use:   "step --model DIR",
		Short: "Time LoRA training steps on random data",
		Long: `Time whole steps of supervised fine-tuning: forward, backward, clipping and AdamW, with a LoRA on to_q, to_k, to_v and
to_out.0. One step before the first that counts warms up.`,
		Example: "  sciflux bench step --model world --steps 20 --json",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return a.runBenchStep(c.Context(), o) },
	}
	f := c.Flags()
	f.StringVar(&o.model, "model", "", "transformer or pipeline folder, or world for the one inside the binary")
	f.IntVar(&o.batch, "batch", 1, "pictures of a step")
	f.IntVar(&o.image, "image-tokens", 0, "tokens of a picture (0: 16 for world, else 1024)")
	f.IntVar(&o.text, "text-tokens", 0, "tokens of a prompt (0: 32 for world, else 512)")
	f.IntVar(&o.steps, "steps", 5, "steps that count")
	f.StringVar(&o.compute, "compute", "auto", "arithmetic of the blocks' linear layers: float32, bfloat16, or auto, which is bfloat16 where AMX is")
	f.StringVar(&o.dtype, "dtype", "auto", "storage of the base weights: auto (as in the file), float32 or bfloat16")
	f.IntVar(&o.rank, "rank", 16, "rank of the adapter")
	f.StringVar(&o.memory, "memory", "none", "what is computed again in the backward pass: none, selective or full")
	f.IntVar(&o.threads, "threads", 0, "threads (0: all cores)")
	f.BoolVar(&o.overhead, "overhead", false, "also measure what the graph layer costs beside direct calls of the kernels")
	_ = c.MarkFlagRequired("model")
	return c
}

// stepTimes is what bench step measures.
type stepTimes struct {
	StepSeconds float64 `json:"step_seconds"` // median
	MinSeconds  float64 `json:"min_seconds"`
	PeakRSS     int64   `json:"peak_rss_bytes"` // of the process
	PeakTensors int64   `json:"peak_tensor_bytes"`
	Batch       int     `json:"batch"`
	ImageTokens int     `json:"image_tokens"`
	TextTokens  int     `json:"text_tokens"`
	DType       string  `json:"dtype"`
	Compute     string  `json:"compute"`
	Rank        int     `json:"rank"`
	Memory      string  `json:"memory"`
	Loss        float64 `json:"loss"` // of the last step
	Backend     string  `json:"backend"`
	// What the graph layer adds to the calls of the kernels, seconds a step and share of the median; with --overhead.
	GraphSeconds float64 `json:"graph_seconds,omitempty"`
	GraphShare   float64 `json:"graph_share,omitempty"`
}

// check fills what was left open and refuses what cannot be.
func (o *stepOptions) check(be engine.Backend) error {
	bad := func(flag, value, cure string) error {
		return run.Errorf(run.ClassConfig, "use", "--"+flag+" "+value, cure, "not allowed")
	}
	if _, ok := weights.Storages[o.dtype]; !ok {
		return bad("dtype", o.dtype, "give auto, float32 or bfloat16")
	}
	compute, ok := engine.ComputeType(o.compute, be)
	if !ok {
		return bad("compute", o.compute, "give auto, float32 or bfloat16")
	}
	o.compute = compute.String()
	if _, err := graph.ParseMemory(o.memory); err != nil {
		return bad("memory", o.memory, "give none, selective or full")
	}
	image, text := 1024, 512
	if o.model == builtin {
		image, text = 16, 32
	}
	if o.image == 0 {
		o.image = image
	}
	if o.text == 0 {
		o.text = text
	}
	for _, one := range []struct {
		flag string
		n    int
	}{{"batch", o.batch}, {"image-tokens", o.image}, {"text-tokens", o.text}, {"steps", o.steps}, {"rank", o.rank}} {
		if one.n < 1 {
			return bad(one.flag, itoa(one.n), "give at least 1")
		}
	}
	return nil
}

// gridOf is the squarest grid of n tokens.
func gridOf(n int) flow.Grid {
	rows := 1
	for r := 1; r*r <= n; r++ {
		if n%r == 0 {
			rows = r
		}
	}
	return flow.Grid{Rows: rows, Columns: n / rows}
}

func (a *app) runBenchStep(ctx context.Context, o stepOptions) error {
	be, err := backend(o.threads)
	if err != nil {
		return err
	}
	if err := o.check(be); err != nil {
		return err
	}
	model, err := a.openTransformer(o.model, flux.Options{Storage: weights.Storages[o.dtype], Compute: engine.DTypes[o.compute]})
	if err != nil {
		return err
	}
	defer model.Close()
	adapter, err := lora.New(model.Layers(), lora.Spec{Targets: []string{"to_q", "to_k", "to_v", "to_out.0"}, Rank: o.rank, Alpha: float64(o.rank)}, func(m lora.Module, a []float32) {
		random.New(1).Purpose(m.Name).Normal(a)
		for i := range a {
			a[i] /= float32(o.rank)
		}
	})
	if err != nil {
		return run.Errorf(run.ClassModel, "make adapter for", o.model, "", "%w", err)
	}
	result, err := timeSteps(ctx, be, model, adapter, o)
	if err != nil {
		return err
	}
	if o.overhead {
		if err := result.addOverhead(ctx, be, model, adapter, o); err != nil {
			return err
		}
	}
	return a.print.Value(result, result.text)
}

func (a *app) openTransformer(name string, o flux.Options) (*flux.Model, error) {
	folder, err := a.modelFolder(name, "world")
	if err != nil {
		return nil, err
	}
	model, err := flux.Load(folder, o)
	if err != nil {
		return nil, run.Errorf(run.ClassModel, "open transformer", name, "", "%w", err)
	}
	return model, nil
}

// example is a random micro-batch.
func example(model *flux.Model, o stepOptions) trainer.Example {
	key := random.New(2)
	normal := func(name string, n int) []float32 {
		values := make([]float32, n)
		key.Purpose(name).Normal(values)
		return values
	}
	e := trainer.Example{
		Latents: normal("latents", o.batch*o.image*model.InChannels), Noise: normal("noise", o.batch*o.image*model.InChannels), Sigma: make([]float32, o.batch),
		Conditioning: trainer.Conditioning{Text: normal("text", o.batch*o.text*model.TextWidth), Pooled: normal("pooled", o.batch*model.PooledWidth)},
	}
	for i := range e.Sigma {
		e.Sigma[i] = float32(key.Purpose("sigma").Float64(uint64(i)))
	}
	return e
}

func timeSteps(ctx context.Context, be engine.Backend, model *flux.Model, adapter *lora.Adapter, o stepOptions) (stepTimes, error) {
	memory, err := graph.ParseMemory(o.memory)
	if err != nil {
		return stepTimes{}, err
	}
	learner, err := trainer.NewLearner(be, model, adapter, trainer.OptimizerConfig{LR: 1e-4, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, WeightDecay: 1e-4, MaxGradNorm: 1},
		trainer.Setting{Grid: gridOf(o.image), Guidance: 1, BatchTokens: o.batch * (o.image + o.text)}, flux.SessionOptions{Memory: memory})
	if err != nil {
		return stepTimes{}, err
	}
	defer learner.Close()
	batch := []trainer.Example{example(model, o)}
	var seconds []float64
	var last trainer.StepResult
	for range o.steps + 1 {
		start := time.Now()
		if last, err = learner.SFT(ctx, batch); err != nil {
			return stepTimes{}, err
		}
		seconds = append(seconds, time.Since(start).Seconds())
	}
	seconds = seconds[1:]
	slices.Sort(seconds)
	_, peak := be.Memory()
	return stepTimes{
		StepSeconds: median(seconds), MinSeconds: seconds[0], PeakRSS: peakRSS(), PeakTensors: peak, Batch: o.batch, ImageTokens: o.image, TextTokens: o.text,
		DType: baseType(model), Compute: o.compute, Rank: o.rank, Memory: memory.String(), Loss: last.Loss, Backend: be.Name(),
	}, nil
}

// baseType is how the base weights are kept.
func baseType(model *flux.Model) string {
	for _, l := range model.Layers() {
		if layer, ok := model.Layer(l.Name); ok {
			return layer.Weight.DType().String()
		}
	}
	return ""
}

// median of sorted numbers.
func median(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

func (t stepTimes) text(w io.Writer) {
	fmt.Fprintf(w, "step     %.4f s median, %.4f s least\nmemory   %s process, %s tensors\nbatch    %d × (%d image + %d text tokens), rank %d, weights %s, products %s, memory %s\nloss     %.5g\nbackend  %s\n",
		t.StepSeconds, t.MinSeconds, report.Bytes(t.PeakRSS), report.Bytes(t.PeakTensors), t.Batch, t.ImageTokens, t.TextTokens, t.Rank, t.DType, t.Compute, t.Memory, t.Loss, t.Backend)
	if t.GraphSeconds != 0 {
		fmt.Fprintf(w, "graph    %.6f s a step beside direct calls, %.2f %%\n", t.GraphSeconds, 100*t.GraphShare)
	}
}

// peakRSS is the highest resident memory of this process in bytes; 0 when unknown.
func peakRSS() int64 {
	text, err := os.ReadFile(filepath.Join("/proc", "self", "status"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		var kib int64
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kib); err == nil {
			return kib << 10
		}
	}
	return 0
}
