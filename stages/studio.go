package stages

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/dataset/world"
	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/model/lora"
	"github.com/sciflux/sciflux/model/pipeline"
	"github.com/sciflux/sciflux/model/weights"
	"github.com/sciflux/sciflux/random"
	"github.com/sciflux/sciflux/reward"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/trainer"
)

// Options are what a Studio works with.
type Options struct {
	Objects     store.Objects
	Backend     engine.Backend
	Dir         string // folder for what can be made again: drawn data, unpacked models
	Models      fs.FS  // the tiny models inside the binary: folders world and world-sciscore
	CodeVersion string
	Log         *slog.Logger
}

// Studio implements activities.Stages.
type Studio struct {
	options Options

	mu    sync.Mutex
	desks map[string]*desk // by config hash and run
}

var _ activities.Stages = (*Studio)(nil)

// New makes a studio. Nothing is opened before an activity asks.
func New(o Options) *Studio {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Studio{options: o, desks: map[string]*desk{}}
}

// Close releases what was opened.
func (s *Studio) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var first error
	for _, d := range s.desks {
		if err := d.pipe.Close(); err != nil && first == nil {
			first = err
		}
	}
	clear(s.desks)
	return first
}

// desk is everything one run's config names, opened. Its caches hold only what can be computed again.
type desk struct {
	studio  *Studio
	job     run.Job
	cfg     configs.Config
	be      engine.Backend
	pipe    *pipeline.Pipeline
	grid    flow.Grid
	tokens  int // T, length of encoded prompts
	rows    []row
	prompts []prompt
	scorer  reward.Scorer
	masker  *reward.Masker
	judge   *world.Judge // nil for data that is not the world's
	tests   map[string][]row

	mu    sync.Mutex // of what follows: a late attempt may still work beside the one that replaced it
	order struct {
		epoch int
		rows  []int
	}
	moments map[pictureKey]posterior
}

// desk opens, or finds opened, what the job's config names.
func (s *Studio) desk(ctx context.Context, job run.Job) (*desk, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := job.Run + " " + job.ConfigHash
	if d, ok := s.desks[key]; ok {
		return d, nil
	}
	text, _, err := store.ReadAll(ctx, s.options.Objects, job.ConfigKey)
	if err != nil {
		return nil, err
	}
	cfg, err := configs.Parse(string(text))
	if err != nil {
		return nil, run.Errorf(run.ClassConfig, "read config of run", job.Run, "", "%w", err)
	}
	if got := cfg.Hash(); got != job.ConfigHash {
		return nil, run.Errorf(run.ClassConfig, "read config of run", job.Run, "start the run again under another name", "its hash is %.12s, the run's is %.12s", got, job.ConfigHash)
	}
	d, err := s.open(ctx, job, cfg)
	if err != nil {
		return nil, err
	}
	s.desks[key] = d
	return d, nil
}

func (s *Studio) open(ctx context.Context, job run.Job, cfg configs.Config) (*desk, error) {
	d := &desk{studio: s, job: job, cfg: cfg, be: s.options.Backend, tests: map[string][]row{}, moments: map[pictureKey]posterior{}}
	folder, err := s.model(cfg.Model.Pipeline, "world")
	if err != nil {
		return nil, err
	}
	o := pipeline.Options{Storage: weights.Storages[cfg.Model.DType]}
	o.Compute, _ = engine.ComputeType(cfg.Model.Compute, d.be)
	if d.pipe, err = pipeline.Open(folder, d.be, o); err != nil {
		return nil, err
	}
	if err = d.furnish(ctx); err != nil {
		_ = d.pipe.Close()
		return nil, err
	}
	return d, nil
}

