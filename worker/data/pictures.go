package data

import (
	"context"
	"crypto/sha256"
	"encoding/hex"

	"github.com/sciflux/sciflux/dataset"
	"github.com/sciflux/sciflux/run"
)

// Side is that of the square training pictures, pixels.
func (s *Set) Side() int { return s.cfg.Data.Resolution }

// Planes are picture k of a training row as the autoencoder takes it: the middle square at the config's resolution,
// [3, side, side] in −1…1.
func (s *Set) Planes(ctx context.Context, row Row, k int) ([]float32, error) {
	c := s.cfg.Data
	pic, err := row.right[k].Decode(ctx)
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

// pictureKey names a training picture.
type pictureKey struct{ row, picture int }

// PictureHash names the content of picture k of a training row, as its file has it.
func (s *Set) PictureHash(ctx context.Context, row Row, k int) (string, error) {
	key := pictureKey{row.Index, k}
	s.mu.Lock()
	hash, ok := s.hashes[key]
	s.mu.Unlock()
	if ok {
		return hash, nil
	}
	text, err := row.right[k].Data(ctx)
	if err != nil {
		return "", rowError(s.cfg.Data.Source, s.cfg.Data.TrainSplit, row.Index, err.Error())
	}
	sum := sha256.Sum256(text)
	hash = hex.EncodeToString(sum[:])
	s.mu.Lock()
	s.hashes[key] = hash
	s.mu.Unlock()
	return hash, nil
}

// CheckPictures decodes the pictures that SFT will read, so that a broken one, or one of an extreme shape, is told before
// training and not in the middle of it. tell hears how many rows are looked at, and may end it with an error. The world's
// own were drawn by this program.
func (s *Set) CheckPictures(ctx context.Context, tell func(done, total int) error) error {
	c := s.cfg.Data
	if c.Source == "world" || s.cfg.SFT.Steps == 0 {
		return nil
	}
	var told error
	err := s.train.Check(ctx, dataset.Needs{Explicit: true, Side: c.Resolution, Rows: c.TrainTuples, Progress: func(done, total int) error {
		told = tell(done, total)
		return told
	}})
	if err != nil && told == nil && ctx.Err() == nil {
		err = run.Errorf(run.ClassData, "use data.source", "", "`sciflux data inspect` lists all such rows", "%w", err)
	}
	return err
}
