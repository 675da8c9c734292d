// Package pipeline is a FLUX model folder in diffusers layout: text encoders with their tokenizers, transformer,
// autoencoder and scheduler, and what they do together: prompts to conditioning, pictures to latents and back, and
// generation.
//
// Batches travel as host tensors (engine.Wrap): pictures [B, 3, H, W], packed latents [B, N, 4Z] with N tokens of 2×2
// latent cells, text [B, T, J]. Results are ordinary Go memory and need no Free.
package pipeline

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/model/clip"
	"github.com/sciflux/sciflux/model/flux"
	"github.com/sciflux/sciflux/model/t5"
	"github.com/sciflux/sciflux/model/vae"
	"github.com/sciflux/sciflux/model/weights"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/tokenizer"
)

// Options of Open.
type Options struct {
	Storage weights.Storage // of all matrices; the zero value leaves them as the files have them
	Compute engine.DType    // of the transformer's blocks
	// TextCacheBytes bounds the memory for encoded prompts, the oldest of which are forgotten first. 0 means 1 GiB.
	TextCacheBytes int
}

// Pipeline is an open model folder. Its methods may be called by several goroutines.
type Pipeline struct {
	Dir         string
	Scheduler   flow.SchedulerConfig
	Transformer *flux.Model
	VAE         *vae.VAE

	be      engine.Backend
	options Options
	classes map[string]string // of the parts, from model_index.json
	clipSet clip.TextConfig
	t5Set   t5.Config

	mu    sync.Mutex
	text  *textEncoders // nil until a prompt is encoded
	cache textCache
}

// textEncoders are the parts that only prompts need.
type textEncoders struct {
	clip      *clip.Text
	t5        *t5.T5
	clipWords tokenizer.Tokenizer
	t5Words   tokenizer.Tokenizer
}

// The parts of a pipeline, by folder, with the classes that can be loaded. A slow T5 tokenizer gives the same ids.
var parts = []struct {
	folder  string
	classes []string
}{
	{"scheduler", []string{"FlowMatchEulerDiscreteScheduler"}},
	{"text_encoder", []string{"CLIPTextModel"}},
	{"text_encoder_2", []string{"T5EncoderModel"}},
	{"tokenizer", []string{tokenizer.CLIP, tokenizer.CLIPFast}},
	{"tokenizer_2", []string{tokenizer.T5Fast, "T5Tokenizer"}},
	{"transformer", []string{"FluxTransformer2DModel"}},
	{"vae", []string{"AutoencoderKL"}},
}

// Open opens the folder that holds model_index.json. Transformer and autoencoder are loaded at once, as views of their
// files where possible; the text encoders when the first prompt needs them, though their configs are checked now. Errors
// are *run.Error of class model.
func Open(dir string, be engine.Backend, o Options) (*Pipeline, error) {
	if o.TextCacheBytes == 0 {
		o.TextCacheBytes = 1 << 30
	}
	p := &Pipeline{Dir: dir, be: be, options: o, cache: newTextCache(o.TextCacheBytes)}
	if err := p.open(); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *Pipeline) open() error {
	var err error
	if p.classes, err = readIndex(p.Dir); err != nil {
		return p.failed("model_index.json", err)
	}
	if p.Scheduler, err = readScheduler(p.part("scheduler")); err != nil {
		return p.failed("scheduler", err)
	}
	if p.clipSet, err = clip.ReadTextConfig(p.part("text_encoder")); err != nil {
		return p.failed("text_encoder", err)
	}
	if p.t5Set, err = t5.ReadConfig(p.part("text_encoder_2")); err != nil {
		return p.failed("text_encoder_2", err)
	}
	if p.Transformer, err = flux.Load(p.part("transformer"), flux.Options{Storage: p.options.Storage, Compute: p.options.Compute}); err != nil {
		return p.failed("transformer", err)
	}
	if p.VAE, err = vae.Open(p.part("vae"), p.be, vae.Options{Storage: p.options.Storage}); err != nil {
		return p.failed("vae", err)
	}
	if err := p.fits(); err != nil {
		return p.failed("transformer", err)
	}
	return nil
}

func (p *Pipeline) part(name string) string { return filepath.Join(p.Dir, name) }

func (p *Pipeline) failed(part string, cause error) error {
	return &run.Error{Class: run.ClassModel, Op: "open pipeline", Subject: p.part(part), Cause: cause,
		Hint: "every part must come from one FLUX pipeline in diffusers layout"}
}

// fits checks that the parts speak to each other in the same widths.
func (p *Pipeline) fits() error {
	t := p.Transformer
	for _, pair := range []struct {
		ours   string
		have   int
		theirs string
		want   int
	}{
		{"joint_attention_dim", t.TextWidth, "d_model of text_encoder_2", p.t5Set.Width},
		{"pooled_projection_dim", t.PooledWidth, "hidden_size of text_encoder", p.clipSet.Width},
		{"in_channels", t.InChannels, "4 × latent_channels of vae", 4 * p.VAE.Config.LatentChannels},
		{"out_channels", t.OutChannels, "4 × latent_channels of vae", 4 * p.VAE.Config.LatentChannels},
	} {
		if pair.have != pair.want {
			return fmt.Errorf("%s is %d, but %s is %d: these parts do not belong together", pair.ours, pair.have, pair.theirs, pair.want)
		}
	}
	return nil
}

// Backend is the machine the pipeline computes on.
func (p *Pipeline) Backend() engine.Backend { return p.be }

// encoders loads the text parts once.
func (p *Pipeline) encoders() (*textEncoders, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.text != nil {
		return p.text, nil
	}
	e := &textEncoders{}
	if err := p.loadText(e); err != nil {
		return nil, errors.Join(err, e.close())
	}
	p.text = e
	return e, nil
}

func (p *Pipeline) loadText(e *textEncoders) (err error) {
	if e.clipWords, err = tokenizer.Load(p.part("tokenizer"), p.classes["tokenizer"]); err != nil {
		return p.failed("tokenizer", err)
	}
	if e.t5Words, err = tokenizer.Load(p.part("tokenizer_2"), tokenizer.T5Fast); err != nil {
		return p.failed("tokenizer_2", err)
	}
	if e.clip, err = clip.OpenText(p.part("text_encoder"), p.be, p.options.Storage); err != nil {
		return p.failed("text_encoder", err)
	}
	if e.t5, err = t5.Open(p.part("text_encoder_2"), p.be, p.options.Storage); err != nil {
		return p.failed("text_encoder_2", err)
	}
	if n := e.clipWords.Size(); n > e.clip.Config.VocabSize {
		return p.failed("tokenizer", fmt.Errorf("the vocabulary has %d entries, text_encoder has rows for %d; they do not belong together", n, e.clip.Config.VocabSize))
	}
	if n := e.t5Words.Size(); n > e.t5.Config.VocabSize {
		return p.failed("tokenizer_2", fmt.Errorf("the vocabulary has %d entries, text_encoder_2 has rows for %d; they do not belong together", n, e.t5.Config.VocabSize))
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

// ReleaseText forgets the text encoders; prompts that were encoded stay in the cache. No prompt may be in work.
func (p *Pipeline) ReleaseText() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.text == nil {
		return nil
	}
	e := p.text
	p.text = nil
	return e.close()
}

// Close releases all files. Nothing of the pipeline may be used afterwards.
func (p *Pipeline) Close() error {
	err := p.ReleaseText()
	if p.Transformer != nil {
		err = errors.Join(err, p.Transformer.Close())
	}
	if p.VAE != nil {
		err = errors.Join(err, p.VAE.Close())
	}
	return err
}
