package stages

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/model/lora"
	"github.com/sciflux/sciflux/random"
	"github.com/sciflux/sciflux/reward"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/store/safetensors"
	"github.com/sciflux/sciflux/trainer"
)

// prompt is one prompt of an epoch. Number counts prompts from the start of stage 2; random numbers are keyed by it.
type prompt struct {
	Number int    `json:"number"`
	Text   string `json:"text"`
	Object string `json:"object"`
	Row    int    `json:"row"` // of the training rows; -1 for a prompt of a file
}

// rollouts is one shard of an epoch's trajectories: Latents[p][s][step] of prompt p, sample s.
type rollouts struct {
	Prompts []prompt
	Latents [][][][]float32
	Images  reward.Images // prompts × samples, prompt-major
}

// scored is a score object: what training needs to know about each picture of a shard.
type scored struct {
	Rewards  [][]float64        `json:"rewards"`  // per prompt and sample
	Subjects [][]reward.Subject `json:"subjects"` // as Rewards
	Summary  run.PairSummary    `json:"summary"`
}

// together is how many prompts are drawn in one call. Groups are the same for every number of shards, because the last
// bits of a picture depend on the size of its batch.
func (d *desk) together() int {
	o := d.cfg.OFT
	return max(1, min(maxBatch/2/o.ImagesPerPrompt, (o.PromptsPerEpoch+1)/2))
}

// epochPrompts are the prompts of one shard of an epoch, whose groups take turns: the prompts take turns in permutations
// keyed by the round.
func (d *desk) epochPrompts(epoch, shard, shards int) []prompt {
	var out []prompt
	o, n := d.cfg.OFT, len(d.prompts)
	for i := range o.PromptsPerEpoch {
		if i/d.together()%shards != shard {
			continue
		}
		number := epoch*o.PromptsPerEpoch + i
		key := random.New(d.job.Seed).Purpose("oft prompts")
		p := d.prompts[key.Index(uint64(number / n)).Permutation(n)[number%n]]
		p.Number = number
		if p.Row >= 0 {
			wordings := d.rows[p.Row].Implicit
			p.Text = wordings[key.Purpose("wording").Intn(uint64(number), len(wordings))]
		}
		out = append(out, p)
	}
	return out
}

// GeneratePairs implements activities.Sampler.
func (s *Studio) GeneratePairs(ctx context.Context, c activities.PairShard, m activities.Monitor) (run.ObjectRef, error) {
	d, err := s.desk(ctx, c.Job)
	if err != nil {
		return run.ObjectRef{}, err
	}
	key := run.Keys(c.Job.Run).Pairs(c.Epoch, c.Shard, "rollouts")
	if ref, ok, err := d.made(ctx, key); ok || err != nil {
		return ref, err
	}
	policy, err := d.policy(ctx, c.Policy)
	if err != nil {
		return run.ObjectRef{}, err
	}
	r := rollouts{Prompts: d.epochPrompts(c.Epoch, c.Shard, c.Shards)}
	samples := d.cfg.OFT.ImagesPerPrompt
	perCall := d.together()
	for from := 0; from < len(r.Prompts); from += perCall {
		if stopping(m) {
			return run.ObjectRef{}, run.ErrPreempted
		}
		start := time.Now()
		part := r.Prompts[from:min(from+perCall, len(r.Prompts))]
		if err := d.rollOut(ctx, &r, part, samples, policy); err != nil {
			return run.ObjectRef{}, err
		}
		m.Report(run.Progress{Stage: run.StageOFT, Epoch: c.Epoch, Note: "generating", StepSeconds: time.Since(start).Seconds(), At: time.Now()})
	}
	return d.keep(ctx, key, func(w io.Writer) error { return r.write(w, d.grid) })
}

// maxBatch bounds the samples of one network call without gradient. It is fixed so that results do not depend on the
// machine.
const maxBatch = 32

