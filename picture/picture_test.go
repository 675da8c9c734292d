package picture

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func anyPicture(t *rapid.T, largest int) *Picture {
	p := New(rapid.IntRange(1, largest).Draw(t, "width"), rapid.IntRange(1, largest).Draw(t, "height"))
	copy(p.Pix, rapid.SliceOfN(rapid.Byte(), len(p.Pix), len(p.Pix)).Draw(t, "pixels"))
	return p
}

func TestFromFloats(t *testing.T) {
	// half levels go to the even neighbour: 0.5/255 → 0, 1.5/255 → 2, 2.5/255 → 2
	p, err := FromFloats([]float32{0.5 / 255, 1.5 / 255, 2.5 / 255, -3, 7, 1, 0, 0.5, float32(math.Inf(1)), float32(math.Inf(-1)), 0.2, 0.999}, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	if want := []byte{0, 2, 2, 0}; !bytes.Equal([]byte{p.Pix[0], p.Pix[3], p.Pix[6], p.Pix[9]}, want) {
		t.Errorf("first plane %v, want %v", p.Pix, want)
	}
	if want := []byte{255, 255, 0, 128, 255, 0, 51, 255}; !bytes.Equal([]byte{p.Pix[1], p.Pix[4], p.Pix[7], p.Pix[10], p.Pix[2], p.Pix[5], p.Pix[8], p.Pix[11]}, want) {
		t.Errorf("other planes %v, want %v", p.Pix, want)
	}
	for name, f := range map[string]func() (*Picture, error){
		"not a number": func() (*Picture, error) { return FromFloats([]float32{0, float32(math.NaN()), 0}, 1, 1) },
		"too few":      func() (*Picture, error) { return FromFloats([]float32{0, 0}, 1, 1) },
		"no area":      func() (*Picture, error) { return FromFloats(nil, 0, 1) },
		"huge":         func() (*Picture, error) { return FromFloats(nil, 1<<30, 1<<30) },
	} {
		if _, err := f(); err == nil || !strings.HasPrefix(err.Error(), "picture from samples: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Levels survive the way through floats, and PNG through a file.
func TestRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyPicture(t, 9)
		back, err := FromFloats(p.Floats(), p.Width, p.Height)
		if err != nil || !bytes.Equal(back.Pix, p.Pix) {
			t.Fatalf("floats: %v", err)
		}
		data, err := p.PNG()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Decode(data)
		if err != nil || again.Width != p.Width || !bytes.Equal(again.Pix, p.Pix) {
			t.Fatalf("png: %v", err)
		}
		x, y := p.Width-1, p.Height-1
		if c := p.At(x, y); c != p.Image().RGBAAt(x, y) || c.R != p.Planes()[y*p.Width+x] {
			t.Fatalf("pixel (%d,%d) is %v", x, y, c)
		}
	})
}

// What holds for any resampling with weights that add up to one: one colour stays, a kept size changes nothing, and
// mirroring commutes up to the rounding of the weights.
func TestResizeProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyPicture(t, 12)
		filter := rapid.SampledFrom([]Filter{Lanczos, Bilinear, Bicubic}).Draw(t, "filter")
		width, height := rapid.IntRange(1, 30).Draw(t, "to width"), rapid.IntRange(1, 30).Draw(t, "to height")
		same, err := p.Resize(p.Width, p.Height, filter)
		if err != nil || !bytes.Equal(same.Pix, p.Pix) || &same.Pix[0] == &p.Pix[0] {
			t.Fatalf("the same size changes the picture or shares its memory: %v", err)
		}
		a, err := p.Resize(width, height, filter)
		if err != nil {
			t.Fatal(err)
		}
		b, err := p.upright(2).Resize(width, height, filter)
		if err != nil {
			t.Fatal(err)
		}
		b = b.upright(2)
		for i := range a.Pix {
			if d := int(a.Pix[i]) - int(b.Pix[i]); d < -1 || d > 1 {
				t.Fatalf("mirrored, value %d is %d, else %d", i, b.Pix[i], a.Pix[i])
			}
		}
		flat := New(p.Width, p.Height)
		for i := range flat.Pix {
			flat.Pix[i] = p.Pix[i%3]
		}
		out, err := flat.Resize(width, height, filter)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range out.Pix {
			if v != p.Pix[i%3] {
				t.Fatalf("a flat colour %d became %d", p.Pix[i%3], v)
			}
		}
	})
}

