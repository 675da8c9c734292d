package safetensors

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What the reference wrote, read and written again, must come out byte by byte.
func TestWriterEqualsReference(t *testing.T) {
	want, err := os.ReadFile("testdata/reference_writer.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	if got := rewrite(t, want); !bytes.Equal(got, want) {
		t.Errorf("got\n%q\nexpected\n%q", got, want)
	}
}

// rewrite reads a file and writes its tensors in reverse order.
func rewrite(t *testing.T, content []byte) []byte {
	t.Helper()
	f, err := Parse("x", content)
	if err != nil {
		t.Fatal(err)
	}
	var tensors []Tensor
	for _, info := range f.Tensors() {
		data, _ := f.Bytes(info.Name)
		tensors = append(tensors, Raw(info.Name, info.DType, info.Shape, data))
	}
	slices.Reverse(tensors)
	var b bytes.Buffer
	n, err := Write(&b, tensors, f.Metadata())
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("%d bytes of %d, %v", n, b.Len(), err)
	}
	return b.Bytes()
}

func TestWrittenTensorsAreAligned(t *testing.T) {
	odd, err := os.ReadFile("testdata/odd.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	f, err := Parse("x", rewrite(t, odd))
	if err != nil {
		t.Fatal(err)
	}
	if f.DataStart%8 != 0 {
		t.Errorf("data start at %d", f.DataStart)
	}
	for _, info := range f.Tensors() {
		if width := int64(info.DType.Bits() / 8); info.Begin%width != 0 {
			t.Errorf("%q begins at %d", info.Name, info.Begin)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	one := Float32s("a", F32, []int{1}, []float32{1})
	for _, c := range []struct {
		name    string
		tensors []Tensor
		meta    map[string]string
	}{
		{"name twice", []Tensor{one, one}, nil},
		{"reserved name", []Tensor{Raw(metadataKey, U8, []int{0}, nil)}, nil},
		{"name not UTF-8", []Tensor{Raw("\xff", U8, []int{0}, nil)}, nil},
		{"unknown dtype", []Tensor{Raw("a", "F31", []int{0}, nil)}, nil},
		{"negative shape", []Tensor{Raw("a", F32, []int{-1}, nil)}, nil},
		{"overflow", []Tensor{Raw("a", F32, []int{1 << 40, 1 << 40}, nil)}, nil},
		{"too few bytes", []Tensor{Raw("a", F32, []int{2}, make([]byte, 4))}, nil},
		{"too many values", []Tensor{Float32s("a", BF16, []int{2}, make([]float32, 3))}, nil},
		{"integers from floats", []Tensor{Float32s("a", I32, []int{1}, make([]float32, 1))}, nil},
		{"metadata not UTF-8", []Tensor{one}, map[string]string{"k": "\xff"}},
	} {
		if _, err := Write(io.Discard, c.tensors, c.meta); err == nil {
			t.Errorf("%s: accepted", c.name)
		}
	}
}

func TestWriteFileIsAtomic(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "w.safetensors")
	minusOneAndSeven := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, math.MaxUint64), 7)
	if err := WriteFile(path, []Tensor{Raw("n", I64, []int{2}, minusOneAndSeven)}, map[string]string{"step": "1"}); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken half way")
	err = WriteFile(path, []Tensor{stream("a", U8, []int{4}, func(w io.Writer) error {
		w.Write([]byte{1, 2})
		return broken
	})}, nil)
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v", err)
	}
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(before, after) {
		t.Error("a failed write changed the file")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("leftovers: %v", entries)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n, err := f.Int64("n", 2); err != nil || n[0] != -1 || n[1] != 7 {
		t.Errorf("%v, %v", n, err)
	}
	if err := WriteFile(filepath.Join(dir, "absent", "w"), nil, nil); err == nil {
		t.Error("wrote into a folder that is not there")
	}
}

func TestLargeTensorInPieces(t *testing.T) {
	values := make([]float32, 100_001)
	for i := range values {
		values[i] = float32(i % 251)
	}
	var b bytes.Buffer
	if _, err := Write(&b, []Tensor{Float32s("a", BF16, []int{len(values)}, values)}, nil); err != nil {
		t.Fatal(err)
	}
	f, err := Parse("x", b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := f.Float32("a"); err != nil || !slices.Equal(got, values) {
		t.Errorf("values differ, %v", err)
	}
}
