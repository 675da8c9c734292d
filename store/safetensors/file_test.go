package safetensors

import (
	"bytes"
	"encoding/binary"
	"os"
	"slices"
	"testing"
)

func openOdd(t *testing.T) *File {
	t.Helper()
	f, err := Open("testdata/odd.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// odd.safetensors has its header out of order and followed by spaces, unaligned tensors, a scalar, an empty
// tensor and nine dtypes; reference_writer.safetensors has the same tensors from the reference writer.
func TestOddFile(t *testing.T) {
	odd := openOdd(t)
	plain, err := Open("testdata/reference_writer.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if len(odd.Names()) != 9 {
		t.Fatalf("names %q", odd.Names())
	}
	for _, name := range odd.Names() {
		a, _ := odd.Bytes(name)
		b, err := plain.Bytes(name)
		if err != nil || !bytes.Equal(a, b) {
			t.Errorf("%q: %x and %x, %v", name, a, b, err)
		}
	}
	if got := odd.Metadata()["note"]; got != "späße" {
		t.Errorf("metadata note %q", got)
	}
	whole, err := odd.Int64("ü/ 名\"", 1, 2)
	if err != nil || !slices.Equal(whole, []int64{-(1 << 62), 5}) {
		t.Errorf("I64: %v, %v", whole, err)
	}
	flags, err := odd.Float32("flags", 3)
	if err != nil || !slices.Equal(flags, []float32{1, 0, 1}) {
		t.Errorf("BOOL: %v, %v", flags, err)
	}
	if scalar, err := odd.Float32("scalar"); err != nil || len(scalar) != 1 {
		t.Errorf("scalar: %v, %v", scalar, err)
	}
	if none, err := odd.Float32("none", 0, 4); err != nil || len(none) != 0 {
		t.Errorf("empty: %v, %v", none, err)
	}
}

func TestShapesAreChecked(t *testing.T) {
	f := openOdd(t)
	for _, c := range []struct {
		shape []int
		want  Class
	}{{[]int{2, 3}, ""}, {[]int{-1, 3}, ""}, {[]int{3, 2}, BadShape}, {[]int{6}, BadShape}, {[]int{2, 3, 1}, BadShape}} {
		if _, err := f.Float32("half", c.shape...); ClassOf(err) != c.want {
			t.Errorf("shape %v: %v, expected class %q", c.shape, err, c.want)
		}
	}
	if _, err := f.Float32("absent"); ClassOf(err) != MissingTensor {
		t.Errorf("absent: %v", err)
	}
	if _, err := f.Bytes("absent"); ClassOf(err) != MissingTensor {
		t.Errorf("absent: %v", err)
	}
	if _, err := f.Int64("half"); ClassOf(err) != BadDType {
		t.Errorf("F16 as integers: %v", err)
	}
}

func TestBFloat16ViewAndCopy(t *testing.T) {
	f := openOdd(t)
	for _, name := range []string{"brain", "half", "scalar"} { // stored BF16 (perhaps unaligned), F16, F32
		wide, err := f.Float32(name)
		if err != nil {
			t.Fatal(err)
		}
		narrow, err := f.BFloat16(name)
		if err != nil || len(narrow) != len(wide) {
			t.Fatalf("%s: %d values, %v", name, len(narrow), err)
		}
		for i := range wide {
			if narrow[i] != ToBFloat16(wide[i]) {
				t.Errorf("%s[%d]: %04x, expected %04x", name, i, narrow[i], ToBFloat16(wide[i]))
			}
		}
	}
}

// Headers can be read without the data, for objects in a store.
func TestReadHeaderReadsOnlyTheHeader(t *testing.T) {
	content, err := os.ReadFile("testdata/odd.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	n := 8 + int(binary.LittleEndian.Uint64(content))
	h, err := ReadHeader(bytes.NewReader(content[:n]), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	last := h.Tensors()[len(h.Tensors())-1]
	if h.DataStart != int64(n) || h.DataStart+last.End != int64(len(content)) {
		t.Errorf("data starts at %d, ends at %d", h.DataStart, last.End)
	}
	if info, ok := h.Info("half"); !ok || info.Elements() != 6 {
		t.Errorf("half: %+v, %v", info, ok)
	}
}
