package safetensors

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxHeader is the longest header in bytes that the format allows.
const MaxHeader = 100_000_000

const metadataKey = "__metadata__"

// Info describes one tensor. Begin and End are byte offsets into the data, so the first tensor begins at 0.
type Info struct {
	Name       string
	DType      DType
	Shape      []int // row-major; empty for a scalar
	Begin, End int64
}

// Elements returns the number of elements.
func (i Info) Elements() int {
	n := 1
	for _, s := range i.Shape {
		n *= s
	}
	return n
}

// Header is a checked header: its tensors tile the data of the file it came from.
type Header struct {
	DataStart int64             // offset of the data in the file
	Metadata  map[string]string // nil if the file has none
	tensors   []Info            // in data order
	index     map[string]int
}

// Names returns the tensor names in lexical order.
func (h *Header) Names() []string {
	names := make([]string, 0, len(h.tensors))
	for _, t := range h.tensors {
		names = append(names, t.Name)
	}
	sort.Strings(names)
	return names
}

// Info returns what the header says about a tensor, and whether it is there.
func (h *Header) Info(name string) (Info, bool) {
	i, ok := h.index[name]
	if !ok {
		return Info{}, false
	}
	return h.tensors[i], true
}

// Tensors returns all tensors in the order of their data.
func (h *Header) Tensors() []Info { return slices.Clone(h.tensors) }

// ReadHeader reads and checks the header of a file of size bytes without reading its data, so r may be a
// remote object. Its errors are *Error.
func ReadHeader(r io.ReaderAt, size int64) (*Header, error) {
	if size < 8 {
		return nil, refuse(Truncated, "", "%d bytes are too few for the length field", size)
	}
	var field [8]byte
	if _, err := r.ReadAt(field[:], 0); err != nil {
		return nil, &Error{Class: IO, Detail: "length field", Err: err}
	}
	n := binary.LittleEndian.Uint64(field[:])
	if n > MaxHeader {
		return nil, refuse(HeaderTooLong, "", "header of %d bytes, the limit is %d", n, MaxHeader)
	}
	if int64(n) > size-8 {
		return nil, refuse(Truncated, "", "header of %d bytes in a file of %d", n, size)
	}
	text := make([]byte, n)
	if _, err := r.ReadAt(text, 8); err != nil && err != io.EOF {
		return nil, &Error{Class: IO, Detail: "header", Err: err}
	}
	return parseHeader(text, size-8-int64(n))
}

// parseHeader checks the JSON text of a header against the bytes of data that follow it.
func parseHeader(text []byte, data int64) (*Header, error) {
	if !utf8.Valid(text) {
		return nil, refuse(BadJSON, "", "header is not UTF-8")
	}
	if len(text) == 0 || text[0] != '{' {
		return nil, refuse(BadJSON, "", "header is not a JSON object")
	}
	h := &Header{DataStart: 8 + int64(len(text)), index: map[string]int{}}
	p := newParser(text)
	err := p.object(func(key string) error {
		if key == metadataKey {
			return h.parseMetadata(p)
		}
		return h.parseTensor(p, key)
	})
	if err != nil {
		return nil, err
	}
	if err := p.end(" "); err != nil {
		return nil, err
	}
	return h, h.check(data)
}

func (h *Header) parseMetadata(p *parser) error {
	if h.Metadata != nil {
		return refuse(Duplicate, "", "%s is given twice", metadataKey)
	}
	h.Metadata = map[string]string{}
	return p.object(func(key string) error {
		value, err := p.string()
		if err != nil {
			return refuse(BadJSON, "", "metadata %q is not a string", key)
		}
		if _, seen := h.Metadata[key]; seen {
			return refuse(BadJSON, "", "metadata %q is given twice", key)
		}
		h.Metadata[key] = value
		return nil
	})
}

func (h *Header) parseTensor(p *parser, name string) error {
	if _, seen := h.index[name]; seen {
		return refuse(Duplicate, name, "the name is given twice")
	}
	t := Info{Name: name}
	var fields [3]bool // dtype, shape, data_offsets
	err := p.object(func(key string) (err error) {
		field := slices.Index([]string{"dtype", "shape", "data_offsets"}, key)
		if field < 0 || fields[field] {
			return refuse(BadJSON, name, "field %q is unknown or given twice", key)
		}
		fields[field] = true
		switch key {
		case "dtype":
			var s string
			s, err = p.string()
			t.DType = DType(s)
		case "shape":
			t.Shape, err = p.ints()
		default:
			var offsets []int
			if offsets, err = p.ints(); err == nil && len(offsets) != 2 {
				return refuse(BadJSON, name, "data_offsets has %d numbers, not 2", len(offsets))
			} else if err == nil {
				t.Begin, t.End = int64(offsets[0]), int64(offsets[1])
			}
		}
		return err
	})
	if err != nil {
		return inTensor(err, name)
	}
	if fields != [3]bool{true, true, true} {
		return refuse(BadJSON, name, "an entry needs dtype, shape and data_offsets")
	}
	h.index[name] = len(h.tensors)
	h.tensors = append(h.tensors, t)
	return nil
}

