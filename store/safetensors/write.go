package safetensors

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"unicode/utf8"
)

// Tensor is a tensor to be written. Make one with Raw or Float32s.
type Tensor struct {
	Name  string
	DType DType
	Shape []int
	write func(io.Writer) error
}

// Raw is a tensor whose bytes are ready (row-major, little-endian).
func Raw(name string, dtype DType, shape []int, data []byte) Tensor {
	return stream(name, dtype, shape, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// Float32s is a tensor of float32 values, stored as dtype F32, BF16, F16 or F64. The values are converted
// piece by piece while they are written.
func Float32s(name string, dtype DType, shape []int, values []float32) Tensor {
	return stream(name, dtype, shape, func(w io.Writer) error {
		const piece = 16 << 10
		buf := make([]byte, piece*dtype.Bits()/8)
		for rest := values; len(rest) > 0; {
			n := min(piece, len(rest))
			out := buf[:n*dtype.Bits()/8]
			if err := EncodeFloat32(out, dtype, rest[:n]); err != nil {
				return err
			}
			if _, err := w.Write(out); err != nil {
				return err
			}
			rest = rest[n:]
		}
		return nil
	})
}

// stream is a tensor whose bytes are produced when they are written. write must write exactly the bytes
// that dtype and shape ask for.
func stream(name string, dtype DType, shape []int, write func(io.Writer) error) Tensor {
	return Tensor{Name: name, DType: dtype, Shape: shape, write: write}
}

// Write writes a whole file to w and returns its size in bytes. Tensors are laid out by dtype, widest
// first, then by name, whatever their order in the argument, so the result depends on the contents alone.
// Nothing is written if a tensor cannot be described.
func Write(w io.Writer, tensors []Tensor, metadata map[string]string) (int64, error) {
	sorted, err := layOut(tensors)
	if err != nil {
		return 0, err
	}
	header, err := encodeHeader(sorted, metadata)
	if err != nil {
		return 0, err
	}
	counter := &countingWriter{w: w}
	if _, err := counter.Write(header); err != nil {
		return counter.n, fmt.Errorf("write safetensors header: %w", err)
	}
	for _, t := range sorted {
		before := counter.n
		if err := t.write(counter); err != nil {
			return counter.n, fmt.Errorf("write safetensors tensor %q: %w", t.Name, err)
		}
		size, _ := sizeOf(t.DType, t.Shape)
		if got := counter.n - before; got != size {
			return counter.n, fmt.Errorf("write safetensors tensor %q: %d bytes given, %s of shape %v needs %d", t.Name, got, t.DType, t.Shape, size)
		}
	}
	return counter.n, nil
}

// WriteFile writes a file so that path holds either its old content or the whole new one, also after a
// power cut: a temporary file beside it is synced, then renamed over it, then the folder is synced.
func WriteFile(path string, tensors []Tensor, metadata map[string]string) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".tmp-*")
	if err != nil {
		return fmt.Errorf("write safetensors %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
			err = fmt.Errorf("write safetensors %s: %w; check free space and permissions of the folder", path, err)
		}
	}()
	buffered := bufio.NewWriterSize(f, 1<<20)
	if _, err := Write(buffered, tensors, metadata); err != nil {
		return err
	}
	if err := buffered.Flush(); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// layOut checks the tensors and sorts them into data order.
func layOut(tensors []Tensor) ([]Tensor, error) {
	sorted := slices.Clone(tensors)
	slices.SortFunc(sorted, func(a, b Tensor) int {
		return cmp.Or(cmp.Compare(a.DType.rank(), b.DType.rank()), cmp.Compare(a.Name, b.Name))
	})
	seen := make(map[string]bool, len(sorted))
	for _, t := range sorted {
		switch _, ok := sizeOf(t.DType, t.Shape); {
		case t.Name == metadataKey || !utf8.ValidString(t.Name):
			return nil, fmt.Errorf("write safetensors tensor %q: not a tensor name", t.Name)
		case seen[t.Name]:
			return nil, fmt.Errorf("write safetensors tensor %q: the name is given twice", t.Name)
		case t.DType.rank() < 0:
			return nil, fmt.Errorf("write safetensors tensor %q: dtype %q does not exist", t.Name, t.DType)
		case !ok:
			return nil, fmt.Errorf("write safetensors tensor %q: shape %v cannot be stored", t.Name, t.Shape)
		}
		seen[t.Name] = true
	}
	return sorted, nil
}

// encodeHeader returns the length field and the JSON, padded with spaces to a multiple of 8.
func encodeHeader(sorted []Tensor, metadata map[string]string) ([]byte, error) {
	var b bytes.Buffer
	b.Write(make([]byte, 8))
	b.WriteByte('{')
	comma := func() {
		if b.Len() > 9 {
			b.WriteByte(',')
		}
	}
	if metadata != nil {
		b.WriteString(quote(metadataKey) + ":{")
		for i, key := range sortedKeys(metadata) {
			if !utf8.ValidString(key) || !utf8.ValidString(metadata[key]) {
				return nil, fmt.Errorf("write safetensors metadata %q: not UTF-8", key)
			}
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(quote(key) + ":" + quote(metadata[key]))
		}
		b.WriteByte('}')
	}
	begin := int64(0)
	for _, t := range sorted {
		size, _ := sizeOf(t.DType, t.Shape)
		comma()
		fmt.Fprintf(&b, `%s:{"dtype":"%s","shape":%s,"data_offsets":[%d,%d]}`, quote(t.Name), t.DType, shapeText(t.Shape), begin, begin+size)
		begin += size
	}
	b.WriteByte('}')
	for b.Len()%8 != 0 {
		b.WriteByte(' ')
	}
	if b.Len()-8 > MaxHeader {
		return nil, fmt.Errorf("write safetensors: header of %d bytes, the limit is %d; write several files", b.Len()-8, MaxHeader)
	}
	out := b.Bytes()
	binary.LittleEndian.PutUint64(out, uint64(len(out)-8))
	return out, nil
}

func shapeText(shape []int) string {
	text, _ := json.Marshal(append([]int{}, shape...)) // a list of ints cannot fail
	return string(text)
}

// quote writes a JSON string without the HTML escapes of json.Marshal, as the reference does.
func quote(s string) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string cannot fail
	return string(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
