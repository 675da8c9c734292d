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
	"os"
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
	// TextCacheBytes bounds the memory for encoded prompts; those that were not used for longest are forgotten first. 0
	// means 1 GiB.
	TextCacheBytes int
	// Texts keeps encoded prompts beyond that, for instance on disk. nil keeps none: a prompt that memory forgot is
	// encoded again.
	Texts TextCache
	// Identities is the folder of weights.IdentityOptions.Cache, of use with Texts only.
	Identities string
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
	words *textTokenizers // nil until a prompt is cut into tokens
	text  *textEncoders   // nil until a prompt is encoded, and again when released
	using sync.RWMutex    // held for reading while the encoders work, for writing while they are released
	cache textMemory

	naming sync.Mutex
	name   string // of everything that the states of a prompt depend on, "" until it is needed
}

// textTokenizers cut prompts. They are small and stay.
type textTokenizers struct{ clip, t5 tokenizer.Tokenizer }

// textEncoders are the parts that only new prompts need.
type textEncoders struct {
	clip *clip.Text
	t5   *t5.T5
}

// The parts of a pipeline, by folder, with the classes that can be loaded. A slow T5 tokenizer gives the same ids. The
// last two tokenizer classes are what newer libraries call any tokenizer.json.
var parts = []struct {
	folder  string
	classes []string
}{
	{"scheduler", []string{"FlowMatchEulerDiscreteScheduler"}},
	{"text_encoder", []string{"CLIPTextModel", "CLIPTextModelWithProjection", "CLIPModel"}},
	{"text_encoder_2", []string{"T5EncoderModel", "T5ForConditionalGeneration", "T5Model"}},
	{"tokenizer", []string{tokenizer.CLIP, tokenizer.CLIPFast, "TokenizersBackend", "PreTrainedTokenizerFast"}},
	{"tokenizer_2", []string{tokenizer.T5Fast, tokenizer.T5, "TokenizersBackend", "PreTrainedTokenizerFast"}},
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
	p := &Pipeline{Dir: dir, be: be, options: o, cache: newTextMemory(o.TextCacheBytes)}
	if err := p.open(); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *Pipeline) open() error {
	if err := isFolder(p.Dir); err != nil {
		return &run.Error{Class: run.ClassModel, Op: "open pipeline", Subject: p.Dir, Cause: err, Hint: "give a folder in diffusers layout, with model_index.json in it"}
	}
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
	if p.Transformer, err = flux.Load(p.Dir, flux.Options{Storage: p.options.Storage, Compute: p.options.Compute}); err != nil {
		return p.failed("transformer", err)
	}
	if p.VAE, err = vae.Open(p.Dir, p.be, vae.Options{Storage: p.options.Storage}); err != nil {
		return p.failed("vae", err)
	}
	if err := p.fits(); err != nil {
		return p.failed("transformer", err)
	}
	return nil
}

// isFolder refuses a single file of a pipeline with what it lacks.
func isFolder(path string) error {
	info, err := os.Stat(path)
	if err != nil || info.IsDir() {
		return err
	}
	folder := filepath.Dir(path)
	if _, err := os.Stat(filepath.Join(folder, "model_index.json")); err == nil {
		return fmt.Errorf("this is one file of the pipeline in %s", folder)
	}
	return errors.New("this is one file, without the text encoders, tokenizers and autoencoder that drawing needs: put it into a folder with " +
		"model_index.json, scheduler, text_encoder, text_encoder_2, tokenizer, tokenizer_2 and vae from the model's repository")
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

// Notes says in words which weights of the open parts are not used as their files have them.
func (p *Pipeline) Notes() []string {
	var all []string
	add := func(part string, notes []string) {
		for _, note := range notes {
			all = append(all, part+": "+note)
		}
	}
	add("transformer", p.Transformer.Notes)
	add("vae", p.VAE.Notes)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.text != nil {
		add("text_encoder", p.text.clip.Notes)
		add("text_encoder_2", p.text.t5.Notes)
	}
	return all
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
