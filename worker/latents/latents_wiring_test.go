package latents

import (
	"context"
	"math"
	"path/filepath"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/model/flux"
	"github.com/sciflux/sciflux/model/vae"
	"github.com/sciflux/sciflux/picture"
	"github.com/sciflux/sciflux/random"
	"github.com/sciflux/sciflux/worker/cache"
	"github.com/sciflux/sciflux/worker/data"
)

// brightness is an autoencoder of one latent channel at an eighth of the size: the mean is the red plane's, the log
// variance the green one's, and a draw is mean + standard deviation·noise.
type brightness struct{ encoded int }

func (a *brightness) Encode(_ context.Context, images *engine.Tensor) (vae.Posterior, error) {
	a.encoded++
	n := images.Shape[2] / 8
	mean, logVar := make([]float32, n*n), make([]float32, n*n)
	pixels := images.Floats()
	for i := range mean {
		at := i/n*8*images.Shape[3] + i%n*8
		mean[i], logVar[i] = pixels[at], pixels[images.Shape[2]*images.Shape[3]+at]
	}
	return vae.Posterior{Mean: engine.Wrap(mean, 1, 1, n, n), LogVar: engine.Wrap(logVar, 1, 1, n, n)}, nil
}

func (a *brightness) Sample(p vae.Posterior, noise []float32) (*engine.Tensor, error) {
	z := make([]float32, len(noise))
	for i, m := range p.Mean.Floats() {
		z[i] = m + float32(math.Exp(float64(p.LogVar.Floats()[i])/2))*noise[i]
	}
	return engine.Wrap(z, p.Mean.Shape...), nil
}

// twoRows is a data set of two rows with two pictures each of one red and one green level.
func twoRows(t *testing.T, red, green func(row, k int) byte) *data.Set {
	t.Helper()
	type stored struct {
		Bytes []byte `parquet:"bytes"`
		Path  string `parquet:"path"`
	}
	type row struct {
		Implicit    string   `parquet:"implicit_prompt"`
		Explicit    string   `parquet:"explicit_prompt"`
		Superficial string   `parquet:"superficial_prompt"`
		Right       []stored `parquet:"explicit_image,list"`
		Wrong       []stored `parquet:"superficial_image,list"`
	}
	var rows []row
	for i := range 2 {
		r := row{Implicit: "i", Explicit: "e", Superficial: "s"}
		for k := range 2 {
			p := picture.New(16, 16)
			for at := 0; at < len(p.Pix); at += 3 {
				p.Pix[at], p.Pix[at+1] = red(i, k)+byte(at/3%16/8), green(i, k)
			}
			png, err := p.PNG()
			if err != nil {
				t.Fatal(err)
			}
			r.Right = append(r.Right, stored{Bytes: png})
		}
		rows = append(rows, r)
	}
	dir := t.TempDir()
	if err := parquet.WriteFile(filepath.Join(dir, "train-00000-of-00001.parquet"), rows); err != nil {
		t.Fatal(err)
	}
	cfg, err := configs.Load(configs.Sources{Name: "world", Set: []string{"data.source=" + dir, "data.resolution=16", "oft.mask.policy=full"}})
	if err != nil {
		t.Fatal(err)
	}
	set, err := data.Open(t.Context(), cfg, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = set.Close() })
	return set
}

// TestLatentsAreDrawnFromTheirPicture: mean and variance of the picture asked for, the key's own noise, packed; the same
// from the cache, and each picture is encoded once.
func TestLatentsAreDrawnFromTheirPicture(t *testing.T) {
	red, green := func(row, k int) byte { return byte(40*row + 90*k) }, func(row, k int) byte { return byte(250 - 60*row - 20*k) }
	vae := &brightness{}
	e := &Encoder{VAE: vae, Data: twoRows(t, red, green), Name: "brightness", Cache: cache.New(cache.Options{Memory: 1 << 20})}
	scaled := func(level byte) float64 { return float64(level)/127.5 - 1 }
	for _, from := range []string{"encoder", "cache"} {
		for row := range 2 {
			for k := range 2 {
				key := random.New(5).Index(uint64(row), uint64(k))
				got, err := e.Draw(t.Context(), e.Data.Rows[row], k, key)
				if err != nil {
					t.Fatal(err)
				}
				want := make([]float32, 4)
				key.Normal(want)
				for i := range want {
					want[i] = float32(scaled(red(row, k)+byte(i%2)) + math.Exp(scaled(green(row, k))/2)*float64(want[i]))
				}
				for i, w := range flux.Pack(want, 1, 1, 2, 2) {
					if math.Abs(float64(got[i]-w)) > 1e-6 {
						t.Fatalf("from the %s: picture %d of row %d has latents %v, want %v", from, k, row, got, want)
					}
				}
			}
		}
	}
	if vae.encoded != 4 {
		t.Errorf("4 pictures are encoded %d times", vae.encoded)
	}
}

// TestNamesTellAutoencodersApart: what one autoencoder said of a picture does not serve another.
func TestNamesTellAutoencodersApart(t *testing.T) {
	level := func(row, k int) byte { return byte(100*row + 20*k) }
	vae := &brightness{}
	e := &Encoder{VAE: vae, Data: twoRows(t, level, level), Name: "one", Cache: cache.New(cache.Options{Memory: 1 << 20})}
	for _, name := range []string{"one", "other", "one"} {
		e.Name = name
		if _, err := e.Draw(t.Context(), e.Data.Rows[0], 0, random.New(1)); err != nil {
			t.Fatal(err)
		}
	}
	if vae.encoded != 2 {
		t.Errorf("two autoencoders encoded %d times", vae.encoded)
	}
}
