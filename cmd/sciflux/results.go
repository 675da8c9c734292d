package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
)

// copyResults copies what a run made into its folder: report, published files and metrics. The adapter is checked against
// its hash. The report tells when and where it was written, so of several processes that finish the same run the last one's
// counts. It returns the paths by what they are.
func (s *site) copyResults(ctx context.Context, state run.State) (map[string]string, error) {
	dir, keys := runDir(s.dir, state.Run), run.Keys(state.Run)
	files := map[string]string{"config": filepath.Join(dir, "config.yaml")}
	for _, prefix := range []string{keys.Report(), keys.Export()} {
		if err := s.copyBelow(ctx, prefix, filepath.Join(dir, filepath.Base(prefix))); err != nil {
			return files, err
		}
	}
	local := func(ref run.ObjectRef) string {
		return filepath.Join(dir, filepath.FromSlash(strings.TrimPrefix(ref.Key, "runs/"+state.Run+"/")))
	}
	if !state.Report.IsZero() {
		files["report"] = local(state.Report)
		if _, err := os.Stat(files["report"]); err != nil {
			return files, err
		}
	}
	if !state.Adapter.IsZero() {
		data, err := store.Read(ctx, s.objects, state.Adapter)
		if err != nil {
			return files, err
		}
		files["adapter"] = local(state.Adapter)
		if err := replace(files["adapter"], data); err != nil {
			return files, err
		}
	}
	files["metrics"] = filepath.Join(dir, "metrics.jsonl")
	return files, s.joinMetrics(ctx, keys.Metrics(), files["metrics"])
}

func (s *site) copyBelow(ctx context.Context, prefix, dir string) error {
	objects, err := s.objects.List(ctx, prefix)
	if err != nil {
		return err
	}
	for _, o := range objects {
		data, _, err := store.ReadAll(ctx, s.objects, o.Key)
		if err != nil {
			return err
		}
		if err := replace(filepath.Join(dir, filepath.FromSlash(strings.TrimPrefix(o.Key, prefix))), data); err != nil {
			return err
		}
	}
	return nil
}

// joinMetrics writes the metric files of all chunks, in the order of their names, into one.
func (s *site) joinMetrics(ctx context.Context, prefix, path string) error {
	objects, err := s.objects.List(ctx, prefix)
	if err != nil {
		return err
	}
	var all []byte
	for _, o := range objects {
		data, _, err := store.ReadAll(ctx, s.objects, o.Key)
		if err != nil {
			return err
		}
		all = append(all, data...)
	}
	return replace(path, all)
}

// replace writes a file so that readers see the old or the new one.
func replace(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("write %s: %w; is the disk full?", path, err)
	}
	return nil
}