// check tests dtype and shape of each entry, then that the entries tile the data, then the data's end.
func (h *Header) check(data int64) error {
	for _, t := range h.tensors {
		if t.DType.Bits() == 0 {
			return refuse(BadDType, t.Name, "dtype %q does not exist", t.DType)
		}
		size, ok := sizeOf(t.DType, t.Shape)
		if !ok {
			return refuse(BadShape, t.Name, "shape %v has a negative size or overflows", t.Shape)
		}
		if t.Begin < 0 || t.End < t.Begin || t.End-t.Begin != size {
			return refuse(BadShape, t.Name, "shape %v of %s needs %d bytes, offsets are [%d, %d]", t.Shape, t.DType, size, t.Begin, t.End)
		}
	}
	slices.SortFunc(h.tensors, func(a, b Info) int {
		if a.Begin != b.Begin {
			return cmp.Compare(a.Begin, b.Begin)
		}
		if a.End != b.End {
			return cmp.Compare(a.End, b.End)
		}
		return cmp.Compare(a.Name, b.Name)
	})
	end := int64(0)
	for i, t := range h.tensors {
		h.index[t.Name] = i
		if t.Begin < end {
			return refuse(Overlap, t.Name, "begins at byte %d, where the tensor before it ends at %d", t.Begin, end)
		}
		if t.Begin > end {
			return refuse(Hole, t.Name, "begins at byte %d, but the tensors before it end at %d", t.Begin, end)
		}
		end = t.End
	}
	if end > data {
		return refuse(Truncated, "", "the tensors need %d bytes of data, the file has %d", end, data)
	}
	if end < data {
		return refuse(Hole, "", "%d bytes after the last tensor", data-end)
	}
	return nil
}

// parser reads JSON token by token, because the decoder of structs accepts duplicate keys and keys in the
// wrong case.
type parser struct {
	text []byte
	dec  *json.Decoder
}

func newParser(text []byte) *parser {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	return &parser{text: text, dec: dec}
}

// object reads one object and calls field for each key; field has to read the value.
func (p *parser) object(field func(key string) error) error {
	if err := p.delim('{'); err != nil {
		return err
	}
	for p.dec.More() {
		key, err := p.string()
		if err != nil {
			return err
		}
		if err := field(key); err != nil {
			return err
		}
	}
	return p.delim('}')
}

func (p *parser) delim(want json.Delim) error {
	got, err := p.dec.Token()
	if err != nil {
		return &Error{Class: BadJSON, Detail: "broken JSON", Err: err}
	}
	if got != want {
		return refuse(BadJSON, "", "%q expected near byte %d", want.String(), p.dec.InputOffset())
	}
	return nil
}

func (p *parser) string() (string, error) {
	got, err := p.dec.Token()
	if err != nil {
		return "", &Error{Class: BadJSON, Detail: "broken JSON", Err: err}
	}
	s, ok := got.(string)
	if !ok {
		return "", refuse(BadJSON, "", "a string expected near byte %d", p.dec.InputOffset())
	}
	return s, nil
}

// ints reads a list of whole numbers. One that is no int64 is a fault of the shape, not of the JSON.
func (p *parser) ints() ([]int, error) {
	if err := p.delim('['); err != nil {
		return nil, err
	}
	list := []int{}
	for p.dec.More() {
		got, err := p.dec.Token()
		if err != nil {
			return nil, &Error{Class: BadJSON, Detail: "broken JSON", Err: err}
		}
		number, ok := got.(json.Number)
		if !ok {
			return nil, refuse(BadJSON, "", "a number expected near byte %d", p.dec.InputOffset())
		}
		n, err := strconv.Atoi(number.String())
		if err != nil {
			return nil, wrongInteger(number.String(), err)
		}
		list = append(list, n)
	}
	return list, p.delim(']')
}

func wrongInteger(number string, err error) error {
	class := BadJSON
	if !strings.ContainsAny(number, ".eE") {
		class = BadShape // a whole number beyond 63 bits
	}
	return &Error{Class: class, Detail: fmt.Sprintf("%.40s is not a size", number), Err: err}
}

// end checks that only bytes out of padding follow.
func (p *parser) end(padding string) error {
	rest := p.text[p.dec.InputOffset():]
	if rest = bytes.TrimLeft(rest, padding); len(rest) > 0 {
		return refuse(BadJSON, "", "%d bytes follow the JSON object", len(rest))
	}
	return nil
}

func inTensor(err error, name string) error {
	if e, ok := err.(*Error); ok && e.Tensor == "" {
		e.Tensor = name
	}
	return err
}
