package rehearsal

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/run"
)

// Disk keeps manifests as files, so that they outlive the process that made them. A manifest is committed once: of
// several processes that try, the first one counts.
type Disk struct {
	Dir string
}

// commit stores r under key unless there is something already, and returns what is stored.
func (d *Disk) commit(key string, r activities.ChunkResult) (activities.ChunkResult, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return r, err
	}
	path := filepath.Join(d.Dir, key+".json")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return r, err
	}
	draft, err := os.CreateTemp(d.Dir, "draft-*")
	if err != nil {
		return r, err
	}
	defer os.Remove(draft.Name())
	if _, err := draft.Write(text); err != nil {
		return r, err
	}
	if err := draft.Close(); err != nil {
		return r, err
	}
	if err := os.Link(draft.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return r, err
	}
	return d.read(path)
}

// mark notes the step that was just taken, so that a test can act in the middle of a chunk.
func (d *Disk) mark(step int) error {
	return os.WriteFile(filepath.Join(d.Dir, fmt.Sprintf("step-%06d", step)), nil, 0o644)
}

func (d *Disk) read(path string) (r activities.ChunkResult, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(text, &r)
}

// newest is the last checkpoint of a stage with a step in (after, upTo], or none.
func (d *Disk) newest(stage run.Stage, after, upTo int) (activities.ChunkResult, bool, error) {
	paths, err := filepath.Glob(filepath.Join(d.Dir, string(stage), "*.json"))
	if err != nil {
		return activities.ChunkResult{}, false, err
	}
	sort.Sort(sort.Reverse(sort.StringSlice(paths)))
	for _, p := range paths {
		var step int
		if _, err := fmt.Sscanf(strings.TrimSuffix(filepath.Base(p), ".json"), "%d", &step); err != nil {
			return activities.ChunkResult{}, false, err
		}
		if step > after && step <= upTo {
			r, err := d.read(p)
			return r, err == nil, err
		}
	}
	return activities.ChunkResult{}, false, nil
}

// position says how far a run came.
func (d *Disk) position() (p activities.Position, err error) {
	const anywhere = 1 << 30
	for _, s := range []struct {
		stage run.Stage
		into  *run.CheckpointRef
	}{{run.StageSFT, &p.SFT}, {run.StageOFT, &p.OFT}, {run.StageCompare, &p.Compare}} {
		r, found, err := d.newest(s.stage, 0, anywhere)
		if err != nil {
			return p, err
		}
		if found {
			*s.into = r.Checkpoint
		}
	}
	return p, nil
}
