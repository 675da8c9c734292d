package models

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/model/pipeline"
	"github.com/sciflux/sciflux/model/weights"
	builtin "github.com/sciflux/sciflux/models"
	"github.com/sciflux/sciflux/reward"
	"github.com/sciflux/sciflux/worker/shelf"
)

// Keeper opens models and lends them. Its fields are set before its first use.
type Keeper struct {
	Backend engine.Backend
	Builtin fs.FS  // the tiny models inside the binary: folders world and world-sciscore
	Dir     string // where those are unpacked

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
	o := pipeline.Options{Storage: weights.Storages[c.Model.DType]}
	o.Compute, _ = engine.ComputeType(c.Model.Compute, k.Backend)
	p, put, err := take(ctx, &k.pipelines, folder, fmt.Sprint(o.Storage, o.Compute), func() (*pipeline.Pipeline, error) {
		tell("opening " + folder)
		return openPipeline(folder, k.Backend, o)
	})
	if err != nil {
		return err
	}
	s.compute = o.Compute
	s.Pipeline, s.release = p, append(s.release, put)
	if folder, err = k.Folder(c.Reward.SciScore, "world-sciscore"); err != nil {
		return err
	}
	scorer, put, err := take(ctx, &k.scorers, folder, fmt.Sprint(c.Reward.Batch), func() (*reward.SciScore, error) {
		tell("opening " + folder)
		return reward.OpenSciScore(folder, k.Backend, reward.SciScoreOptions{Batch: c.Reward.Batch})
	})
	if err != nil {
		return err
	}
	s.Scorer, s.release = scorer, append(s.release, put)
	return nil
}

// openPipeline opens a pipeline and looks into all of its parts, so that a broken text encoder is told at once.
func openPipeline(folder string, be engine.Backend, o pipeline.Options) (*pipeline.Pipeline, error) {
	p, err := pipeline.Open(folder, be, o)
	if err != nil {
		return nil, err
	}
	if err := p.Check(); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// take lends what a folder holds, opened with some options. The key says what the files are at the moment, so that files
// which are replaced are opened again.
func take[V any](ctx context.Context, s *shelf.Shelf[V], folder, options string, open func() (V, error)) (V, func(), error) {
	print, size := fingerprint(folder)
	return s.Take(ctx, folder+" "+options+" "+print, func() (V, int64, error) {
		v, err := open()
		return v, size, err
	})
}

// fingerprint names the files of a folder by path, size and time of change, and adds up their sizes. What cannot be read is
// left to whoever opens it.
func fingerprint(folder string) (string, int64) {
	h, size := sha256.New(), int64(0)
	_ = filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil
		}
		if info, err := os.Stat(path); err == nil {
			fmt.Fprintln(h, path, info.Size(), info.ModTime().UnixNano())
			size += info.Size()
		}
		return nil
	})
	return hex.EncodeToString(h.Sum(nil)), size
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
