// Package weights loads the frozen parameters of a model from safetensors.
//
// A model declares every tensor it needs, with the field that takes it; Load then checks the file against all
// declarations at once (nothing missing, nothing left over, dtypes and shapes right) and only then fills the fields.
// Matrices stay as the file stores them, BF16 and F32 as views of the mapped file where alignment allows, so a 10 GB
// text encoder costs no copy.
//
// Load also refuses numbers that are not finite: one NaN in a model makes every result NaN, hours later and without a
// name. That reads each byte once, at the speed of memory. A model is read whole by its first pass in any case; where
// memory holds it, that pass then finds it in the page cache, and where it does not, each training step reads it two or
// three times, of which this is one more, once.
package weights

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/store/safetensors"
)

// Storage says how matrices are kept. Biases and norm weights are always float32.
type Storage uint8

// The storages. Under AsStored, F16 and F64 files become Float32, because the engine has no such weights, and 8-bit
// floating point becomes BFloat16, which holds each of its numbers exactly.
const (
	AsStored Storage = iota
	Float32
	BFloat16
)

// Storages are the storages by the names that configs and flags use.
var Storages = map[string]Storage{"auto": AsStored, "float32": Float32, "f32": Float32, "bfloat16": BFloat16, "bf16": BFloat16}

// Loader collects the declarations of one model's tensors.
type Loader struct {
	source   safetensors.Source
	storage  Storage
	wants    []safetensors.Want
	fills    []func() error
	optional func(name string) bool
}

// NewLoader starts a list of declarations over the tensors of source.
func NewLoader(source safetensors.Source, storage Storage) *Loader {
	return &Loader{source: source, storage: storage}
}

// Optional names tensors that may be in the file and are not used, such as index buffers that old library versions
// stored beside the weights.
func (l *Loader) Optional(match func(name string) bool) { l.optional = match }

// Has tells whether the source holds a tensor of that name.
func (l *Loader) Has(name string) bool {
	_, ok := l.source.Info(name)
	return ok
}

// Matrix declares a tensor [out, in] that *dst becomes.
func (l *Loader) Matrix(dst **engine.Weight, name string, out, in int) {
	l.declare(name, []int{out, in}, func() (err error) {
		*dst, err = l.matrix(name, out, in)
		return err
	})
}

// Conv declares a convolution kernel [out, in, k, k], kept as the matrix [out, in·k·k].
func (l *Loader) Conv(dst **engine.Weight, name string, out, in, k int) {
	l.declare(name, []int{out, in, k, k}, func() (err error) {
		*dst, err = l.matrix(name, out, in*k*k)
		return err
	})
}

// Stack declares matrices of in columns each, shaped as given by shape(out), that are put below one another in one
// copy: q, k and v then cost one multiplication.
func (l *Loader) Stack(dst **engine.Weight, names []string, outs []int, in int, shape ...int) {
	for i, name := range names {
		l.want(name, append([]int{outs[i], in}, shape...))
	}
	l.fills = append(l.fills, func() error {
		parts := make([]*engine.Weight, len(names))
		for i, name := range names {
			var err error
			if parts[i], err = l.matrix(name, outs[i], in); err != nil {
				return err
			}
		}
		*dst = Stacked(parts)
		return nil
	})
}

// Stacked copies matrices of equal width below one another. Unequal dtypes give float32.
func Stacked(parts []*engine.Weight) *engine.Weight {
	out, in := 0, parts[0].In
	for _, p := range parts {
		out += p.Out
	}
	w := &engine.Weight{Out: out, In: in, Stride: in}
	if !slices.ContainsFunc(parts, func(p *engine.Weight) bool { return p.BF16 == nil }) {
		w.BF16 = make([]uint16, 0, out*in)
		for _, p := range parts {
			for o := range p.Out {
				w.BF16 = append(w.BF16, p.BF16[o*p.Stride:][:in]...)
			}
		}
		return w
	}
	w.F32 = make([]float32, out*in)
	row := 0
	for _, p := range parts {
		for o := range p.Out {
			Row(w.F32[row*in:(row+1)*in], p, o)
			row++
		}
	}
	return w
}

// Vector declares a tensor [n], kept as float32.
func (l *Loader) Vector(dst *[]float32, name string, n int) {
	l.declare(name, []int{n}, func() (err error) {
		*dst, err = l.source.Float32(name)
		return err
	})
}

// Vectors declares tensors [n_i] that are put behind one another, as Stack does with matrices.
func (l *Loader) Vectors(dst *[]float32, names []string, sizes []int) {
	for i, name := range names {
		l.want(name, []int{sizes[i]})
	}
	l.fills = append(l.fills, func() error {
		var all []float32
		for _, name := range names {
			part, err := l.source.Float32(name)
			if err != nil {
				return err
			}
			all = append(all, part...)
		}
		*dst = all
		return nil
	})
}

// Scalar declares a tensor of shape [].
func (l *Loader) Scalar(dst *float32, name string) {
	l.declare(name, []int{}, func() error {
		v, err := l.source.Float32(name)
		if err == nil {
			*dst = v[0]
		}
		return err
	})
}

func (l *Loader) want(name string, shape []int) {
	l.wants = append(l.wants, safetensors.Want{Name: name, Shape: shape})
}

func (l *Loader) declare(name string, shape []int, fill func() error) {
	l.want(name, shape)
	l.fills = append(l.fills, fill)
}

// Wants lists the declared tensors.
func (l *Loader) Wants() []safetensors.Want { return slices.Clone(l.wants) }

