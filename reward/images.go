// Package reward judges pictures: SciScore, and where in a picture the preference counts.
package reward

import (
	"context"
	"fmt"

	"github.com/sciflux/sciflux/picture"
)

// Images are B pictures [B, 3, H, W] with values in [0, 1], as a pipeline decodes them. Values may lie outside; whoever
// reads 8 bits clamps them.
type Images struct {
	Data    []float32
	B, H, W int
}

// Picture is picture i rounded to 8 bits, half to even.
func (m Images) Picture(i int) (*picture.Picture, error) {
	size := 3 * m.H * m.W
	if i < 0 || i >= m.B || len(m.Data) != m.B*size {
		return nil, fmt.Errorf("picture %d of %d: %d values, need %d pictures of 3×%d×%d", i, m.B, len(m.Data), m.B, m.H, m.W)
	}
	return picture.FromFloats(m.Data[i*size:(i+1)*size], m.W, m.H)
}

// Slice are pictures from to to−1, over the same memory.
func (m Images) Slice(from, to int) Images {
	size := 3 * m.H * m.W
	return Images{Data: m.Data[from*size : to*size], B: to - from, H: m.H, W: m.W}
}

// Join are the pictures of both, which must be of one size; the zero value joins with any.
func (m Images) Join(o Images) Images {
	if m.B == 0 {
		return o
	}
	return Images{Data: append(m.Data, o.Data...), B: m.B + o.B, H: m.H, W: m.W}
}

// Scorer rates pictures; higher is better.
type Scorer interface {
	// Score rates picture i for prompt i. Scores are finite; others are a *NonFiniteError.
	Score(ctx context.Context, prompts []string, images Images) ([]float64, error)
}

// NonFiniteError says that a score is NaN or infinite, so that no preference can be read from it.
type NonFiniteError struct {
	Picture int // counted from 0 in the call
	Prompt  string
	Value   float64
}

// Error names the picture, and says where to look.
func (e *NonFiniteError) Error() string {
	return fmt.Sprintf("score pictures: picture %d scores %v for the prompt %q; the picture's pixels are finite, so look for "+
		"bad numbers in the scorer's weights", e.Picture, e.Value, e.Prompt)
}