// furnish opens data, scorer and masks once the pipeline is there.
func (d *desk) furnish(ctx context.Context) error {
	var err error
	if err = d.pipe.Check(); err != nil {
		return err
	}
	if d.grid, err = d.pipe.Grid(d.cfg.Data.Resolution, d.cfg.Data.Resolution); err != nil {
		return run.Errorf(run.ClassConfig, "use", "data.resolution", "", "%w", err)
	}
	if d.tokens = d.cfg.Model.TextTokens; d.tokens == 0 {
		d.tokens = d.pipe.TextLength()
	}
	if err = d.openData(ctx); err != nil {
		return err
	}
	scorerFolder, err := d.studio.model(d.cfg.Reward.SciScore, "world-sciscore")
	if err != nil {
		return err
	}
	if d.scorer, err = reward.OpenSciScore(scorerFolder, d.be, reward.SciScoreOptions{Batch: d.cfg.Reward.Batch}); err != nil {
		return err
	}
	var detector reward.Detector
	if d.judge != nil {
		detector = worldDetector{}
	}
	m := d.cfg.OFT.Mask
	d.masker, err = reward.NewMasker(m.Policy, m.OnEmpty, d.forms(), detector)
	return err
}

func (d *desk) forms() flow.Forms {
	f := d.cfg.OFT.Forms
	return flow.Forms{Step: flow.Form(f.Step), Corners: flow.Form(f.Corners), Mean: flow.Form(f.Mean), Pairs: flow.Form(f.Pairs)}
}

func (d *desk) setting(guidance float64) trainer.Setting {
	return trainer.Setting{Grid: d.grid, Guidance: guidance}
}

// rollout is the plan of stage 2's rollouts.
func (d *desk) rollout() trainer.Plan {
	o := d.cfg.OFT
	p := d.plan(flow.Form(o.Forms.Step), o.Steps, o.SChurn)
	p.Noisy = o.NoisySteps
	return p
}

// plan is a rollout on the pipeline's own schedule.
func (d *desk) plan(form flow.Form, steps int, churn float64) trainer.Plan {
	sigmas := d.pipe.Scheduler.Sigmas(steps, d.grid.Tokens())
	return trainer.Plan{Form: form, Sigmas: sigmas, Timesteps: d.pipe.Scheduler.Timesteps(sigmas), Churn: churn}
}

// latentSize is the number of values of one packed latent, N·4Z.
func (d *desk) latentSize() int { return d.grid.Tokens() * d.pipe.Transformer.InChannels }

func (d *desk) objects() store.Objects { return d.studio.options.Objects }

func (d *desk) checkpoints() store.Checkpoints {
	return store.Checkpoints{Objects: d.objects(), Run: d.job.Run, Log: d.studio.options.Log}
}

// conditioning encodes prompts, one row each.
func (d *desk) conditioning(ctx context.Context, prompts []string) (trainer.Conditioning, error) {
	text, pooled, err := d.pipe.EncodePrompts(ctx, prompts, d.tokens)
	if err != nil {
		return trainer.Conditioning{}, err
	}
	return trainer.Conditioning{Text: text.Floats(), Pooled: pooled.Floats()}, nil
}

// decode turns packed latents of b samples into pictures.
func (d *desk) decode(ctx context.Context, latents []float32, b int) (reward.Images, error) {
	t, err := d.pipe.Decode(ctx, engine.Wrap(latents, b, d.grid.Tokens(), len(latents)/b/d.grid.Tokens()), d.grid)
	if err != nil {
		return reward.Images{}, err
	}
	return reward.Images{Data: t.Floats(), B: b, H: t.Shape[2], W: t.Shape[3]}, nil
}

func joinImages(a, b reward.Images) reward.Images {
	if a.B == 0 {
		return b
	}
	return reward.Images{Data: append(a.Data, b.Data...), B: a.B + b.B, H: a.H, W: a.W}
}

