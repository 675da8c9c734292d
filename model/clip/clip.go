// Package clip holds CLIP's text tower, FLUX's first text encoder, and the two towers of CLIP ViT-H, the structure of
// SciScore.
package clip

import (
	"context"
	"fmt"
	"math"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/model/weights"
	"github.com/sciflux/sciflux/store/safetensors"
)

// CLIP is both towers with their projections into the shared space. Its methods may be called by several goroutines.
type CLIP struct {
	Config     Config
	Text       *Text
	Vision     *Vision
	LogitScale float32  // logarithm of the temperature
	Notes      []string // which tensors are not used as the file has them
	be         engine.Backend
	close      func() error

	textProjection, visualProjection *engine.Weight
}

// Open loads a CLIPModel folder: config.json and model.safetensors, one file or shards. Close it when done: weights may
// be views of the files.
func Open(dir string, be engine.Backend, storage weights.Storage) (*CLIP, error) {
	config, err := ReadConfig(dir)
	if err != nil {
		return nil, fmt.Errorf("load clip model: %w", err)
	}
	src, err := safetensors.OpenDir(dir, "model")
	if err != nil {
		return nil, fmt.Errorf("load clip model %s: %w", dir, err)
	}
	m := &CLIP{
		Config: config, be: be, close: src.Close,
		Text:   &Text{Config: config.Text, be: be, close: func() error { return nil }},
		Vision: &Vision{Config: config.Vision, be: be},
	}
	l := weights.NewLoader(src, storage)
	l.Optional(weights.PositionIDs)
	m.declare(l)
	if err := l.Load(); err != nil {
		src.Close()
		return nil, fmt.Errorf("load clip model %s: %w", dir, err)
	}
	m.Notes = l.Notes()
	m.Vision.prepare()
	return m, nil
}

func (m *CLIP) declare(l *weights.Loader) {
	c := m.Config
	m.Text.declare(l)
	m.Vision.declare(l)
	l.Matrix(&m.textProjection, "text_projection.weight", c.Projection, c.Text.Width)
	l.Matrix(&m.visualProjection, "visual_projection.weight", c.Projection, c.Vision.Width)
	l.Scalar(&m.LogitScale, "logit_scale")
}

// Close releases the files and the memory of the backend.
func (m *CLIP) Close() error {
	if t := m.Vision.start; t != nil {
		m.be.Free(t)
	}
	return m.close()
}

// TextFeatures gives the projected end-of-text states, of length 1: [B, projection]. ids are rows of one length.
func (m *CLIP) TextFeatures(ctx context.Context, ids []int32, length int) ([]float32, error) {
	_, pooled, err := m.Text.Forward(ctx, ids, length)
	if err != nil {
		return nil, err
	}
	return m.project(pooled, m.textProjection)
}

// ImageFeatures gives the projected class states, of length 1: [B, projection]. patches as for Vision.Forward.
func (m *CLIP) ImageFeatures(ctx context.Context, patches []float32) ([]float32, error) {
	class, err := m.Vision.Forward(ctx, patches)
	if err != nil {
		return nil, err
	}
	return m.project(class, m.visualProjection)
}

// project multiplies by a projection and divides each row by its length.
func (m *CLIP) project(states *engine.Tensor, projection *engine.Weight) (features []float32, err error) {
	defer engine.Guard(&err)
	be := engine.NewScope(m.be)
	defer be.Close()
	x, y := be.Alloc(states.Shape...), be.Alloc(states.Rows(), projection.Out)
	be.Upload(x, states.Floats())
	be.Linear(engine.All(y), engine.All(x), projection, nil, 0)
	features = make([]float32, y.Len())
	be.Download(features, y)
	for from := 0; from < len(features); from += projection.Out {
		row := features[from : from+projection.Out]
		var sum float64
		for _, v := range row {
			sum += float64(v) * float64(v)
		}
		length := float32(math.Sqrt(sum))
		for k := range row {
			row[k] /= length
		}
	}
	return features, nil
}

// Score is the model's similarity of features of length 1: exp(logit_scale)·⟨text, image⟩.
func (m *CLIP) Score(text, image []float32) float64 {
	var dot float64
	for k, t := range text {
		dot += float64(t) * float64(image[k])
	}
	return math.Exp(float64(m.LogitScale)) * dot
}
