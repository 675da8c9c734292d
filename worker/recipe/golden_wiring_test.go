package recipe

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/eval"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/model/lora"
	"github.com/sciflux/sciflux/random"
	"github.com/sciflux/sciflux/reward"
	"github.com/sciflux/sciflux/trainer"
	"github.com/sciflux/sciflux/worker/data"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestRecipesAreAsWritten: everything that training, sampling and measuring are handed, for configs that have an
// unusual value in every place, as testdata has it beside the config. A difference is either a fault or another recipe:
// then look at each line that `go test ./worker/recipe -run AsWritten -update` changes.
func TestRecipesAreAsWritten(t *testing.T) {
	for name, facts := range map[string]Facts{
		"unusual": {Channels: 5, TextLength: 77, Grid: flow.Grid{Rows: 2, Columns: 3}, Scheduler: flow.SchedulerConfig{
			NumTrainTimesteps: 1000, Shift: 1.4, BaseShift: 0.6, MaxShift: 1.3, BaseImageSeqLen: 4, MaxImageSeqLen: 9}},
		"forward": {Channels: 5, TextLength: 77, Grid: flow.Grid{Rows: 2, Columns: 3}, Scheduler: flow.SchedulerConfig{
			NumTrainTimesteps: 1000, Shift: 1.4, BaseShift: 0.6, MaxShift: 1.3, BaseImageSeqLen: 4, MaxImageSeqLen: 9}},
		"paper": {Channels: 4, TextLength: 13, Grid: flow.Grid{Rows: 3, Columns: 3}, Scheduler: flow.SchedulerConfig{
			NumTrainTimesteps: 1000, Shift: 2.5, UseDynamicShifting: true,
			BaseShift: 0.4, MaxShift: 1.2, BaseImageSeqLen: 256, MaxImageSeqLen: 4096}},
	} {
		cfg, err := configs.Load(configs.Sources{Name: filepath.Join("testdata", name+".yaml")})
		if err != nil {
			t.Fatal(err)
		}
		r := Recipe{Config: cfg, Seed: cfg.Seed, Facts: facts}
		cfg.Data.Source, cfg.Data.Resolution = sixRows(t), 16
		set, err := data.Open(t.Context(), cfg, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = set.Close() })
		golden := filepath.Join("testdata", name+".json")
		got := readable(t, account{t, r, set}.all())
		if *update {
			if err := os.WriteFile(golden, got, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: %s", golden, firstDifference(string(got), string(want)))
		}
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("line %d is\n%s\nwant\n%s", i+1, g[i], w[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(g), len(w))
}

// sixRows writes a data set whose rows differ in how many wordings and right pictures they have.
func sixRows(t *testing.T) string {
	t.Helper()
	type stored struct {
		Bytes []byte `parquet:"bytes"`
		Path  string `parquet:"path"`
	}
	type row struct {
		Implicit    []string `parquet:"implicit_prompt,list"`
		Explicit    []string `parquet:"explicit_prompt,list"`
		Superficial string   `parquet:"superficial_prompt"`
		Right       []stored `parquet:"explicit_image,list"`
		Wrong       []stored `parquet:"superficial_image,list"`
		Object      string   `parquet:"object"`
	}
	wordings := func(kind string, i, n int) (out []string) {
		for k := range n {
			out = append(out, fmt.Sprintf("%s %d, wording %d", kind, i, k))
		}
		return out
	}
	var rows []row
	for i := range 6 {
		rows = append(rows, row{wordings("implicit", i, 1+i%4), wordings("explicit", i, 1+i%3), fmt.Sprint("superficial ", i),
			make([]stored, 1+i*2%5), make([]stored, 1), fmt.Sprint("object ", i)})
	}
	dir := t.TempDir()
	if err := parquet.WriteFile(filepath.Join(dir, "train-00000-of-00001.parquet"), rows); err != nil {
		t.Fatal(err)
	}
	return dir
}

// account lists what a recipe hands out.
type account struct {
	*testing.T
	Recipe
	set *data.Set
}

type table = map[string]any

func (a account) all() table {
	steps, timesteps := a.TrainedSteps(0)
	return table{
		"lengths":   table{"text tokens": a.TextTokens(), "latent size": a.LatentSize(), "batch": a.Batch(), "prompts together": a.Together()},
		"forms":     a.Forms(),
		"optimiser": table{"sft": Optimizer(a.Config.SFT.Optim), "oft": Optimizer(a.Config.OFT.Optim)},
		"setting":   table{"sft": around(a.SFTSetting()), "oft": around(a.OFTSetting()), "eval": around(a.EvalSetting())},
		"adapter":   a.adapter(),
		"sft steps": []any{a.sftStep(0), a.sftStep(1), a.sftStep(4)},
		"plan":      table{"rollout": a.Rollout(0), "eval": a.EvalPlan()},
		"trained":   table{"steps": steps, "timesteps": timesteps},
		"loss":      a.loss(),
		"round":     a.round(),
		"prompts":   []any{a.prompts(0, 0, 1), a.prompts(1, 0, 2), a.prompts(1, 1, 2)},
		"noise":     a.noises(),
		"pairs":     a.pairs(),
		"eval":      table{"pictures": a.pictures(), "bootstrap": a.Bootstrap()},
	}
}

// loss is that of the method.
func (a account) loss() any {
	if !a.Config.OFT.Forward() {
		return a.DPO()
	}
	_, rolls, kept := a.Config.OFT.OldPolicy()
	return table{"method": a.Config.OFT.Method, "constants": a.Matching(), "old policy": a.OldPolicy(), "rolls": rolls, "kept": kept}
}

// round is how a round is divided, what the store keeps of its rollouts, and for the methods on finished pictures what the
// trainer is handed of two prompts whose pictures are 1/2.
func (a account) round() any {
	o := a.Config.OFT
	out := table{"updates": o.UpdatesPerRound(), "steps": o.StepsPerEpoch()}
	var windows [][2]int
	for epoch := range 6 {
		first, end := a.Kept(epoch)
		windows = append(windows, [2]int{first, end})
	}
	out["states kept"] = windows
	if !o.Forward() {
		return out
	}
	some := func(rewards ...float64) Scored {
		s := Scored{Rewards: rewards, Subjects: make([]reward.Subject, len(rewards)), Latents: make([][]float32, len(rewards))}
		for i := range s.Latents {
			s.Latents[i] = []float32{0.5}
		}
		return s
	}
	round := []Scored{some(1, 4, 2, 1.125), some(9, 2, 2.5)}
	round[0].Number, round[1].Number, round[0].Subjects[2].Skip = 4, 5, true
	for i, g := range a.Groups(round) {
		var levels []any
		for _, l := range g.Levels {
			z := make([]float32, 4)
			for k := range g.Rewards[:min(2, len(g.Rewards))] {
				l.Noise(k, z[2*k:2*k+2])
			}
			levels = append(levels, table{"sigma": l.Sigma, "noise": z})
		}
		out[fmt.Sprint("prompt ", round[i].Number)] = table{"rewards": g.Rewards, "advantages": g.Advantages, "levels": levels}
	}
	return out
}

func around(s trainer.Setting) table {
	return table{"guidance": s.Guidance, "grid": s.Grid, "tokens of a call": s.BatchTokens}
}

// first are the first normal numbers of a key.
func first(k random.Key) []float32 {
	z := make([]float32, 2)
	k.Normal(z)
	return z
}

// adapter is a fresh one over layers of two blocks, by module.
func (a account) adapter() any {
	var layers []lora.Layer
	for _, block := range []string{"transformer_blocks.0.", "transformer_blocks.1."} {
		for _, name := range []string{"attn.to_q", "attn.to_v", "proj_out"} {
			layers = append(layers, lora.Layer{Name: block + name, In: 3, Out: 2})
		}
	}
	fresh, err := a.FreshAdapter(layers)
	if err != nil {
		a.Fatal(err)
	}
	out := table{}
	for _, m := range fresh.Modules {
		out[m.Name] = table{"rank": m.Rank, "scale": m.Scale(), "A": fresh.A(m), "B": fresh.B(m)}
	}
	return out
}

// sftStep is an optimiser step of stage 1: the choices, then what the trainer is handed for latents that are all 1/2.
func (a account) sftStep(step int) any {
	batches, err := a.Batches(step, a.set.Rows)
	if err != nil {
		a.Fatal(err)
	}
	var out []any
	for _, batch := range batches {
		var samples []any
		var latents [][]float32
		for _, s := range batch {
			samples = append(samples, table{"row": s.Row, "picture": s.Picture, "caption": s.Caption,
				"posterior": first(s.Posterior), "noise": first(s.Noise), "sigma": s.Sigma, "weight": s.Weight})
			latents = append(latents, []float32{0.5, 0.5})
		}
		e := a.Example(batch, latents, trainer.Conditioning{Text: []float32{1}, Pooled: []float32{2}})
		out = append(out, table{"samples": samples, "example": table{
			"latents": e.Latents, "noise": e.Noise, "sigma": e.Sigma, "weight": e.Weight, "text": e.Text, "pooled": e.Pooled}})
	}
	return table{"step": step, "micro-batches": out}
}

func (a account) noises() any {
	out := table{}
	for _, at := range [][2]int{{0, 0}, {0, 1}, {9, 0}} {
		name := fmt.Sprintf("%d, picture %d", at[0], at[1])
		out["oft, prompt "+name] = streams(a.StartNoise(at[0], at[1]), func(i int) random.Key { return a.StepNoise(at[0], at[1], i) })
		for _, k := range eval.Kinds() {
			n := a.EvalNoise(k, at[0], at[1])
			out[fmt.Sprintf("eval, %s, tuple %s", k, name)] = streams(n.Start(), n.Step)
		}
	}
	return out
}

func streams(start random.Key, step func(int) random.Key) any {
	return [][]float32{first(start), first(step(0)), first(step(1))}
}

// prompts are those of a shard of an epoch, one a line.
func (a account) prompts(epoch, shard, shards int) (out []string) {
	for _, p := range a.EpochPrompts(epoch, shard, shards, a.set.Prompts, a.set.Rows) {
		out = append(out, fmt.Sprintf("%d: %q about %q of row %d", p.Number, p.Text, p.Object, p.Row))
	}
	return out
}

func (a account) pictures() any {
	out := table{}
	for _, k := range eval.Kinds() {
		out[string(k)] = a.Pictures(k)
	}
	return out
}

// corner is a detector that finds something at the left edge of all pictures but the last, reaching over the upper edge in
// the first.
type corner struct{}

func (corner) Detect(_ context.Context, images reward.Images, _ []string) ([][]flow.Box, error) {
	found := make([][]flow.Box, images.B)
	for b := range images.B - 1 {
		found[b] = []flow.Box{{CX: 0.25, CY: 0.1 + 0.4*float32(b), W: 0.3, H: 0.5}}
	}
	return found, nil
}

// pairs are what training takes of pictures with given scores, and what a shard of them is counted as.
func (a account) pairs() any {
	masker, err := a.Masker(corner{})
	if err != nil {
		a.Fatal(err)
	}
	subjects, err := masker.Find(context.Background(), reward.Images{B: 3}, []string{"x", "y", "z"})
	if err != nil {
		a.Fatal(err)
	}
	out := table{"summary": a.Summary([][]float64{{3, 4}, {1, 1.125}, {2, 2}})}
	for name, rewards := range map[string][]float64{"far apart": {3, 4}, "near": {1, 1.125}} {
		pair := a.Pair(0, [][][]float32{{{1}}, {{2}}}, rewards, subjects[:2])
		out[name] = table{"rewards": pair.Rewards, "latents": pair.Latents, "timesteps": pair.Timesteps, "steps": len(pair.Steps),
			"masks": masks(pair.Masks), "log-probability": logProb(pair.Masks[1])}
	}
	unseen := a.Pair(0, [][][]float32{{{1}}, {{2}}}, []float64{3, 4}, subjects[1:])
	out["one without a subject"] = table{"rewards": unseen.Rewards, "masks": masks(unseen.Masks)}
	return out
}

// logProb is that of a step of size 1 under a mask: its divisor is the form of the mean.
func logProb(m *flow.Mask) float64 {
	x := make([]float32, 4*len(m.Cells))
	return flow.Step{Std: 1, X: 1}.LogProb(x, x, x, m)
}

// masks draws masks with a row of cells a line.
func masks(all []*flow.Mask) (out []any) {
	for _, m := range all {
		var lines []string
		columns := 2 * m.Grid.Columns
		for from := 0; from < len(m.Cells); from += columns {
			lines = append(lines, strings.NewReplacer("\x00", ".", "\x01", "#").Replace(string(m.Cells[from:from+columns])))
		}
		out = append(out, lines)
	}
	return out
}

var (
	flatList = regexp.MustCompile(`\[\s+[^][{}]*?\s+\]|\{\s+[^][{}]*?\s+\}`)
	spaces   = regexp.MustCompile(`\n\s*`)
)

// readable is JSON for people: six digits, and lists and tables of plain values in one line.
func readable(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	var plain any
	if err := d.Decode(&plain); err != nil {
		t.Fatal(err)
	}
	if text, err = json.MarshalIndent(rounded(plain), "", " "); err != nil {
		t.Fatal(err)
	}
	text = flatList.ReplaceAllFunc(text, func(b []byte) []byte {
		if bytes.Contains(b, []byte("about")) || bytes.Contains(b, []byte("##")) || bytes.Contains(b, []byte("...")) {
			return b // masks and prompts have a line each
		}
		if line := spaces.ReplaceAll(bytes.ReplaceAll(b, []byte(",\n"), []byte(", \n")), nil); len(line) <= 140 {
			return line
		}
		return b
	})
	return append(text, '\n')
}

// rounded cuts numbers to six digits: the last bits of functions differ from one kind of processor to another.
func rounded(v any) any {
	switch v := v.(type) {
	case float64:
		short, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 6, 64), 64)
		if err != nil || math.IsInf(short, 0) {
			return v
		}
		return short
	case map[string]any:
		for k := range v {
			v[k] = rounded(v[k])
		}
	case []any:
		for i := range v {
			v[i] = rounded(v[i])
		}
	}
	return v
}
