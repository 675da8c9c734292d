package safetensors

import (
	"fmt"
	"slices"
	"strings"
)

// Want is a tensor that a model needs.
type Want struct {
	Name  string
	Shape []int
}

// Len is the number of elements.
func (w Want) Len() int {
	n := 1
	for _, d := range w.Shape {
		n *= d
	}
	return n
}

// quantisers are the names that quantisers put beside a weight or in its place.
var quantisers = []struct {
	kind     string
	suffixes []string
}{
	{"to 4 bits by bitsandbytes (nf4 or fp4)", []string{".absmax", ".quant_map", ".quant_state"}},
	{"to 8 bits by bitsandbytes (int8)", []string{".SCB", ".weight_format"}},
	{"to 4 bits by SVDQuant", []string{".wscales", ".smooth_factor", ".smooth_factor_orig"}},
	{"by GPTQ or AWQ", []string{".qweight", ".qzeros", ".g_idx"}},
	{"by quanto", []string{".weight._data", ".weight._scale"}},
	{"by compressed-tensors", []string{".weight_packed", ".weight_zero_point"}},
	{"to scaled 8-bit floating point (fp8 with a scale for each weight)", []string{
		".scale_weight", ".weight_scale", ".weight_scale_inv", ".weight_scale_2", ".scale_input", ".input_scale", "scaled_fp8", ".comfy_quant"}},
}

// Require checks that src gives exactly the tensors in want, each of floating point and of its shape. It
// tests for quantised weights first, then for missing, then for unexpected tensors, then dtype, then
// shape, and reports all tensors of the first class that fails.
func Require(src Source, want []Want) error {
	needed := make(map[string]bool, len(want))
	var missing, packed, dtypes, shapes []string
	for _, w := range want {
		needed[w.Name] = true
		info, ok := src.Info(w.Name)
		switch {
		case !ok:
			missing = append(missing, w.Name)
		case info.DType.packed():
			packed = append(packed, fmt.Sprintf("%s is %s", w.Name, info.DType))
		case !info.DType.Float():
			dtypes = append(dtypes, fmt.Sprintf("%s is %s", w.Name, info.DType))
		case !slices.Equal(info.Shape, w.Shape):
			shapes = append(shapes, fmt.Sprintf("%s is %v, expected %v", w.Name, info.Shape, w.Shape))
		}
	}
	what, quantised := quantisation(src.Names())
	if len(quantised) == 0 {
		what, quantised = "to whole or very small numbers", packed
	}
	var unexpected []string
	for _, name := range src.Names() {
		if !needed[name] {
			unexpected = append(unexpected, name)
		}
	}
	for _, fault := range []struct {
		class Class
		what  string
		names []string
	}{
		{Quantised, "tensors show that weights are quantised " + what, quantised},
		{MissingTensor, "tensors are missing", missing},
		{UnexpectedTensor, "tensors do not belong to the model", unexpected},
		{BadDType, "weights are not floating point", dtypes},
		{BadShape, "weights have wrong shapes", shapes},
	} {
		if len(fault.names) > 0 {
			return &Error{Class: fault.class, File: place(src, ""), Detail: fmt.Sprintf("%d %s: %s", len(fault.names), fault.what,
				shorten(fault.names))}
		}
	}
	return nil
}

// quantisation tells which quantiser made a file, and the tensors that show it.
func quantisation(names []string) (kind string, found []string) {
	for _, q := range quantisers {
		for _, name := range names {
			if slices.ContainsFunc(q.suffixes, func(s string) bool { return strings.HasSuffix(name, s) || strings.Contains(name, s+".") }) {
				found = append(found, name)
			}
		}
		if len(found) > 0 {
			return q.kind, found
		}
	}
	return "", nil
}

// place names the file of a source for a message: the one that holds the tensor, or the first.
func place(src Source, tensor string) string {
	switch s := src.(type) {
	case *File:
		return s.path
	case *Set:
		if f := s.where[tensor]; f != nil {
			return f.path
		}
		return s.files[0].path
	case interface{ Within() (Source, string) }:
		inner, prefix := s.Within()
		return place(inner, prefix+tensor)
	}
	return ""
}

// shorten keeps a message readable when a whole model is wrong.
func shorten(names []string) string {
	const shown = 5
	if len(names) <= shown {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:shown], ", "), len(names)-shown)
}