// initialAdapter is what a run starts from: the adapter of the config, or a fresh one whose A is drawn from the run's
// seed and whose B is zero.
func (d *desk) initialAdapter() (*lora.Adapter, error) {
	if path := d.cfg.Model.Adapter; path != "" {
		a, err := lora.Load(path, d.pipe.Transformer.Layers())
		if err != nil {
			return nil, run.Errorf(run.ClassModel, "read adapter", path, "", "%w", err)
		}
		return a, nil
	}
	c := d.cfg.LoRA
	a, err := lora.New(d.pipe.Transformer.Layers(), lora.Spec{Targets: c.Targets, Rank: c.Rank, Alpha: c.Alpha}, func(m lora.Module, a []float32) {
		key := random.New(d.job.Seed).Purpose("lora " + m.Name)
		initialA(c.Init, key, a, m)
	})
	if err != nil {
		return nil, run.Errorf(run.ClassConfig, "make adapter from", "lora.targets", "", "%w", err)
	}
	return a, nil
}

// policy is the trained adapter of a checkpoint, evaluated the one that is measured and exported: its average where
// there is one. nil stands for the base while the adapter is still zero.
func (d *desk) policy(ctx context.Context, ref run.CheckpointRef) (*lora.Adapter, error) {
	loaded, err := d.load(ctx, ref)
	if err != nil {
		return nil, err
	}
	if loaded.Parts[policyPart] != nil {
		return d.adapterOf(loaded, policyPart)
	}
	return d.adapterOf(loaded, store.AdapterPart)
}

func (d *desk) evaluated(ctx context.Context, ref run.CheckpointRef) (*lora.Adapter, error) {
	loaded, err := d.load(ctx, ref)
	if err != nil {
		return nil, err
	}
	return d.adapterOf(loaded, store.AdapterPart)
}

// record stores the metric events of a chunk that ends at a step.
func (d *desk) record(ctx context.Context, events []run.Event, stage run.Stage, step int) error {
	key := fmt.Sprintf("%s%s-%06d.jsonl", run.Keys(d.job.Run).Metrics(), stage, step)
	return putEvents(ctx, d.objects(), key, events)
}

func fmtEpoch(epoch int) string { return "epoch " + strconv.Itoa(epoch) }

// model is the folder of a model that the config names: a path, or the word that stands for one inside the binary,
// which is unpacked on first use.
func (s *Studio) model(name, builtin string) (string, error) {
	if name != "world" {
		return name, nil
	}
	return Unpack(s.options.Models, builtin, filepath.Join(s.options.Dir, "models"))
}

// Unpack writes a folder of files into dir under a name that holds their hash, unless it is there, and returns its path.
func Unpack(files fs.FS, folder, dir string) (string, error) {
	sub, err := fs.Sub(files, folder)
	if err != nil {
		return "", fmt.Errorf("unpack model %s: %w", folder, err)
	}
	sum, err := hashFiles(sub)
	if err != nil {
		return "", fmt.Errorf("unpack model %s: %w", folder, err)
	}
	final := filepath.Join(dir, folder+"-"+sum[:12])
	if _, err := os.Stat(final); err == nil {
		return final, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("unpack model %s: %w; is the disk full or read-only?", folder, err)
	}
	temp, err := os.MkdirTemp(dir, "."+folder+"-")
	if err != nil {
		return "", fmt.Errorf("unpack model %s: %w", folder, err)
	}
	defer os.RemoveAll(temp)
	if err := os.CopyFS(filepath.Join(temp, "x"), sub); err != nil {
		return "", fmt.Errorf("unpack model %s: %w; is the disk full?", folder, err)
	}
	if err := os.Rename(filepath.Join(temp, "x"), final); err != nil {
		if _, there := os.Stat(final); there == nil {
			return final, nil // another process was faster
		}
		return "", fmt.Errorf("unpack model %s: %w", folder, err)
	}
	return final, nil
}

func hashFiles(files fs.FS) (string, error) {
	h := sha256.New()
	err := fs.WalkDir(files, ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := fs.ReadFile(files, path)
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%s %d\n", path, len(data))
		h.Write(data)
		return nil
	})
	return hex.EncodeToString(h.Sum(nil)), err
}