// Load checks the source against the declarations and fills the fields. Its errors are those of safetensors.Require and
// safetensors.CheckFinite.
func (l *Loader) Load() error {
	if err := safetensors.Require(l.visible(), l.wants); err != nil {
		return err
	}
	names := make([]string, len(l.wants))
	for i, w := range l.wants {
		names[i] = w.Name
	}
	if err := safetensors.CheckFinite(context.Background(), l.source, names); err != nil {
		return err
	}
	for _, fill := range l.fills {
		if err := fill(); err != nil {
			return err
		}
	}
	return nil
}

// Notes says in words which tensors are not used as the file has them. Empty for F32 and BF16.
func (l *Loader) Notes() []string {
	count := map[safetensors.DType]int{}
	for _, w := range l.wants {
		info, _ := l.source.Info(w.Name)
		count[info.DType]++
	}
	var notes []string
	note := func(d safetensors.DType, what string) {
		if count[d] > 0 {
			notes = append(notes, fmt.Sprintf("%d tensors of %s %s", count[d], d, what))
		}
	}
	const small = "are widened, which is exact; they have few bits, so the original weights give better results"
	note(safetensors.F8E4M3, small)
	note(safetensors.F8E5M2, small)
	note(safetensors.F64, "are rounded to float32")
	if l.storage != BFloat16 {
		note(safetensors.F16, "are widened to float32, which takes twice the size of the file in memory")
	}
	return notes
}

// visible is the source without the optional tensors.
func (l *Loader) visible() safetensors.Source {
	if l.optional == nil {
		return l.source
	}
	declared := make(map[string]bool, len(l.wants))
	for _, w := range l.wants {
		declared[w.Name] = true
	}
	var hidden []string
	for _, name := range l.source.Names() {
		if !declared[name] && l.optional(name) {
			hidden = append(hidden, name)
		}
	}
	if len(hidden) == 0 {
		return l.source
	}
	return without{l.source, hidden}
}

// without is a source that does not list some of its tensors.
type without struct {
	safetensors.Source
	hidden []string // sorted
}

// Within gives the source below, for messages.
func (w without) Within() (safetensors.Source, string) { return w.Source, "" }

func (w without) Names() []string {
	return slices.DeleteFunc(w.Source.Names(), func(name string) bool {
		_, found := slices.BinarySearch(w.hidden, name)
		return found
	})
}

// matrix reads a checked tensor in the storage that was asked for.
func (l *Loader) matrix(name string, out, in int) (*engine.Weight, error) {
	info, _ := l.source.Info(name)
	w := &engine.Weight{Out: out, In: in, Stride: in}
	var err error
	switch {
	case l.storage == BFloat16 || l.storage == AsStored && fitsBFloat16(info.DType):
		w.BF16, err = l.source.BFloat16(name)
	case info.DType == safetensors.F32:
		w.F32, err = l.float32View(name)
	default:
		w.F32, err = l.source.Float32(name)
	}
	if err != nil {
		return nil, err
	}
	return w, nil
}

// fitsBFloat16 tells whether bfloat16 holds every number of a dtype.
func fitsBFloat16(d safetensors.DType) bool {
	return d == safetensors.BF16 || d == safetensors.F8E4M3 || d == safetensors.F8E5M2
}

// float32View is a tensor's own bytes where the machine can read them in place, else a copy.
func (l *Loader) float32View(name string) ([]float32, error) {
	raw, err := l.source.Bytes(name)
	if err != nil {
		return nil, err
	}
	if view, ok := safetensors.Float32View(raw); ok {
		return view, nil
	}
	return l.source.Float32(name)
}

// Row copies row o of a weight into dst as float32: the lookup of an embedding table.
func Row(dst []float32, w *engine.Weight, o int) {
	if w.F32 != nil {
		copy(dst[:w.In], w.F32[o*w.Stride:])
		return
	}
	for i, b := range w.BF16[o*w.Stride : o*w.Stride+w.In] {
		dst[i] = safetensors.FromBFloat16(b)
	}
}

// Bytes is the size of a weight's numbers.
func Bytes(w *engine.Weight) int {
	if w.F32 != nil {
		return 4 * len(w.F32)
	}
	return 2 * len(w.BF16)
}

// PositionIDs matches the index buffers that older transformers versions stored in CLIP files.
func PositionIDs(name string) bool {
	return strings.HasSuffix(name, "embeddings.position_ids")
}

// Lookup writes the table's rows of ids below one another: dst [len(ids), w.In]. An id outside the table is an error.
func Lookup(dst []float32, w *engine.Weight, ids []int32) error {
	for i, id := range ids {
		if id < 0 || int(id) >= w.Out {
			return fmt.Errorf("look up token id %d at place %d: the vocabulary has %d entries; the tokenizer does not belong to this model", id, i, w.Out)
		}
		Row(dst[i*w.In:(i+1)*w.In], w, int(id))
	}
	return nil
}

// Rows checks that ids are whole rows of the given length and returns how many.
func Rows(ids []int32, length int) (int, error) {
	if length < 1 || len(ids) == 0 || len(ids)%length != 0 {
		return 0, fmt.Errorf("%d token ids in rows of %d: need one row or more, all of that length; pad the shorter ones", len(ids), length)
	}
	return len(ids) / length, nil
}

// chunkRows bounds the token rows that an encoder works on at once.
const chunkRows = 4096

// Chunk is how many samples of a length in tokens an encoder works on at once.
func Chunk(length int) int { return max(1, chunkRows/length) }
