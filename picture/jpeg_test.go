package picture

import (
	"bytes"
	"image"
	"image/jpeg"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func readTestdata(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "pillow", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Files that another encoder wrote decode to what another decoder sees, up to the rounding of its transform.
func TestJPEGAgainstStandardLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyPicture(t, 20)
		var file bytes.Buffer
		if err := jpeg.Encode(&file, p.Image(), &jpeg.Options{Quality: rapid.IntRange(40, 100).Draw(t, "quality")}); err != nil {
			t.Fatal(err)
		}
		other, err := jpeg.Decode(bytes.NewReader(file.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		f, err := readJPEG(file.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		ycc := other.(*image.YCbCr)
		for i, pix := range [][]byte{ycc.Y, ycc.Cb, ycc.Cr} {
			stride := []int{ycc.YStride, ycc.CStride, ycc.CStride}[i]
			s := f.parts[i].samples
			for y := range s.height {
				for x, v := range s.row(y) {
					if d := int(v) - int(pix[y*stride+x]); d < -2 || d > 2 {
						t.Fatalf("plane %d at (%d,%d): %d, the other decoder has %d", i, x, y, v, pix[y*stride+x])
					}
				}
			}
		}
	})
}

// A file that is cut anywhere is refused. Only the end marker of a sequential file may be missing.
func TestCutJPEG(t *testing.T) {
	for _, name := range []string{"420_33x18.jpg", "progressive.jpg", "grey.jpg", "cmyk.jpg", "restarts.jpg"} {
		data := readTestdata(t, name)
		for n := range len(data) - 2 {
			if _, err := Decode(data[:n]); err == nil {
				t.Fatalf("%s cut to %d of %d bytes is read", name, n, len(data))
			}
		}
		_, err := Decode(data[:len(data)-2])
		if progressive := name == "progressive.jpg"; (err != nil) != progressive {
			t.Errorf("%s without its end marker: %v", name, err)
		}
	}
}

// patch replaces the first occurrence of old.
func patch(t *testing.T, data []byte, old, replacement string) []byte {
	t.Helper()
	if !bytes.Contains(data, []byte(old)) {
		t.Fatalf("%q is not in the file", old)
	}
	return bytes.Replace(data, []byte(old), []byte(replacement), 1)
}

func TestDamagedJPEG(t *testing.T) {
	base, restarts, progressive := readTestdata(t, "420_33x18.jpg"), readTestdata(t, "restarts.jpg"), readTestdata(t, "progressive.jpg")
	at := bytes.Index(progressive, []byte{0xff, markScan})
	scan := string(progressive[at : at+14]) // of three components: the first coefficients only
	head := "\xff\xc0\x00\x11\x08\x00\x12\x00\x21\x03\x01\x22\x00"
	for name, tc := range map[string]struct {
		data []byte
		want string
	}{
		"12 bits":            {patch(t, base, head, "\xff\xc0\x00\x11\x0c\x00\x12\x00\x21\x03\x01\x22\x00"), "12 bits per sample"},
		"two components":     {patch(t, base, head, "\xff\xc0\x00\x11\x08\x00\x12\x00\x21\x02\x01\x22\x00"), "2 colour components"},
		"sampling 0":         {patch(t, base, head, "\xff\xc0\x00\x11\x08\x00\x12\x00\x21\x03\x01\x02\x00"), "impossible sampling"},
		"fractional":         {patch(t, base, head+"\x02\x11", head[:11]+"\x32\x00\x02\x21"), "fractional sampling"},
		"arithmetic":         {patch(t, base, "\xff\xc0", "\xff\xc9"), "arithmetic"},
		"no height":          {patch(t, base, head, "\xff\xc0\x00\x11\x08\x00\x00\x00\x21\x03\x01\x22\x00"), "no area"},
		"missing quant":      {patch(t, base, "\xff\xdb", "\xff\xfe"), "a table that was not given"},
		"missing Huffman":    {patch(t, base, "\xff\xc4", "\xff\xfe"), "a table that was not given"},
		"unknown component":  {patch(t, base, "\xff\xda\x00\x0c\x03\x01", "\xff\xda\x00\x0c\x03\x09"), "which the frame does not have"},
		"component twice":    {patch(t, base, "\xff\xda\x00\x0c\x03\x01\x00\x02", "\xff\xda\x00\x0c\x03\x01\x00\x01"), "twice"},
		"second frame":       {append(append([]byte{}, base[:len(base)-2]...), append([]byte(head+"\x02\x11\x01\x03\x11\x01"), 0xff, 0xd9)...), "two frame headers"},
		"no restart":         {patch(t, restarts, "\xff\xd0", "\xff\xd8"), "a restart marker is missing"},
		"many scans":         {endless(t, progressive), "more than 200 scans"},
		"bad scan":           {patch(t, progressive, scan, scan[:len(scan)-3]+"\x05\x00\x00"), "scan header is damaged"},
		"nothing but a mark": {[]byte{0xff, 0xd8, 0xff, 0xd9}, "jpeg: "},
	} {
		_, err := Decode(tc.data)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

// endless repeats the first scan of a progressive file, which may be read any number of times.
func endless(t *testing.T, data []byte) []byte {
	t.Helper()
	from := bytes.Index(data, []byte{0xff, markScan})
	to := from + 14
	for data[to] != 0xff || data[to+1] == 0 {
		to++
	}
	out := append([]byte{}, data[:from]...)
	for range maxScans + 1 {
		out = append(out, data[from:to]...)
	}
	return append(out, data[to:]...)
}

// The transform agrees with its definition in floating point to one level.
func TestInverseTransform(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	p := &jpegPart{stride: 1, rows: 1, samples: plane{make([]byte, 64), 8, 8, 8}, quant: &[64]int32{}}
	for i := range p.quant {
		p.quant[i] = 1 + int32(i)/8
	}
	for range 200 {
		var block, scaled [64]int32
		for i := range block {
			if rng.IntN(4) == 0 {
				block[i] = int32(rng.IntN(81)-40) / (1 + int32(i)/9)
			}
			scaled[i] = block[i] * p.quant[i]
		}
		p.inverse(&block, 0)
		for y := range 8 {
			for x := range 8 {
				want := min(max(128+cosines(&scaled, x, y), 0), 255)
				if got := float64(p.samples.pix[8*y+x]); math.Abs(got-want) > 1 {
					t.Fatalf("sample (%d,%d) is %v, by definition %v", x, y, got, want)
				}
			}
		}
	}
}

// cosines is the inverse discrete cosine transform at one place.
func cosines(block *[64]int32, x, y int) float64 {
	sum := 0.0
	weight := func(k int) float64 {
		if k == 0 {
			return math.Sqrt(0.125)
		}
		return 0.5
	}
	for v := range 8 {
		for u := range 8 {
			sum += weight(u) * weight(v) * float64(block[8*v+u]) *
				math.Cos(float64((2*x+1)*u)*math.Pi/16) * math.Cos(float64((2*y+1)*v)*math.Pi/16)
		}
	}
	return sum
}

func TestColourChoice(t *testing.T) {
	rgb := []*jpegPart{{id: 'R'}, {id: 'G'}, {id: 'B'}}
	ycc := []*jpegPart{{id: 1}, {id: 2}, {id: 3}}
	for name, tc := range map[string]struct {
		file jpegFile
		want bool
	}{
		"by name":           {jpegFile{parts: rgb, transform: -1}, true},
		"numbers":           {jpegFile{parts: ycc, transform: -1}, false},
		"JFIF":              {jpegFile{parts: rgb, transform: 0, jfif: true}, false},
		"Adobe, no change":  {jpegFile{parts: ycc, transform: 0}, true},
		"Adobe, transform":  {jpegFile{parts: rgb, transform: 1}, false},
		"another transform": {jpegFile{parts: ycc, transform: 2}, false},
	} {
		if got := tc.file.isRGB(); got != tc.want {
			t.Errorf("%s: RGB %v, want %v", name, got, tc.want)
		}
	}
	// inverted inks: 255 is none. With Adobe's transform luma 200 and grey chroma are inks of 55.
	full := [][]byte{{200}, {128}, {128}, {255}}
	var plain, changed [3]byte
	(&jpegFile{transform: 0}).inks()(plain[:], full, 0)
	(&jpegFile{transform: 2}).inks()(changed[:], full, 0)
	if plain != [3]byte{200, 128, 128} || changed != [3]byte{55, 55, 55} {
		t.Errorf("plain %v, with transform %v", plain, changed)
	}
}

func BenchmarkDecodeJPEG(b *testing.B) {
	p := New(512, 512)
	for i := range p.Pix {
		p.Pix[i] = byte(128 + 100*math.Sin(float64(i%1536)/40)*math.Cos(float64(i/1536)/30))
	}
	var file bytes.Buffer
	if err := jpeg.Encode(&file, p.Image(), &jpeg.Options{Quality: 90}); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(p.Pix)))
	for b.Loop() {
		if _, err := Decode(file.Bytes()); err != nil {
			b.Fatal(err)
		}
	}
}
