package worker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/picture"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/store/safetensors"
)

// The golden steps: three runs whose configs have an unusual value in every place that reaches the trainer, recomputed by
// tools/golden with PyTorch, diffusers and transformers. They hold what lies between a config and the arithmetic: which
// rows, wordings, pictures and random numbers are used, scales, noise levels, weights, guidance, lengths, the optimiser's
// constants, masks, and what is handed from stage to stage.

// TestGoldenSteps: both stages and an evaluation, in the corrected forms.
func TestGoldenSteps(t *testing.T) {
	g := openGolden(t, "odd")
	sft := g.sft(false)
	g.compare(sft)
	oft := g.oft(sft, sft, sft, true)
	g.evaluate(map[run.Variant]run.CheckpointRef{run.VariantBase: {}, run.VariantSFT: sft, run.VariantOFT: oft})
}

// TestGoldenStepsOfThePaper: the authors' forms, matrices in bfloat16, an average in stage 1 that stage 2 goes on from,
// prompts of a file, pairs that the initial adapter drew, and boxes that were given.
func TestGoldenStepsOfThePaper(t *testing.T) {
	g := openGolden(t, "paper")
	sft := g.sft(true)
	var initial run.CheckpointRef
	g.oft(sft, initial, sft, false)
}

// TestGoldenStepsInTheWorld: masks of the world's detector, ties, pictures without a detection, no stage 1.
func TestGoldenStepsInTheWorld(t *testing.T) {
	g := openGolden(t, "world")
	var initial run.CheckpointRef
	g.oft(initial, initial, initial, true)
}

// part reads an adapter from a checkpoint as docs/formats.md describes it, and checks which modules it has.
func (g *goldenRun) part(at run.CheckpointRef, name string) map[string][]float32 {
	g.Helper()
	c := store.Checkpoints{Objects: g.objects, Run: g.job.Run}
	loaded := ok(c.Load(context.Background(), at))(g)
	data, there := loaded.Parts[name]
	if !there {
		return nil
	}
	file := ok(safetensors.Parse(name, data))(g)
	all := map[string][]float32{}
	for m := range g.want.Scales {
		for _, f := range []string{"A", "B"} {
			all[m+"."+f] = ok(file.Float32("transformer." + m + ".lora_" + f + ".weight"))(g)
		}
	}
	if n := len(file.Names()); n != len(all) {
		g.Errorf("%s holds %d tensors, want %d", name, n, len(all))
	}
	return all
}

// moved compares the change from before to got with that from before to want: its direction over all factors together,
// and each factor's length.
func (g *goldenRun) moved(what string, before, got, want map[string][]float32) {
	g.Helper()
	var dot, have, wish float64
	for name, from := range before {
		if len(got[name]) != len(from) {
			g.Fatalf("%s: %s has %d numbers, want %d", what, name, len(got[name]), len(from))
		}
		var h, w float64
		for i, b := range from {
			x, y := float64(got[name][i])-float64(b), float64(want[name][i])-float64(b)
			dot, h, w = dot+x*y, h+x*x, w+y*y
		}
		have, wish = have+h, wish+w
		if math.Abs(math.Sqrt(h)-math.Sqrt(w)) > 1e-4*math.Sqrt(w)+1e-7 {
			g.Errorf("%s: %s moved by %.6g, want %.6g", what, name, math.Sqrt(h), math.Sqrt(w))
		}
	}
	if wish > 0 && dot < (1-1e-7)*math.Sqrt(have*wish) {
		g.Errorf("%s: moved in another direction: cosine %.8f", what, dot/math.Sqrt(have*wish))
	}
}

// trained compares a checkpoint with the case: the trained adapter by its last step, the average by its way from the
// average before, which is where the stage began.
func (g *goldenRun) trained(what string, at run.CheckpointRef, policy, mean string, begin map[string][]float32) {
	g.Helper()
	got := g.part(at, "policy.safetensors")
	if got == nil {
		got = g.part(at, store.AdapterPart)
	}
	g.moved(what, g.before, got, g.factors(policy))
	g.before = got
	if mean != "" {
		g.moved(what+", average", begin, g.part(at, store.AdapterPart), g.factors(mean))
	}
}

