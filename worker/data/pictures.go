package data

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"runtime"
	"sync"

	"github.com/sciflux/sciflux/run"
)

// Side is that of the square training pictures, pixels.
func (s *Set) Side() int { return s.cfg.Data.Resolution }

// Planes are picture k of a training row as the autoencoder takes it: the middle square at the config's resolution,
// [3, side, side] in −1…1.
func (s *Set) Planes(row Row, k int) ([]float32, error) {
	c := s.cfg.Data
	pic, err := row.right[k].Decode()
	if err != nil {
		return nil, rowError(c.Source, c.TrainSplit, row.Index, err.Error())
	}
	square, err := pic.Square(c.Resolution)
	if err != nil {
		return nil, rowError(c.Source, c.TrainSplit, row.Index, err.Error())
	}
	cells := c.Resolution * c.Resolution
	planes := make([]float32, 3*cells)
	for i := range cells {
		for colour := range 3 {
			planes[colour*cells+i] = float32(square.Pix[3*i+colour])/127.5 - 1
		}
	}
	return planes, nil
}

// checkedAtOnce is how many pictures are decoded between two reports.
const checkedAtOnce = 64

// pictureKey names a training picture.
type pictureKey struct{ row, picture int }

// CheckPictures decodes the pictures that SFT will read, so that a broken one is told before training and not in the
// middle of it. tell hears how far it is, and may end it with an error. The world's own were drawn by this program.
func (s *Set) CheckPictures(ctx context.Context, tell func(done, total int) error) error {
	if s.cfg.Data.Source == "world" || s.cfg.SFT.Steps == 0 {
		return nil
	}
	var all []pictureKey
	for i, r := range s.Rows {
		for k := range r.Pictures() {
			all = append(all, pictureKey{i, k})
		}
	}
	for from := 0; from < len(all); from += checkedAtOnce {
		part := all[from:min(len(all), from+checkedAtOnce)]
		if err := s.checkPart(part); err != nil {
			return err
		}
		if err := tell(from+len(part), len(all)); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// checkPart decodes some pictures at once and returns the error of the first broken one.
func (s *Set) checkPart(part []pictureKey) error {
	errs := make([]error, len(part))
	var wg sync.WaitGroup
	workers := min(runtime.GOMAXPROCS(0), len(part))
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(part); i += workers {
				_, errs[i] = s.Rows[part[i].row].right[part[i].picture].Decode()
			}
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			r := s.Rows[part[i].row]
			return run.Errorf(run.ClassData, "read data set", s.cfg.Data.Source, "write the picture again or remove the row; `sciflux data inspect` lists all such rows",
				"row %d of %s: explicit picture %d: %w", r.Index, s.cfg.Data.TrainSplit, part[i].picture, err)
		}
	}
	return nil
}

// PictureHash names the content of picture k of a training row, as its file has it.
func (s *Set) PictureHash(row Row, k int) (string, error) {
	key := pictureKey{row.Index, k}
	s.mu.Lock()
	defer s.mu.Unlock()
	if h, ok := s.hashes[key]; ok {
		return h, nil
	}
	data, err := row.right[k].Data()
	if err != nil {
		return "", rowError(s.cfg.Data.Source, s.cfg.Data.TrainSplit, row.Index, err.Error())
	}
	sum := sha256.Sum256(data)
	s.hashes[key] = hex.EncodeToString(sum[:])
	return s.hashes[key], nil
}
