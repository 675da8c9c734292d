package trainer

import (
	"fmt"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/model/flux"
)

// Conditioning is what the network sees beside latents and time, a row for each prompt. Of B samples with P rows, each row
// is that of B/P consecutive samples.
type Conditioning struct {
	Text   []float32 // [P, T, J]
	Pooled []float32 // [P, W]
}

// tensors wraps the rows as the network takes them.
func (c Conditioning) tensors(m *flux.Model) (text, pooled *engine.Tensor, err error) {
	rows := c.rows(m)
	if rows == 0 || len(c.Pooled)%m.PooledWidth != 0 || len(c.Text)%(rows*m.TextWidth) != 0 {
		return nil, nil, fmt.Errorf("conditioning of %d text and %d pooled values: rows must be of [T, %d] and [%d]",
			len(c.Text), len(c.Pooled), m.TextWidth, m.PooledWidth)
	}
	pooled = engine.Wrap(c.Pooled, rows, m.PooledWidth)
	if len(c.Text) > 0 {
		text = engine.Wrap(c.Text, rows, len(c.Text)/(rows*m.TextWidth), m.TextWidth)
	}
	return text, pooled, nil
}

// rows is P.
func (c Conditioning) rows(m *flux.Model) int { return len(c.Pooled) / m.PooledWidth }

// textTokens is T.
func (c Conditioning) textTokens(m *flux.Model) int {
	return len(c.Text) / max(1, c.rows(m)) / m.TextWidth
}

// prompts gives each of b samples its row.
func (c Conditioning) prompts(m *flux.Model, b int) ([]int, error) {
	rows := c.rows(m)
	if rows == 0 || b%rows != 0 {
		return nil, fmt.Errorf("%d rows of conditioning for %d samples: each row needs as many samples as the others", rows, b)
	}
	prompts := make([]int, b)
	for i := range prompts {
		prompts[i] = i * rows / b
	}
	return prompts, nil
}

// input is the network's input for packed latents, one sample for each entry of prompts, its row of the conditioning.
// Timesteps are for the caller to set.
func (s Setting) input(m *flux.Model, latents []float32, prompts []int, c Conditioning) (*flux.Input, error) {
	text, pooled, err := c.tensors(m)
	if err != nil {
		return nil, err
	}
	b, n := len(prompts), s.Grid.Tokens()
	if b == 0 || len(latents) != b*n*m.InChannels {
		return nil, fmt.Errorf("%d latent values for %d samples: need at least one, of [%d, %d]", len(latents), b, n, m.InChannels)
	}
	in := m.NewInput(s.Grid, s.Guidance, engine.Wrap(latents, b, n, m.InChannels), text, pooled)
	in.Prompts = prompts
	return in, nil
}