func TestResizeRefuses(t *testing.T) {
	p := New(2, 2)
	for name, f := range map[string]func() (*Picture, error){
		"no width": func() (*Picture, error) { return p.Resize(0, 3, Bicubic) },
		"negative": func() (*Picture, error) { return p.Resize(3, -3, Bicubic) },
		"too wide": func() (*Picture, error) { return p.Resize(1<<20, 1<<20, Bicubic) },
		"filter":   func() (*Picture, error) { return p.Resize(3, 3, 7) },
	} {
		if _, err := f(); err == nil || !strings.HasPrefix(err.Error(), "resize: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"bicubic", "lanczos", "bilinear"} {
		if f, err := ParseFilter(name); err != nil || !f.known() || f.support() == 0 {
			t.Errorf("%s: %v %v", name, f, err)
		}
	}
	if _, err := ParseFilter("nearest"); err == nil {
		t.Error("nearest is accepted")
	}
}

func TestKernels(t *testing.T) {
	for _, tc := range []struct {
		f       Filter
		x, want float64
	}{
		{Bicubic, 0, 1}, {Bicubic, 1, 0}, {Bicubic, 2, 0}, {Bicubic, 0.5, 0.5625}, {Bicubic, -1.5, -0.0625},
		{Bilinear, 0.25, 0.75}, {Bilinear, 1, 0}, {Lanczos, 0, 1}, {Lanczos, 3, 0}, {Lanczos, 1.5, -0.13509491},
	} {
		if got := tc.f.at(tc.x); math.Abs(got-tc.want) > 1e-8 {
			t.Errorf("filter %d at %v is %v, want %v", tc.f, tc.x, got, tc.want)
		}
	}
}

func TestPreprocessorConfig(t *testing.T) {
	p, err := ParsePreprocessor([]byte(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	want := Preprocessor{ShortSide: 224, CropWidth: 224, CropHeight: 224, Filter: Bicubic, Scale: 0.00392156862745098,
		Mean: [3]float32{0.48145466, 0.4578275, 0.40821073}, Deviation: [3]float32{0.26862954, 0.26130258, 0.27577711}}
	if p != want {
		t.Errorf("defaults %+v, want %+v", p, want)
	}
	p, err = ParsePreprocessor([]byte(`{"size":{"width":9,"height":7},"do_center_crop":false,"do_rescale":false,"do_normalize":false,"resample":2}`))
	if want := (Preprocessor{ExactWidth: 9, ExactHeight: 7, Filter: Bilinear, Scale: 1, Deviation: [3]float32{1, 1, 1}}); err != nil || p != want {
		t.Errorf("%+v %v, want %+v", p, err, want)
	}
	p, err = ParsePreprocessor([]byte(`{"size":32,"crop_size":16,"rescale_factor":0.5,"image_mean":[1,2,3],"image_std":[4,5,6]}`))
	if want := (Preprocessor{ShortSide: 32, CropWidth: 16, CropHeight: 16, Filter: Bicubic, Scale: 0.5, Mean: [3]float32{1, 2, 3}, Deviation: [3]float32{4, 5, 6}}); err != nil || p != want {
		t.Errorf("%+v %v, want %+v", p, err, want)
	}
	for text, want := range map[string]string{
		`{`: "unexpected end", `{"size":"big"}`: "is no size", `{"size":-3}`: "a side of -3", `{"size":{"width":3}}`: "both width and height",
		`{"resample":0}`: "resample 0", `{"image_std":[1,0,1]}`: "image_std holds a 0", `{"image_mean":[1]}`: "three numbers", `{"crop_size":99999}`: "a side of 99999",
		`{"size":{"longest_edge":64}}`: "a size by longest_edge (64)", `{"size":{"shortest_edge":64,"longest_edge":99}}`: "longest_edge (99)",
		`{"size":{"max_height":3}}`:          "max_height",
		`{"crop_size":{"shortest_edge":64}}`: "crop_size by shortest_edge", `{"size":{"width":"3"}}`: "is no size",
	} {
		if _, err := ParsePreprocessor([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	if _, err := LoadPreprocessor(t.TempDir()); err == nil || !strings.Contains(err.Error(), "preprocessor_config.json") {
		t.Errorf("missing file: %v", err)
	}
	newer := t.TempDir()
	for text, says := range map[string]string{`{}`: "no image_processor", `{`: "processor_config.json",
		`{"image_processor": {"size": {"longest_edge": 5}}}`: "longest_edge"} {
		if err := os.WriteFile(filepath.Join(newer, "processor_config.json"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadPreprocessor(newer); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", text, err)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "preprocessor_config.json"), []byte(`{"size":0.5}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadPreprocessor(dir); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("bad file: %v", err)
	}
}

// TestProcessorConfig: what transformers 5 saves says the same as the older file, which counts when both are there.
func TestProcessorConfig(t *testing.T) {
	const settings = `{"size": {"shortest_edge": 64, "longest_edge": null}, "crop_size": {"height": 48, "width": 56},
		"resample": 2, "image_mean": [0.5, 0.25, 0.125]}`
	want, err := ParsePreprocessor([]byte(settings))
	if err != nil || want.ShortSide != 64 || want.CropWidth != 56 || want.Mean[2] != 0.125 {
		t.Fatalf("%+v, %v", want, err)
	}
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("processor_config.json", `{"processor_class": "CLIPProcessor", "image_processor": `+settings+`}`)
	if p, err := LoadPreprocessor(dir); err != nil || p != want {
		t.Errorf("%+v, %v", p, err)
	}
	write("preprocessor_config.json", `{"size": 32}`)
	if p, err := LoadPreprocessor(dir); err != nil || p.ShortSide != 32 || p.Mean[0] != float32(0.48145466) {
		t.Errorf("with both files: %+v, %v", p, err)
	}
}

func TestSizes(t *testing.T) {
	for _, tc := range []struct{ width, height, short, wantWidth, wantHeight int }{
		{61, 43, 32, 45, 32}, {32, 57, 32, 32, 57}, {20, 11, 32, 58, 32}, {3, 29, 32, 32, 309}, {7, 7, 5, 5, 5}, {640, 481, 224, 298, 224},
	} {
		if w, h := shortSideSize(tc.width, tc.height, tc.short); w != tc.wantWidth || h != tc.wantHeight {
			t.Errorf("%d×%d to a short side of %d: %d×%d, want %d×%d", tc.width, tc.height, tc.short, w, h, tc.wantWidth, tc.wantHeight)
		}
	}
	if _, err := (Preprocessor{ShortSide: 224, Filter: Bicubic}).Fit(New(1, 100_000)); err == nil || !strings.Contains(err.Error(), "limit") {
		t.Errorf("a thread of a picture: %v", err)
	}
}

func TestCentreCrop(t *testing.T) {
	p := New(4, 3)
	for i := range 12 {
		p.Pix[3*i] = byte(i + 1)
	}
	reds := func(p *Picture) (out []byte) {
		for i := 0; i < len(p.Pix); i += 3 {
			out = append(out, p.Pix[i])
		}
		return out
	}
	for _, tc := range []struct {
		width, height int
		want          []byte
	}{
		{2, 1, []byte{6, 7}}, {3, 2, []byte{1, 2, 3, 5, 6, 7}}, {4, 3, reds(p)},
		{5, 1, []byte{0, 5, 6, 7, 8}}, {6, 1, []byte{0, 5, 6, 7, 8, 0}}, {1, 5, []byte{0, 2, 6, 10, 0}},
	} {
		if got := reds(p.centreCrop(tc.width, tc.height)); !bytes.Equal(got, tc.want) {
			t.Errorf("%d×%d: %v, want %v", tc.width, tc.height, got, tc.want)
		}
	}
}

func TestProcess(t *testing.T) {
	p := Preprocessor{ShortSide: 2, CropWidth: 2, CropHeight: 2, Filter: Bicubic, Scale: 1.0 / 255, Mean: [3]float32{0.5, 0, 0}, Deviation: [3]float32{0.5, 1, 2}}
	m := New(4, 2)
	for i := range m.Pix {
		m.Pix[i] = 255
	}
	got, err := p.Process(m)
	if err != nil {
		t.Fatal(err)
	}
	want := []float32{1, 1, 1, 1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("%v, want %v", got, want)
		}
	}
}

// The triangle filter keeps a flat plane flat, and doubles in between: planes of one or two columns are repeated.
func TestUpsample(t *testing.T) {
	c := plane{[]byte{0, 100, 200, 40}, 4, 4, 1}
	if got, want := upsample(c, 2, 1, 8, 1), []byte{0, 25, 75, 125, 175, 160, 80, 40}; !bytes.Equal(got, want) {
		t.Errorf("2:1 across %v, want %v", got, want)
	}
	if got, want := upsample(c, 2, 2, 7, 2), []byte{0, 25, 75, 125, 175, 160, 80, 0, 25, 75, 125, 175, 160, 80}; !bytes.Equal(got, want) {
		t.Errorf("2:1 both ways %v, want %v", got, want)
	}
	narrow := plane{[]byte{10, 50}, 2, 2, 1}
	if got, want := upsample(narrow, 2, 2, 4, 1), []byte{10, 10, 50, 50}; !bytes.Equal(got, want) {
		t.Errorf("narrow %v, want %v", got, want)
	}
	column := plane{[]byte{0, 80}, 1, 1, 2}
	if got, want := upsample(column, 1, 2, 1, 4), []byte{0, 20, 60, 80}; !bytes.Equal(got, want) {
		t.Errorf("2:1 down %v, want %v", got, want)
	}
	if got, want := upsample(plane{[]byte{9, 7}, 2, 2, 1}, 4, 1, 6, 1), []byte{9, 9, 9, 9, 7, 7}; !bytes.Equal(got, want) {
		t.Errorf("4:1 across %v, want %v", got, want)
	}
}

func BenchmarkResize(b *testing.B) {
	p := New(512, 512)
	for i := range p.Pix {
		p.Pix[i] = byte(i * 31)
	}
	for b.Loop() {
		if _, err := p.Resize(224, 224, Bicubic); err != nil {
			b.Fatal(err)
		}
	}
}
