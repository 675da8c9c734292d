package recipe

import (
	"github.com/sciflux/sciflux/worker/data"
)

// Texts are the prompts that both stages will draw, in the order in which they come first: captions of SFT, prompts of OFT.
// How long the comparison goes on is not known beforehand: for wordings that only it draws, the encoders come back.
func (r Recipe) Texts(rows []data.Row, prompts []data.Prompt) ([]string, error) {
	var out []string
	seen := map[string]bool{}
	add := func(text string) {
		if !seen[text] {
			seen[text] = true
			out = append(out, text)
		}
	}
	o := r.Config.SFT
	c, err := r.chooser(rows)
	if err != nil {
		return nil, err
	}
	for number := range o.Steps * o.Accumulate * o.Batch {
		add(c.caption(number))
	}
	for epoch := range r.Config.OFT.Epochs {
		for _, p := range r.EpochPrompts(epoch, 0, 1, prompts, rows) {
			add(p.Text)
		}
	}
	return out, nil
}
