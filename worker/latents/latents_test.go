package latents

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/cpu"
	"github.com/sciflux/sciflux/model/vae"
	"github.com/sciflux/sciflux/models"
	"github.com/sciflux/sciflux/random"
	"github.com/sciflux/sciflux/worker/cache"
	"github.com/sciflux/sciflux/worker/data"
	workermodels "github.com/sciflux/sciflux/worker/models"
)

// sharedDir holds the drawn world and the unpacked models for all tests.
var sharedDir string

func TestMain(m *testing.M) {
	var err error
	if sharedDir, err = os.MkdirTemp("", "latents"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(sharedDir)
	os.Exit(code)
}

// encoder is one of the world's first rows, with a cache in a folder.
func encoder(t *testing.T, dir string) *Encoder {
	t.Helper()
	be, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := configs.Load(configs.Sources{Name: "world", Set: []string{"data.train_tuples=8"}})
	if err != nil {
		t.Fatal(err)
	}
	set, err := workermodels.NewKeeper(be, models.Files, sharedDir, 0).Open(t.Context(), cfg, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(set.Release)
	rows, err := data.Open(t.Context(), cfg, sharedDir)
	if err != nil {
		t.Fatal(err)
	}
	return &Encoder{VAE: set.Pipeline.VAE, Data: rows, Name: "test", Cache: cache.New(cache.Options{Dir: dir + "/encoded", Disk: 1 << 20})}
}

func (e *Encoder) mustDraw(t *testing.T, row, picture int, key random.Key) []float32 {
	t.Helper()
	z, err := e.Draw(t.Context(), e.Data.Rows[row], picture, key)
	if err != nil {
		t.Error(err)
	}
	return z
}

// noEncoder can draw from what was encoded, and nothing else.
type noEncoder struct{ Autoencoder }

func (noEncoder) Encode(context.Context, *engine.Tensor) (vae.Posterior, error) {
	return vae.Posterior{}, errNotCached
}

var errNotCached = errors.New("not in the cache")

// TestCachedLatentsAreTheSame: with the cache, from another process's cache and without one, each picture has its own
// latents, and they are the same bits.
func TestCachedLatentsAreTheSame(t *testing.T) {
	dir := t.TempDir()
	e, key := encoder(t, dir), random.New(1)
	plain := *e
	plain.Cache = nil
	first, second := plain.mustDraw(t, 0, 0, key), plain.mustDraw(t, 1, 0, key)
	if slices.Equal(first, second) {
		t.Fatal("two pictures have the same latents")
	}
	if slices.Equal(first, plain.mustDraw(t, 0, 0, random.New(2))) {
		t.Error("two keys draw the same latents")
	}
	again := encoder(t, dir)
	for name, with := range map[string]*Encoder{"filling": e, "filled": e, "by another process": again} {
		if !slices.Equal(with.mustDraw(t, 0, 0, key), first) || !slices.Equal(with.mustDraw(t, 1, 0, key), second) {
			t.Errorf("%s: other latents", name)
		}
	}
	again.VAE = noEncoder{e.VAE}
	if !slices.Equal(again.mustDraw(t, 1, 0, random.New(1)), second) {
		t.Error("from the cache alone: other latents")
	}
}

// TestKeysNameWhatLatentsDependOn: another picture size or autoencoder is another key.
func TestKeysNameWhatLatentsDependOn(t *testing.T) {
	e, key := encoder(t, t.TempDir()), random.New(1)
	const row = 3
	e.mustDraw(t, row, 0, key)
	cfg, err := configs.Load(configs.Sources{Name: "world", Set: []string{"data.train_tuples=8", "data.resolution=32", "data.source=" + sharedDir + "/data/world-1-64", "oft.mask.policy=full"}})
	if err != nil {
		t.Fatal(err)
	}
	smaller, err := data.Open(t.Context(), cfg, sharedDir)
	if err != nil {
		t.Fatal(err)
	}
	other := *e
	other.VAE = noEncoder{e.VAE}
	if _, err := other.Draw(t.Context(), e.Data.Rows[row], 0, key); err != nil {
		t.Errorf("what was encoded: %v", err)
	}
	for what, change := range map[string]func(){"autoencoder": func() { other.Name = "another" }, "size": func() { other.Name, other.Data = e.Name, smaller }} {
		change()
		if _, err := other.Draw(t.Context(), e.Data.Rows[row], 0, key); !errors.Is(err, errNotCached) {
			t.Errorf("latents of another %s were taken: %v", what, err)
		}
	}
}

// TestDrawsSideBySide: goroutines that draw at the same time get what each would get alone.
func TestDrawsSideBySide(t *testing.T) {
	e := encoder(t, t.TempDir())
	var want, got [6][]float32
	for i := range want {
		want[i] = e.mustDraw(t, i, 0, random.New(uint64(i)))
	}
	e.Cache = cache.New(cache.Options{Memory: 1 << 20})
	var all sync.WaitGroup
	for i := range got {
		all.Go(func() { got[i] = e.mustDraw(t, i, 0, random.New(uint64(i))) })
	}
	all.Wait()
	for i := range got {
		if !slices.Equal(got[i], want[i]) {
			t.Errorf("picture %d: other latents", i)
		}
	}
}

// TestPosteriorsSurviveTheCache: what is decoded is what was encoded; cut or foreign bytes are not taken.
func TestPosteriorsSurviveTheCache(t *testing.T) {
	p := vae.Posterior{Mean: engine.Wrap([]float32{1, -2, 3, 4.5}, 1, 2, 2, 1), LogVar: engine.Wrap([]float32{-30, 0, 20, 1e-9}, 1, 2, 2, 1)}
	text := encode(p)
	back, ok := decode(text)
	if !ok || !slices.Equal(back.Mean.Floats(), p.Mean.Floats()) || !slices.Equal(back.LogVar.Floats(), p.LogVar.Floats()) || !slices.Equal(back.Mean.Shape, p.Mean.Shape) {
		t.Errorf("%v %+v", ok, back)
	}
	for n := range text {
		if _, ok := decode(text[:n]); ok {
			t.Errorf("%d of %d bytes are taken", n, len(text))
		}
	}
	if _, ok := decode(append(text, 0)); ok {
		t.Error("a byte too many is taken")
	}
}
