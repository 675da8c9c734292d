package data

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"sync"

	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/dataset"
	"github.com/sciflux/sciflux/dataset/world"
	"github.com/sciflux/sciflux/eval"
	"github.com/sciflux/sciflux/reward"
	"github.com/sciflux/sciflux/run"
)

// Set is the data of one run.
type Set struct {
	Rows    []Row    // of the training split
	Prompts []Prompt // of stage 2
	Judge   *world.Judge

	cfg    configs.Config
	folder string       // of the data files
	train  *dataset.Set // reads the pictures of Rows

	mu     sync.Mutex
	tests  map[string][]Row
	hashes map[pictureKey]string // contents of pictures that were asked for
}

// Open reads the training rows and the prompts of stage 2, drawing the world into a folder of dir first where the config
// asks for it. Judge is nil for data that is not the world's.
func Open(ctx context.Context, cfg configs.Config, dir string) (s *Set, err error) {
	s = &Set{cfg: cfg, folder: cfg.Data.Source, tests: map[string][]Row{}, hashes: map[pictureKey]string{}}
	if cfg.Data.Source == "world" {
		if s.folder, err = drawWorld(ctx, dir, cfg.Data.Resolution); err != nil {
			return nil, err
		}
	}
	c := cfg.Data
	if s.train, err = s.open(ctx, c.TrainSplit); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	var isWorld bool
	if s.Rows, isWorld, err = rowsOf(s.train, c.TrainTuples); err != nil {
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

// Close closes the files; rows stay, their pictures do not.
func (s *Set) Close() error { return s.train.Close() }

// Identity names the content of what is trained on: texts and pictures of the training rows. It reads every picture once,
// unless cacheDir remembers the files; tell hears how far it is. The world is named by its version.
func (s *Set) Identity(ctx context.Context, cacheDir string, tell func(done, total int)) (string, error) {
	if s.cfg.Data.Source == "world" {
		return worldName(s.Side()), nil
	}
	id, err := s.train.Identity(ctx, dataset.IdentityOptions{Rows: s.cfg.Data.TrainTuples, Cache: cacheDir, Progress: tell})
	if err != nil {
		return "", run.Errorf(run.ClassData, "read data set", s.folder, "", "%w", err)
	}
	return id, nil
}

// PromptsIdentity names the prompts of stage 2.
func (s *Set) PromptsIdentity() string { return fingerprint(s.Prompts) }

// TestIdentity names what evaluations read: the texts of the test rows.
func (s *Set) TestIdentity(ctx context.Context) (string, error) {
	var all [][]Row
	for _, split := range s.cfg.Eval.Splits {
		rows, err := s.Test(ctx, split)
		if err != nil {
			return "", err
		}
		all = append(all, rows)
	}
	return fingerprint(all), nil
}

// fingerprint is a hash over the exported fields of values.
func fingerprint(v any) string {
	h := sha256.New()
	_ = json.NewEncoder(h).Encode(v) // texts and numbers: nothing that JSON cannot say
	return hex.EncodeToString(h.Sum(nil))
}

// TestTexts are the prompts that evaluations draw.
func (s *Set) TestTexts(ctx context.Context) ([]string, error) {
	var all []string
	for _, split := range s.cfg.Eval.Splits {
		rows, err := s.Test(ctx, split)
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			for _, k := range eval.Kinds() {
				all = append(all, r.Prompt(k))
			}
		}
	}
	return all, nil
}

// Test gives the rows that a split is evaluated on.
func (s *Set) Test(ctx context.Context, split string) ([]Row, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if rows, ok := s.tests[split]; ok {
		return rows, nil
	}
	set, err := s.open(ctx, split)
	if err != nil {
		return nil, err
	}
	defer set.Close() // evaluations read texts alone
	rows, _, err := rowsOf(set, 0)
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
		list, err := dataset.ReadPrompts(path)
		if err != nil {
			return nil, run.Errorf(run.ClassData, "use data.prompts", "", "", "%w", err)
		}
		for _, p := range list {
			out = append(out, Prompt{Text: p.Text, Object: p.Object, Row: -1})
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