// rollOut samples the prompts' pictures and appends them.
func (d *desk) rollOut(ctx context.Context, r *rollouts, part []prompt, samples int, policy *lora.Adapter) error {
	o := d.cfg.OFT
	texts := make([]string, 0, len(part)*samples)
	for _, p := range part {
		for range samples {
			texts = append(texts, p.Text)
		}
	}
	cond, err := d.conditioning(ctx, texts)
	if err != nil {
		return err
	}
	size := d.latentSize()
	noiseOf := func(purpose string, step int, dst []float32) {
		for b := range texts {
			p := part[b/samples]
			random.New(d.job.Seed).Purpose(purpose).Index(uint64(p.Number), uint64(b%samples), uint64(step)).Normal(dst[b*size : (b+1)*size])
		}
	}
	start := make([]float32, len(texts)*size)
	noiseOf("oft start", 0, start)
	t, err := trainer.Rollout(ctx, d.be, d.pipe.Transformer, policy, d.setting(o.Guidance), d.rollout(), start, len(texts), cond,
		func(step int, dst []float32) { noiseOf("oft noise", step, dst) })
	if err != nil {
		return err
	}
	for p := range part {
		paths := make([][][]float32, samples)
		for k := range paths {
			b := p*samples + k
			for _, x := range t.Latents {
				paths[k] = append(paths[k], x[b*size:(b+1)*size])
			}
		}
		r.Latents = append(r.Latents, paths)
	}
	images, err := d.decode(ctx, t.Latents[len(t.Latents)-1], len(texts))
	if err != nil {
		return err
	}
	r.Images = joinImages(r.Images, images)
	return nil
}

// write stores the shard: latents [P, S, n+1, N, C], pictures [P·S, 3, h, w] in 0…1, prompts as JSON in the header.
func (r *rollouts) write(w io.Writer, grid flow.Grid) error {
	text, err := json.Marshal(r.Prompts)
	if err != nil {
		return err
	}
	var flat []float32
	for _, p := range r.Latents {
		for _, s := range p {
			for _, x := range s {
				flat = append(flat, x...)
			}
		}
	}
	tensors := []safetensors.Tensor{}
	if len(r.Latents) > 0 {
		first := r.Latents[0]
		tokens := grid.Tokens()
		tensors = append(tensors,
			safetensors.Float32s("latents", safetensors.F32, []int{len(r.Latents), len(first), len(first[0]), tokens, len(first[0][0]) / tokens}, flat),
			safetensors.Float32s("pictures", safetensors.F32, []int{r.Images.B, 3, r.Images.H, r.Images.W}, r.Images.Data))
	}
	_, err = safetensors.Write(w, tensors, map[string]string{"prompts": string(text)})
	return err
}

func readRollouts(data []byte) (*rollouts, error) {
	f, err := safetensors.Parse("rollouts", data)
	if err != nil {
		return nil, err
	}
	r := &rollouts{}
	if err := json.Unmarshal([]byte(f.Metadata()["prompts"]), &r.Prompts); err != nil {
		return nil, fmt.Errorf("prompts of rollouts: %w", err)
	}
	if len(r.Prompts) == 0 {
		return r, nil
	}
	info, ok := f.Info("latents")
	pictures, okay := f.Info("pictures")
	if !ok || !okay || len(info.Shape) != 5 || len(pictures.Shape) != 4 || info.Shape[0] != len(r.Prompts) {
		return nil, fmt.Errorf("rollouts: latents %v and pictures %v do not belong to %d prompts", info.Shape, pictures.Shape, len(r.Prompts))
	}
	flat, err := f.Float32("latents", info.Shape...)
	if err != nil {
		return nil, err
	}
	samples, states, size := info.Shape[1], info.Shape[2], info.Shape[3]*info.Shape[4]
	for p := range r.Prompts {
		paths := make([][][]float32, samples)
		for k := range paths {
			for i := range states {
				at := ((p*samples+k)*states + i) * size
				paths[k] = append(paths[k], flat[at:at+size])
			}
		}
		r.Latents = append(r.Latents, paths)
	}
	pixels, err := f.Float32("pictures", pictures.Shape...)
	r.Images = reward.Images{B: pictures.Shape[0], H: pictures.Shape[2], W: pictures.Shape[3], Data: pixels}
	return r, err
}

// ScorePairs implements activities.Sampler.
func (s *Studio) ScorePairs(ctx context.Context, c activities.ScoreShard, m activities.Monitor) (activities.ScoreResult, error) {
	d, err := s.desk(ctx, c.Job)
	if err != nil {
		return activities.ScoreResult{}, err
	}
	key := run.Keys(c.Job.Run).Pairs(c.Epoch, c.Shard, "scores")
	if ref, ok, err := d.made(ctx, key); ok || err != nil {
		if err != nil {
			return activities.ScoreResult{}, err
		}
		sc, err := d.readScores(ctx, ref)
		return activities.ScoreResult{Scores: ref, Summary: sc.Summary}, err
	}
	data, err := store.Read(ctx, d.objects(), c.Rollouts)
	if err != nil {
		return activities.ScoreResult{}, err
	}
	r, err := readRollouts(data)
	if err != nil {
		return activities.ScoreResult{}, err
	}
	start := time.Now()
	sc, err := d.score(ctx, r)
	if err != nil {
		return activities.ScoreResult{}, err
	}
	m.Report(run.Progress{Stage: run.StageOFT, Epoch: c.Epoch, Note: "scoring", StepSeconds: time.Since(start).Seconds(), Reward: sc.Summary.RewardMean, Masks: sc.Summary.Masks, At: time.Now()})
	text, err := json.Marshal(sc)
	if err != nil {
		return activities.ScoreResult{}, err
	}
	ref, err := d.keep(ctx, key, func(w io.Writer) error { _, err := w.Write(text); return err })
	return activities.ScoreResult{Scores: ref, Summary: sc.Summary}, err
}

