package picture

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// resample is one pass in floating point: output o of a line is the weighted mean round its centre.
func resample(line []float64, out int, f Filter) []float64 {
	scale := float64(len(line)) / float64(out)
	stretch := max(scale, 1)
	result := make([]float64, out)
	for o := range result {
		centre := (float64(o) + 0.5) * scale
		sum, total := 0.0, 0.0
		for i, v := range line {
			if d := float64(i) + 0.5 - centre; math.Abs(d) < f.support()*stretch+0.5 {
				w := f.at(d / stretch)
				sum, total = sum+w*v, total+w
			}
		}
		result[o] = sum / total
	}
	return result
}

// Fixed point stays within one level of floating point. Both round and clamp between the passes.
func TestResizeAgainstFloats(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 60 {
		p := New(1+rng.IntN(40), 1+rng.IntN(40))
		for i := range p.Pix {
			p.Pix[i] = byte(rng.UintN(256))
		}
		width, height, f := 1+rng.IntN(40), 1+rng.IntN(40), Filter(1+rng.IntN(3))
		got, err := p.Resize(width, height, f)
		if err != nil {
			t.Fatal(err)
		}
		want := floatResize(p, width, height, f)
		for i, v := range got.Pix {
			if math.Abs(float64(v)-want[i]) > 1 {
				t.Fatalf("%d×%d to %d×%d, filter %d: value %d is %d, in floats %v", p.Width, p.Height, width, height, f, i, v, want[i])
			}
		}
	}
}

func floatResize(p *Picture, width, height int, f Filter) []float64 {
	out := make([]float64, 3*width*height)
	round := func(v float64) float64 { return min(max(math.Round(v), 0), 255) }
	for c := range 3 {
		rows := make([][]float64, p.Height)
		for y := range rows {
			line := make([]float64, p.Width)
			for x := range line {
				line[x] = float64(p.Pix[3*(y*p.Width+x)+c])
			}
			rows[y] = line
			if width != p.Width {
				rows[y] = resample(line, width, f)
			}
		}
		for x := range width {
			column := make([]float64, p.Height)
			for y := range column {
				column[y] = round(rows[y][x])
			}
			if height != p.Height {
				column = resample(column, height, f)
			}
			for y, v := range column {
				out[3*(y*width+x)+c] = round(v)
			}
		}
	}
	return out
}

// The fixed-point colour conversions follow their definitions: BT.601 over the full range for JPEG, over 16…235 and
// 16…240 for WebP.
func TestColourConversions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		y, u, v := rapid.Byte().Draw(t, "y"), rapid.Byte().Draw(t, "u"), rapid.Byte().Draw(t, "v")
		check := func(name string, got [3]byte, luma, cb, cr, tolerance float64) {
			want := [3]float64{luma + 1.402*cr, luma - 0.344136*cb - 0.714136*cr, luma + 1.772*cb}
			for c := range got {
				if w := min(max(want[c], 0), 255); math.Abs(float64(got[c])-w) > tolerance {
					t.Fatalf("%s(%d,%d,%d): channel %d is %d, want %v", name, y, u, v, c, got[c], w)
				}
			}
		}
		r, g, b := fromYCC(int32(y), int32(u), int32(v))
		check("full", [3]byte{r, g, b}, float64(y), float64(u)-128, float64(v)-128, 0.51)
		r, g, b = fromLimited(int32(y), int32(u), int32(v))
		check("limited", [3]byte{r, g, b}, (float64(y)-16)*255/219, (float64(u)-128)*255/224, (float64(v)-128)*255/224, 1.6)
	})
}

