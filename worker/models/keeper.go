package models

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/model/lora"
	"github.com/sciflux/sciflux/model/pipeline"
	"github.com/sciflux/sciflux/model/weights"
	builtin "github.com/sciflux/sciflux/models"
	"github.com/sciflux/sciflux/reward"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/worker/shelf"
)

// Keeper opens models and lends them. Its fields are set before its first use.
type Keeper struct {
	Backend engine.Backend
	Builtin fs.FS  // the tiny models inside the binary: folders world and world-sciscore
	Dir     string // where those are unpacked, and the identities of files are kept
	Texts   pipeline.TextCache

	pipelines shelf.Shelf[*pipeline.Pipeline]
	scorers   shelf.Shelf[*reward.SciScore]
}

// NewKeeper makes a keeper; bound limits the bytes of the files of models that nobody uses but that stay open.
func NewKeeper(be engine.Backend, builtin fs.FS, dir string, bound int64) *Keeper {
	k := &Keeper{Backend: be, Builtin: builtin, Dir: dir}
	k.pipelines.Bound, k.pipelines.Close = bound, (*pipeline.Pipeline).Close
	k.scorers.Bound, k.scorers.Close = bound, (*reward.SciScore).Close
	return k
}

// Set is the models of one run.
type Set struct {
	Backend  engine.Backend
	Pipeline *pipeline.Pipeline
	Scorer   reward.Scorer
	Inputs   map[string]string // identities of the files, by the key that names them

	compute engine.DType // of the products in the transformer's blocks

	release []func()
}

// Release gives the models back; nothing of the set may be used afterwards.
func (s *Set) Release() {
	for _, put := range s.release {
		put()
	}
	s.release = nil
}

// Open lends the models that a config names, opening those that are not open. tell hears what takes a while.
func (k *Keeper) Open(ctx context.Context, c configs.Config, tell func(note string)) (*Set, error) {
	s := &Set{Backend: k.Backend}
	if err := k.open(ctx, s, c, tell); err != nil {
		s.Release()
		return nil, err
	}
	return s, nil
}

func (k *Keeper) open(ctx context.Context, s *Set, c configs.Config, tell func(string)) error {
	folder, err := k.Folder(c.Model.Pipeline, "world")
	if err != nil {
		return err
	}
	o := pipeline.Options{Storage: weights.Storages[c.Model.DType], Identities: k.identities()}
	o.Compute, _ = engine.ComputeType(c.Model.Compute, k.Backend)
	if c.Data.CacheText {
		o.Texts = k.Texts
	}
	s.Inputs = map[string]string{}
	if s.Inputs["model.pipeline"], err = pipeline.Identity(ctx, folder, k.identityOptions(folder, tell)); err != nil {
		return run.Errorf(run.ClassModel, "use", "model.pipeline", "every part must come from one FLUX pipeline", "%w", err)
	}
	p, put, err := take(ctx, &k.pipelines, folder, fmt.Sprint(s.Inputs["model.pipeline"], o.Storage, o.Compute, c.Data.CacheText), func() (*pipeline.Pipeline, error) {
		tell("opening " + folder)
		return pipeline.Open(folder, k.Backend, o)
	})
	if err != nil {
		return err
	}
	s.compute = o.Compute
	s.Pipeline, s.release = p, append(s.release, put)
	if folder, err = k.Folder(c.Reward.SciScore, "world-sciscore"); err != nil {
		return err
	}
	if s.Inputs["reward.sciscore"], err = weights.FolderIdentity(ctx, folder, "model", k.identityOptions(folder, tell)); err != nil {
		return run.Errorf(run.ClassModel, "use", "reward.sciscore", "name a CLIP model folder", "%w", err)
	}
	scorer, put, err := take(ctx, &k.scorers, folder, fmt.Sprint(s.Inputs["reward.sciscore"], c.Reward.Batch), func() (*reward.SciScore, error) {
		tell("opening " + folder)
		return reward.OpenSciScore(folder, k.Backend, reward.SciScoreOptions{Batch: c.Reward.Batch})
	})
	if err != nil {
		return err
	}
	s.Scorer, s.release = scorer, append(s.release, put)
	return nil
}

// take lends what a folder holds; what names its content and the options that it is opened with.
func take[V any](ctx context.Context, s *shelf.Shelf[V], folder, what string, open func() (V, error)) (V, func(), error) {
	return s.Take(ctx, folder+" "+what, func() (V, int64, error) {
		v, err := open()
		return v, sizeOf(folder), err
	})
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// sizeOf adds up the files of a folder. What cannot be read is left to whoever opens it.
func sizeOf(folder string) (size int64) {
	if to, err := filepath.EvalSymlinks(folder); err == nil {
		folder = to // a link is not walked into
	}
	_ = filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil
		}
		if info, err := os.Stat(path); err == nil {
			size += info.Size()
		}
		return nil
	})
	return size
}

// identities is the folder that remembers the hashes of files which did not change.
func (k *Keeper) identities() string { return filepath.Join(k.Dir, "identities") }

// identityOptions tell how far the reading of large files is, once for each gigabyte.
func (k *Keeper) identityOptions(folder string, tell func(string)) weights.IdentityOptions {
	var told atomic.Int64
	return weights.IdentityOptions{Cache: k.identities(), Progress: func(done, total int64) {
		const step = 1e9
		if now := done / step; total > step && told.Swap(now) != now {
			tell(fmt.Sprintf("reading %s: %d of %d GB", folder, now, total/step))
		}
	}}
}

// AdapterIdentity names the content of an adapter: its file, or the weights and configs of its folder.
func (k *Keeper) AdapterIdentity(ctx context.Context, path string) (string, error) {
	o := weights.IdentityOptions{Cache: k.identities()}
	entries, err := os.ReadDir(path)
	if err != nil { // a file; a config of peft beside it decides its scale
		files := []string{path}
		if beside := filepath.Join(filepath.Dir(path), lora.PEFTConfigFile); exists(beside) {
			files = append(files, beside)
		}
		return weights.Identity(ctx, filepath.Dir(path), files, o)
	}
	var files []string
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); ext == ".safetensors" || ext == ".json" {
			files = append(files, filepath.Join(path, e.Name()))
		}
	}
	return weights.Identity(ctx, path, files, o)
}

// Folder is the folder of a model that a config names: a path, or the word that stands for one inside the binary, which
// is unpacked on first use.
func (k *Keeper) Folder(name, inside string) (string, error) {
	if name != "world" {
		return name, nil
	}
	return builtin.Unpack(k.Builtin, inside, filepath.Join(k.Dir, "models"))
}

// Close closes every model that nobody uses.
func (k *Keeper) Close() error { return errors.Join(k.pipelines.Clear(), k.scorers.Clear()) }