// steps compares the metrics of a stage with the case's steps.
func (g *goldenRun) steps(stage run.Stage, want []goldenStep) {
	g.Helper()
	var got []run.Event
	for _, o := range ok(g.objects.List(context.Background(), run.Keys(g.job.Run).Metrics()+string(stage)))(g) {
		text, _, err := store.ReadAll(context.Background(), g.objects, o.Key)
		if err != nil {
			g.Fatal(err)
		}
		got = append(got, ok(run.ReadEvents(bytes.NewReader(text)))(g)...)
	}
	if len(got) != len(want) {
		g.Fatalf("%s logged %d steps, want %d", stage, len(got), len(want))
	}
	for i, w := range want {
		at := func(name string) string { return fmt.Sprintf("%s step %d: %s", stage, i+1, name) }
		v := got[i].Values
		g.near(at("loss"), v["loss"], w.Loss, 1e-5)
		g.near(at("gradient norm"), v["grad_norm"], w.Norm, 1e-4)
		g.near(at("rate"), v["learning_rate"], w.Rate, 1e-12)
		g.near(at("KL"), v["kl"], w.KL, 1e-3)
		g.near(at("clamped"), v["clamped"], w.Clamped, 1e-12)
	}
}

// near allows a relative difference.
func (g *goldenRun) near(what string, got, want, relative float64) {
	g.Helper()
	if !(math.Abs(got-want) <= relative*math.Abs(want)+1e-12) {
		g.Errorf("%s: %v, want %v", what, got, want)
	}
}

// sft takes the steps of stage 1 one by one, each in a chunk of its own.
func (g *goldenRun) sft(mean bool) run.CheckpointRef {
	g.Helper()
	var at run.CheckpointRef
	begin := g.before
	for k := range g.want.SFT {
		c := activities.SFTChunk{Job: g.job, Stage: run.StageSFT, From: at, To: k + 1}
		at = ok(g.stages.TrainSFT(context.Background(), c, quiet{}))(g).Checkpoint
		name := fmt.Sprintf("sft/%d", k+1)
		average := ""
		if mean && k == len(g.want.SFT)-1 {
			average = name + "/mean"
		}
		g.trained(name, at, name, average, begin)
	}
	g.steps(run.StageSFT, g.want.SFT)
	return at
}

// compare takes the steps after stage 1's last as the comparison at equal time does.
func (g *goldenRun) compare(sft run.CheckpointRef) {
	g.Helper()
	c := activities.SFTChunk{Job: g.job, Stage: run.StageCompare, From: sft, To: sft.Step + len(g.want.Compare)}
	at := ok(g.stages.TrainSFT(context.Background(), c, quiet{}))(g).Checkpoint
	g.trained("compare", at, "compare", "", nil)
	g.steps(run.StageCompare, g.want.Compare)
}

// pairs draws and scores the pairs of an epoch in two shards and compares them with the case.
func (g *goldenRun) pairs(epoch int, policy run.CheckpointRef) (rollouts, scores []run.ObjectRef) {
	g.Helper()
	ctx, seen := context.Background(), 0
	for shard := range 2 {
		draw := activities.PairShard{Job: g.job, Epoch: epoch, Shard: shard, Shards: 2, Policy: policy}
		ref := ok(g.stages.GeneratePairs(ctx, draw, quiet{}))(g)
		made := ok(g.stages.ScorePairs(ctx, activities.ScoreShard{Job: g.job, Epoch: epoch, Shard: shard, Rollouts: ref}, quiet{}))(g)
		rollouts, scores = append(rollouts, ref), append(scores, made.Scores)
		seen += g.shard(epoch, ref, made.Scores)
	}
	if want := len(g.want.OFT[epoch].Prompts); seen != want {
		g.Errorf("epoch %d has %d prompts, want %d", epoch, seen, want)
	}
	return rollouts, scores
}

// goldenSubject is what a score object says of a picture's subject.
type goldenSubject struct {
	Box    struct{ CX, CY, W, H float64 }
	Masked bool
}

// shard compares the stored objects of one shard and returns the number of its prompts.
func (g *goldenRun) shard(epoch int, rollouts, scores run.ObjectRef) int {
	g.Helper()
	want := g.want.OFT[epoch]
	file, prompts := g.rollouts(rollouts)
	var scored struct {
		Rewards  [][]float64
		Subjects [][]goldenSubject
	}
	if err := json.Unmarshal(ok(store.Read(context.Background(), g.objects, scores))(g), &scored); err != nil {
		g.Fatal(err)
	}
	for p, prompt := range prompts {
		at := prompt.Number - want.Prompts[0].Number
		if prompt != want.Prompts[at] {
			g.Errorf("prompt %+v, want %+v", prompt, want.Prompts[at])
		}
		g.latents(epoch, at, file, p)
		for k, r := range scored.Rewards[p] {
			where := fmt.Sprintf("epoch %d, prompt %d, picture %d", epoch, at, k)
			if math.Abs(r-want.Rewards[at][k]) > scoreSlack {
				g.Errorf("%s: reward %v, want %v", where, r, want.Rewards[at][k])
			}
			if want.Found != nil {
				g.subject(where, scored.Subjects[p][k], want.Boxes[at][k])
			}
		}
	}
	return len(prompts)
}