// score asks the reward for every picture, always against its own prompt, and the masker where its subject is.
func (d *desk) score(ctx context.Context, r *rollouts) (scored, error) {
	var sc scored
	samples := d.cfg.OFT.ImagesPerPrompt
	var texts, objects []string
	for _, p := range r.Prompts {
		for range samples {
			texts, objects = append(texts, p.Text), append(objects, p.Object)
		}
	}
	if len(texts) == 0 {
		return sc, nil
	}
	rewards, err := d.rate(ctx, texts, r.Images)
	if err != nil {
		return sc, err
	}
	subjects, err := d.subjects(ctx, r, objects)
	if err != nil {
		return sc, err
	}
	for p := range r.Prompts {
		sc.Rewards = append(sc.Rewards, rewards[p*samples:(p+1)*samples])
		sc.Subjects = append(sc.Subjects, subjects[p*samples:(p+1)*samples])
	}
	sc.Summary = summarise(sc.Rewards, d.cfg.OFT.MinGap)
	sc.Summary.Masks = d.masker.Count(subjects, d.grid)
	return sc, nil
}

// rate scores pictures in the groups in which they were drawn: the last bits of a score, too, depend on the size of its
// batch, and groups are the same for every number of shards.
func (d *desk) rate(ctx context.Context, texts []string, images reward.Images) ([]float64, error) {
	scores := make([]float64, 0, images.B)
	perCall, size := d.together()*d.cfg.OFT.ImagesPerPrompt, 3*images.H*images.W
	for from := 0; from < images.B; from += perCall {
		to := min(from+perCall, images.B)
		part := reward.Images{Data: images.Data[from*size : to*size], B: to - from, H: images.H, W: images.W}
		some, err := d.scorer.Score(ctx, texts[from:to], part)
		if err != nil {
			return nil, err
		}
		scores = append(scores, some...)
	}
	return scores, nil
}

// summarise counts pairs and ties and averages rewards.
func summarise(rewards [][]float64, minGap float64) run.PairSummary {
	s := run.PairSummary{Pairs: len(rewards)}
	n := 0
	for _, r := range rewards {
		low, high := r[0], r[0]
		for _, v := range r {
			s.RewardMean += v
			low, high = min(low, v), max(high, v)
			n++
		}
		s.RewardBest += high
		if high == low || high-low < minGap {
			s.Ties++
		}
	}
	if n > 0 {
		s.RewardMean /= float64(n)
		s.RewardBest /= float64(len(rewards))
	}
	return s
}

func (d *desk) readScores(ctx context.Context, ref run.ObjectRef) (scored, error) {
	var sc scored
	data, err := store.Read(ctx, d.objects(), ref)
	if err != nil {
		return sc, err
	}
	if err := json.Unmarshal(data, &sc); err != nil {
		return sc, fmt.Errorf("read scores %s: %w", ref.Key, err)
	}
	return sc, nil
}

// made finds an object that an earlier attempt of the same work stored whole: its reference lies beside it.
func (d *desk) made(ctx context.Context, key string) (run.ObjectRef, bool, error) {
	var ref run.ObjectRef
	text, _, err := store.ReadAll(ctx, d.objects(), key+".ref.json")
	if errors.Is(err, store.ErrNotExist) {
		return ref, false, nil
	}
	if err != nil {
		return ref, false, err
	}
	if json.Unmarshal(text, &ref) != nil || ref.Key != key {
		return ref, false, nil
	}
	err = store.Check(ctx, d.objects(), ref)
	if errors.Is(err, store.ErrNotExist) || errors.Is(err, store.ErrCorrupt) {
		return ref, false, nil
	}
	return ref, err == nil, err
}

// keep stores an object and then its reference, which says that it is whole. Racing attempts store equal bytes.
func (d *desk) keep(ctx context.Context, key string, write func(io.Writer) error) (run.ObjectRef, error) {
	ref, err := store.Write(ctx, d.objects(), key, write)
	if err != nil {
		return ref, err
	}
	text, err := json.Marshal(ref)
	if err != nil {
		return ref, err
	}
	_, err = d.objects().Put(ctx, key+".ref.json", bytes.NewReader(text))
	return ref, err
}
