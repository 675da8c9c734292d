package data

import (
	"context"
	"sync"

	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/dataset/world"
	"github.com/sciflux/sciflux/reward"
	"github.com/sciflux/sciflux/run"
)

// Set is the data of one run.
type Set struct {
	Rows    []Row    // of the training split
	Prompts []Prompt // of stage 2
	Judge   *world.Judge

	cfg    configs.Config
	folder string // of the data files

	mu     sync.Mutex
	tests  map[string][]Row
	hashes map[pictureKey]string // contents of pictures that were asked for
}

// Open reads the training rows and the prompts of stage 2, drawing the world into a folder of dir first where the config
// asks for it. Judge is nil for data that is not the world's.
func Open(ctx context.Context, cfg configs.Config, dir string) (*Set, error) {
	s := &Set{cfg: cfg, folder: cfg.Data.Source, tests: map[string][]Row{}, hashes: map[pictureKey]string{}}
	var err error
	if cfg.Data.Source == "world" {
		if s.folder, err = drawWorld(ctx, dir, cfg.Data.Resolution); err != nil {
			return nil, err
		}
	}
	c := cfg.Data
	var isWorld bool
	if s.Rows, isWorld, err = readRows(s.folder, c.TrainSplit, c.TrainTuples); err != nil {
		return nil, err
	}
	if isWorld {
		s.Judge = world.NewJudge()
	}
	for _, r := range s.Rows {
		if r.Pictures() == 0 {
			return nil, rowError(s.folder, c.TrainSplit, r.Index, "it has no explicit picture; SFT trains on right pictures")
		}
	}
	s.Prompts, err = s.prompts()
	return s, err
}

// Test gives the rows that a split is evaluated on.
func (s *Set) Test(split string) ([]Row, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if rows, ok := s.tests[split]; ok {
		return rows, nil
	}
	rows, _, err := readRows(s.folder, split, 0)
	if err != nil {
		return nil, err
	}
	if limit := s.cfg.Eval.Tuples; limit > 0 {
		rows = spread(rows, limit)
	}
	s.tests[split] = rows
	return rows, nil
}

// prompts are those of the config's file, else the rows' own implicit ones.
func (s *Set) prompts() ([]Prompt, error) {
	var out []Prompt
	from := s.folder
	if path := s.cfg.Data.Prompts; path != "" {
		var err error
		if out, err = readPrompts(path); err != nil {
			return nil, err
		}
		from = path
	} else {
		for i, r := range s.Rows {
			out = append(out, Prompt{Text: r.Implicit[0], Object: r.Object, Row: i})
		}
	}
	if s.cfg.OFT.Epochs == 0 {
		return out, nil
	}
	if len(out) == 0 {
		return nil, run.Errorf(run.ClassData, "read prompts", from, "", "there are none")
	}
	for i, p := range out {
		if p.Object == "" && s.cfg.OFT.Mask.Policy == reward.MaskDetector {
			return nil, run.Errorf(run.ClassData, "read prompts", from, "add the object, or set oft.mask.policy to full or none", "prompt %d %q names no object for the detector", i, p.Text)
		}
	}
	return out, nil
}
