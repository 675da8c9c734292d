package sampling

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/dataset/world"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/reward"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/worker/opened"
	"github.com/sciflux/sciflux/worker/pairs"
)

// Score rates the pictures of one shard and finds their subjects. See activities.Sampler.
func Score(ctx context.Context, r *opened.Run, c activities.ScoreShard, m activities.Monitor) (activities.ScoreResult, error) {
	key := strings.Replace(c.Rollouts.Key, "/rollouts-", "/scores-", 1)
	if ref, ok, err := store.Finished(ctx, r.Objects, key); ok || err != nil {
		if err != nil {
			return activities.ScoreResult{}, err
		}
		sc, err := pairs.ReadScores(ctx, r.Objects, ref)
		return activities.ScoreResult{Scores: ref, Summary: sc.Summary}, err
	}
	rollouts, err := pairs.ReadRollouts(ctx, r.Objects, c.Rollouts)
	if err != nil {
		return activities.ScoreResult{}, err
	}
	start := time.Now()
	sc, err := score(ctx, r, rollouts, detectorOf(r, rollouts.Prompts), m.Alive)
	if err != nil {
		return activities.ScoreResult{}, err
	}
	m.Report(run.Progress{Stage: run.StageOFT, Epoch: c.Epoch, Note: "scoring", StepSeconds: time.Since(start).Seconds(), Reward: sc.Summary.RewardMean, Masks: sc.Summary.Masks, At: time.Now()})
	text, err := json.Marshal(sc)
	if err != nil {
		return activities.ScoreResult{}, err
	}
	ref, err := store.Finish(ctx, r.Objects, key, func(w io.Writer) error { _, err := w.Write(text); return err })
	return activities.ScoreResult{Scores: ref, Summary: sc.Summary}, err
}

// score asks the reward for every picture, always against its own prompt, and the masker where its subject is.
func score(ctx context.Context, r *opened.Run, rollouts *pairs.Rollouts, d reward.Detector, alive func()) (pairs.Scores, error) {
	var sc pairs.Scores
	if len(rollouts.Prompts) == 0 {
		return sc, nil
	}
	samples := r.Recipe.Config.OFT.ImagesPerPrompt
	rewards, err := rate(ctx, r, each(rollouts.Prompts, samples, func(p pairs.Prompt) string { return p.Text }), rollouts.Images, alive)
	if err != nil {
		return sc, err
	}
	masker, err := r.Recipe.Masker(d)
	if err != nil {
		return sc, err
	}
	subjects, err := masker.Find(ctx, rollouts.Images, each(rollouts.Prompts, samples, func(p pairs.Prompt) string { return p.Object }))
	if err != nil {
		return sc, err
	}
	for p := range rollouts.Prompts {
		sc.Rewards = append(sc.Rewards, rewards[p*samples:(p+1)*samples])
		sc.Subjects = append(sc.Subjects, subjects[p*samples:(p+1)*samples])
	}
	sc.Summary = r.Recipe.Summary(sc.Rewards)
	sc.Summary.Masks = masker.Count(subjects, r.Recipe.Grid)
	return sc, nil
}

// rate scores pictures in the groups in which they were drawn: the last bits of a score, too, depend on the size of its
// batch, and groups are the same for every number of shards.
func rate(ctx context.Context, r *opened.Run, texts []string, images reward.Images, alive func()) ([]float64, error) {
	scores := make([]float64, 0, images.B)
	group := r.Recipe.Together() * r.Recipe.Config.OFT.ImagesPerPrompt
	for from := 0; from < images.B; from += group {
		to := min(from+group, images.B)
		some, err := r.Models.Scorer.Score(ctx, texts[from:to], images.Slice(from, to))
		if err != nil {
			return nil, err
		}
		alive()
		scores = append(scores, some...)
	}
	return scores, nil
}

// each repeats what is said of a prompt for its samples.
func each(prompts []pairs.Prompt, samples int, of func(pairs.Prompt) string) []string {
	out := make([]string, 0, len(prompts)*samples)
	for _, p := range prompts {
		for range samples {
			out = append(out, of(p))
		}
	}
	return out
}

// detectorOf finds subjects in pictures of the world, which is told what tuple each picture is of; other data has none.
func detectorOf(r *opened.Run, prompts []pairs.Prompt) reward.Detector {
	if r.Data.Judge == nil || r.Recipe.Config.OFT.Mask.Policy != reward.MaskDetector {
		return nil
	}
	d := worldDetector{judge: r.Data.Judge}
	for _, p := range prompts {
		if p.Row < 0 {
			return nil // a prompt of a file: nobody knows what it should show
		}
		for range r.Recipe.Config.OFT.ImagesPerPrompt {
			d.tuples = append(d.tuples, r.Data.Rows[p.Row].Tuple)
		}
	}
	return d
}

// worldDetector finds subjects in pictures of the world, by pixels alone.
type worldDetector struct {
	judge  *world.Judge
	tuples []world.Tuple // of the pictures, in order
}

// Detect implements reward.Detector.
func (w worldDetector) Detect(_ context.Context, images reward.Images, objects []string) ([][]flow.Box, error) {
	found := make([][]flow.Box, images.B)
	for b := range images.B {
		one := images.Slice(b, b+1)
		box, ok, err := w.judge.Detect(world.FromPlanes(one.Data, one.W), w.tuples[b])
		if err != nil {
			return nil, fmt.Errorf("find %s: %w", objects[b], err)
		}
		if ok {
			found[b] = []flow.Box{{CX: float32(box.CX), CY: float32(box.CY), W: float32(box.W), H: float32(box.H)}}
		}
	}
	return found, nil
}