// rollouts reads a rollouts object with its prompts.
func (g *goldenRun) rollouts(ref run.ObjectRef) (*safetensors.File, []goldenPrompt) {
	g.Helper()
	file := ok(safetensors.Parse("rollouts", ok(store.Read(context.Background(), g.objects, ref))(g)))(g)
	var prompts []goldenPrompt
	if err := json.Unmarshal([]byte(file.Metadata()["prompts"]), &prompts); err != nil {
		g.Fatal(err)
	}
	return file, prompts
}

// scoreSlack is what a few levels of a picture that round the other way do to its score.
const scoreSlack = 0.02

func (g *goldenRun) subject(where string, got goldenSubject, want [4]float64) {
	g.Helper()
	for i, v := range [4]float64{got.Box.CX, got.Box.CY, got.Box.W, got.Box.H} {
		if !got.Masked || math.Abs(v-want[i]) > 1e-6 {
			g.Errorf("%s: subject %+v, want the box %v", where, got, want)
			return
		}
	}
}

// latents compares the states of prompt p of a rollouts object, which is prompt at of the epoch, with the case's. The object
// holds those around the noisy steps, from the start on, the case the last ones, in half precision; what both hold is compared.
func (g *goldenRun) latents(epoch, at int, file *safetensors.File, p int) {
	g.Helper()
	name := fmt.Sprintf("oft/%d/latents", epoch)
	shape, kept := g.shape(file, "latents"), g.shape(g.arrays, name)
	got, want := ok(file.Float32("latents"))(g), ok(g.arrays.Float32(name))(g)
	samples, states, size := shape[1], shape[2], shape[3]*shape[4]
	if samples != kept[1] || size != kept[3]*kept[4] {
		g.Fatalf("latents %v, want %v", shape, kept)
	}
	worst, first := 0., g.config.OFT.Steps+1-kept[2] // of the case's states
	for k := range samples {
		for s := range min(kept[2], states-first) {
			have := got[((p*samples+k)*states+first+s)*size:]
			for i, w := range want[((at*samples+k)*kept[2]+s)*size:][:size] {
				worst = max(worst, math.Abs(float64(have[i])-float64(w))/(1+math.Abs(float64(w))))
			}
		}
	}
	if worst > 1e-3 {
		g.Errorf("epoch %d, prompt %d: latents differ by %v", epoch, at, worst)
	}
}

func (g *goldenRun) shape(file *safetensors.File, name string) []int {
	info, there := file.Info(name)
	if !there {
		g.Fatalf("no tensor %s", name)
	}
	return info.Shape
}

// oft runs the epochs of stage 2 from a checkpoint.
func (g *goldenRun) oft(from, reference, policy run.CheckpointRef, mean bool) run.CheckpointRef {
	g.Helper()
	ctx, at := context.Background(), from
	begin := g.factors("initial")
	if !from.IsZero() {
		begin = g.part(from, store.AdapterPart)
	}
	g.before = begin
	var steps []goldenStep
	for epoch := range g.want.OFT {
		if epoch > 0 {
			policy = at
		}
		rollouts, scores := g.pairs(epoch, policy)
		if w := g.want.OFT[epoch]; w.Boxes != nil && w.Found == nil {
			for i := range scores {
				scores[i] = g.given(epoch, rollouts[i], scores[i])
			}
		}
		c := activities.DPOChunk{Job: g.job, Epoch: epoch, From: at, Reference: reference, Rollouts: rollouts, Scores: scores}
		at = ok(g.stages.TrainDPO(ctx, c, quiet{}))(g).Checkpoint
		name := fmt.Sprintf("oft/%d", epoch)
		average := ""
		if mean {
			average = name + "/mean"
		}
		g.trained(name, at, name, average, begin)
		steps = append(steps, g.want.OFT[epoch].Steps...)
	}
	g.steps(run.StageOFT, steps)
	return at
}

