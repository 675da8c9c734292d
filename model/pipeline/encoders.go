package pipeline

import (
	"errors"
	"fmt"

	"github.com/sciflux/sciflux/model/clip"
	"github.com/sciflux/sciflux/model/t5"
	"github.com/sciflux/sciflux/tokenizer"
)

// tokenizers loads the tokenizers once.
func (p *Pipeline) tokenizers() (*textTokenizers, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.loadTokenizers()
}

// loadTokenizers needs p.mu.
func (p *Pipeline) loadTokenizers() (*textTokenizers, error) {
	if p.words != nil {
		return p.words, nil
	}
	w, class := &textTokenizers{}, tokenizer.CLIPFast
	if p.classes["tokenizer"] == tokenizer.CLIP {
		class = tokenizer.CLIP
	}
	var err error
	if w.clip, err = tokenizer.Load(p.part("tokenizer"), class); err != nil {
		return nil, p.failed("tokenizer", err)
	}
	if w.t5, err = tokenizer.Load(p.part("tokenizer_2"), tokenizer.T5Fast); err != nil {
		return nil, p.failed("tokenizer_2", err)
	}
	if n := w.clip.Size(); n > p.clipSet.VocabSize {
		return nil, p.failed("tokenizer",
			fmt.Errorf("the vocabulary has %d entries, text_encoder has rows for %d; they do not belong together", n, p.clipSet.VocabSize))
	}
	if n := w.t5.Size(); n > p.t5Set.VocabSize {
		return nil, p.failed("tokenizer_2",
			fmt.Errorf("the vocabulary has %d entries, text_encoder_2 has rows for %d; they do not belong together", n, p.t5Set.VocabSize))
	}
	p.words = w
	return w, nil
}

// encoders loads the text parts if they are not there.
func (p *Pipeline) encoders() (*textEncoders, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.text != nil {
		return p.text, nil
	}
	if _, err := p.loadTokenizers(); err != nil {
		return nil, err
	}
	e := &textEncoders{}
	if err := p.loadEncoders(e); err != nil {
		return nil, errors.Join(err, e.close())
	}
	p.text = e
	return e, nil
}

func (p *Pipeline) loadEncoders(e *textEncoders) (err error) {
	if e.clip, err = clip.OpenText(p.part("text_encoder"), p.be, p.options.Storage); err != nil {
		return p.failed("text_encoder", err)
	}
	if e.t5, err = t5.Open(p.part("text_encoder_2"), p.be, p.options.Storage); err != nil {
		return p.failed("text_encoder_2", err)
	}
	return nil
}

func (e *textEncoders) close() error {
	var errs []error
	if e.clip != nil {
		errs = append(errs, e.clip.Close())
	}
	if e.t5 != nil {
		errs = append(errs, e.t5.Close())
	}
	return errors.Join(errs...)
}

// Check loads every part, so that a broken text encoder is reported before any work begins.
func (p *Pipeline) Check() error {
	_, err := p.encoders()
	return err
}

// ReleaseText gives up the text encoders, ten of the 34 GB of FLUX.1, once no prompt is in work. What was encoded stays in
// the caches; a prompt that is in none loads the encoders again.
func (p *Pipeline) ReleaseText() error {
	p.using.Lock()
	defer p.using.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.text == nil {
		return nil
	}
	e := p.text
	p.text = nil
	return e.close()
}
