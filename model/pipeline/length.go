package pipeline

import "github.com/sciflux/sciflux/model/weights"

// maxTextLength is FLUX.1 dev's; a tokenizer_config.json without a usable model_max_length stands for it.
const maxTextLength = 512

// TextLength is the number of tokens that the folder's T5 tokenizer pads prompts to by its own config.
func (p *Pipeline) TextLength() int {
	var c struct {
		Length float64 `json:"model_max_length"` // some writers put 1e30 for none
	}
	err := weights.ReadConfig(p.part("tokenizer_2"), "tokenizer_config.json", &c)
	if err != nil || c.Length < 1 || c.Length > maxTextLength {
		return maxTextLength
	}
	return int(c.Length)
}