// given puts the case's boxes and rewards into the scores of a shard.
func (g *goldenRun) given(epoch int, rollouts, scores run.ObjectRef) run.ObjectRef {
	g.Helper()
	want := g.want.OFT[epoch]
	var s struct {
		Rewards  [][]float64 `json:"rewards"`
		Subjects [][]any     `json:"subjects"`
	}
	if err := json.Unmarshal(ok(store.Read(context.Background(), g.objects, scores))(g), &s); err != nil {
		g.Fatal(err)
	}
	_, prompts := g.rollouts(rollouts)
	for p, prompt := range prompts {
		at := prompt.Number - want.Prompts[0].Number
		s.Rewards[p] = want.Rewards[at]
		for k, b := range want.Boxes[at] {
			s.Subjects[p][k] = map[string]any{"masked": true, "box": map[string]float64{"CX": b[0], "CY": b[1], "W": b[2], "H": b[3]}}
		}
	}
	write := func(w io.Writer) error { return json.NewEncoder(w).Encode(s) }
	return ok(store.Write(context.Background(), g.objects, scores.Key+"-given", write))(g)
}

// evaluate measures variants of the case's tuples and compares scores, the first pictures and the summary.
func (g *goldenRun) evaluate(at map[run.Variant]run.CheckpointRef) {
	g.Helper()
	var parts []activities.EvalPart
	for _, v := range run.Variants() {
		if _, wanted := at[v]; !wanted {
			continue
		}
		c := activities.EvalShard{Job: g.job, Variant: v, Checkpoint: at[v], Split: "test_S", Shards: 1, Of: len(at)}
		part := ok(g.stages.Evaluate(context.Background(), c, quiet{}))(g)
		parts = append(parts, part)
		g.measured(v, part)
		g.quick(c)
	}
	for _, r := range ok(g.stages.Summarise(context.Background(), activities.SummaryJob{Job: g.job, Parts: parts}, quiet{}))(g) {
		want := g.want.Results[r.Variant]
		for name, got := range map[string]float64{"ip": r.IP, "ep": r.EP, "sp": r.SP, "nd": r.ND, "ri": r.RI} {
			if math.Abs(got-want[name]) > 0.005 {
				g.Errorf("%s %s: %v, want %v", r.Variant, strings.ToUpper(name), got, want[name])
			}
		}
	}
}

// quick compares the small evaluation during training: the first pictures of the first tuples' implicit prompts.
func (g *goldenRun) quick(c activities.EvalShard) {
	g.Helper()
	c.Quick = true
	during, sum := g.config.Eval.During, 0.
	for _, tuple := range g.want.Eval[c.Variant][:during.Tuples] {
		for _, score := range tuple["implicit"][:during.Pictures] {
			sum += score / float64(during.Tuples*during.Pictures)
		}
	}
	if q := ok(g.stages.Evaluate(context.Background(), c, quiet{}))(g).Quick; math.Abs(q.IP-sum) > scoreSlack {
		g.Errorf("%s, quick: IP %v, want %v", c.Variant, q.IP, sum)
	}
}

// measured compares one variant's part.
func (g *goldenRun) measured(v run.Variant, part activities.EvalPart) {
	g.Helper()
	var got struct {
		Tuples []map[string]json.RawMessage
		Shown  map[int][]byte
	}
	if err := json.Unmarshal(ok(store.Read(context.Background(), g.objects, part.Data))(g), &got); err != nil {
		g.Fatal(err)
	}
	if len(got.Tuples) != len(g.want.Eval[v]) {
		g.Fatalf("%s: %d tuples, want %d", v, len(got.Tuples), len(g.want.Eval[v]))
	}
	first := ok(g.arrays.Bytes(fmt.Sprintf("eval/%s/first", v)))(g)
	for i, tuple := range got.Tuples {
		for kind, want := range g.want.Eval[v][i] {
			var pictures []struct{ Score float64 }
			if err := json.Unmarshal(tuple[kind], &pictures); err != nil {
				g.Fatal(err)
			}
			if len(pictures) != len(want) {
				g.Fatalf("%s tuple %d: %d %s pictures, want %d", v, i, len(pictures), kind, len(want))
			}
			for k, p := range pictures {
				if math.Abs(p.Score-want[k]) > scoreSlack {
					g.Errorf("%s tuple %d, %s picture %d: score %v, want %v", v, i, kind, k, p.Score, want[k])
				}
			}
		}
		shown := ok(picture.Decode(got.Shown[i]))(g)
		for j, level := range first[i*len(shown.Pix):][:len(shown.Pix)] {
			if d := int(level) - int(shown.Pix[j]); d < -1 || d > 1 {
				g.Errorf("%s tuple %d: level %d of the picture is %d, want %d", v, i, j, shown.Pix[j], level)
				break
			}
		}
	}
}