// WebP's chroma filter weighs four neighbours 9:3:3:1 and keeps flat planes flat.
func TestWebPChroma(t *testing.T) {
	c := plane{[]byte{16, 32, 48, 64, 80, 96}, 3, 3, 2}
	got := vp8Chroma(c, 6, 4)
	// first row: 3:1 at the left edge with the row itself, so the sample; inside by thirds
	for i, want := range map[int]byte{0: 16, 1: 20, 2: 28, 5: 48, 6: 28, 7: 32, 23: 96} {
		if got[i] != want {
			t.Errorf("place %d is %d, want %d in %v", i, got[i], want, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.Byte().Draw(t, "level")
		width, height := rapid.IntRange(1, 9).Draw(t, "width"), rapid.IntRange(1, 9).Draw(t, "height")
		flat := plane{make([]byte, 25), 5, (width + 1) / 2, (height + 1) / 2}
		for i := range flat.pix {
			flat.pix[i] = v
		}
		for _, out := range [][]byte{vp8Chroma(flat, width, height), upsample(flat, 2, 2, width, height)} {
			for i, w := range out {
				if w != v {
					t.Fatalf("%d×%d: place %d is %d, want %d", width, height, i, w, v)
				}
			}
		}
	})
}

// bitWriter is the other end of bitReader.
type bitWriter struct {
	out  []byte
	bits uint64
	n    int
}

func (w *bitWriter) put(value uint32, n int) {
	w.bits, w.n = w.bits<<n|uint64(value), w.n+n
	for w.n >= 8 {
		b := byte(w.bits >> (w.n - 8))
		if w.out = append(w.out, b); b == 0xff {
			w.out = append(w.out, 0)
		}
		w.n -= 8
	}
}

// Codes of any valid table are read back, with raw bits and stuffed FF bytes in between; past the end there is an error.
func TestHuffmanRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		counts, left, total := make([]byte, 16), 1, 0
		for i := range counts {
			left *= 2
			most := min(left-1, 256-total, 20) // all ones is no code
			if most > 0 {
				n := rapid.IntRange(0, most).Draw(t, "codes")
				counts[i] = byte(n)
				left, total = left-n, total+n
			}
		}
		if total == 0 {
			t.Skip("no codes")
		}
		values := make([]byte, total)
		for i := range values {
			values[i] = byte(i)
		}
		h, err := newHuffman(counts, values)
		if err != nil {
			t.Fatal(err)
		}
		codes, lengths := canonical(counts)
		message := rapid.SliceOfN(rapid.IntRange(0, total-1), 1, 40).Draw(t, "message")
		w := &bitWriter{}
		for _, m := range message {
			w.put(codes[m], lengths[m])
			w.put(uint32(m)&7, 3)
		}
		w.put(0xff, 8) // fills the last byte and more
		r := &bitReader{data: append(w.out, 0xff, 0xd9)}
		for i, m := range message {
			v, err := r.symbol(h)
			if err != nil || int(v) != m {
				t.Fatalf("symbol %d is %d, want %d: %v", i, v, m, err)
			}
			if v, err := r.take(3); err != nil || int(v) != m&7 {
				t.Fatalf("bits %d are %d, want %d: %v", i, v, m&7, err)
			}
		}
		for range 3 {
			_, err = r.take(16)
		}
		if !errors.Is(err, errCut) || r.pos != len(r.data)-2 {
			t.Fatalf("after the end: %v at %d of %d", err, r.pos, len(r.data))
		}
	})
}

// canonical gives codes and lengths in the order of a table's values.
func canonical(counts []byte) (codes []uint32, lengths []int) {
	code := uint32(0)
	for i, n := range counts {
		for range n {
			codes, lengths = append(codes, code), append(lengths, i+1)
			code++
		}
		code <<= 1
	}
	return codes, lengths
}

func TestHuffmanRefuses(t *testing.T) {
	counts := make([]byte, 16)
	counts[0] = 3 // three codes of one bit
	if _, err := newHuffman(counts, []byte{1, 2, 3}); err == nil {
		t.Error("too many codes are accepted")
	}
	counts[0] = 1 // only the code 0
	h, err := newHuffman(counts, []byte{7})
	if err != nil {
		t.Fatal(err)
	}
	r := &bitReader{data: []byte{0x7f, 0xff, 0, 0xff, 0}}
	if v, err := r.symbol(h); err != nil || v != 7 {
		t.Errorf("%d %v", v, err)
	}
	if _, err := r.symbol(h); err == nil || errors.Is(err, errCut) {
		t.Errorf("a code that is not in the table: %v", err)
	}
}

// Signed values are as the standard's table of categories has them.
func TestSignedBits(t *testing.T) {
	for _, tc := range []struct {
		bits uint32
		n    int
		want int32
	}{{0, 0, 0}, {0, 1, -1}, {1, 1, 1}, {0, 2, -3}, {1, 2, -2}, {2, 2, 2}, {3, 2, 3}, {0, 11, -2047}, {1024, 11, 1024}} {
		w := &bitWriter{}
		w.put(tc.bits, tc.n)
		w.put(0, 16)
		r := &bitReader{data: w.out}
		if got, err := r.signed(tc.n); err != nil || got != tc.want {
			t.Errorf("%b in %d bits: %d %v, want %d", tc.bits, tc.n, got, err, tc.want)
		}
	}
}
