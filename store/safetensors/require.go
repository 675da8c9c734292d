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

// quantiserSuffixes are the names that 4- and 8-bit quantisers put beside a weight.
var quantiserSuffixes = []string{".absmax", ".quant_map", ".quant_state"}

// Require checks that src gives exactly the tensors in want, each F32, F16 or BF16 and of its shape. It
// tests for quantised weights first, then for missing, then for unexpected tensors, then dtype, then
// shape, and reports all tensors of the first class that fails.
func Require(src Source, want []Want) error {
	needed := make(map[string]bool, len(want))
	var missing, dtypes, shapes []string
	for _, w := range want {
		needed[w.Name] = true
		info, ok := src.Info(w.Name)
		switch {
		case !ok:
			missing = append(missing, w.Name)
		case !info.DType.Float():
			dtypes = append(dtypes, fmt.Sprintf("%s is %s", w.Name, info.DType))
		case !slices.Equal(info.Shape, w.Shape):
			shapes = append(shapes, fmt.Sprintf("%s is %v, expected %v", w.Name, info.Shape, w.Shape))
		}
	}
	var quantised, unexpected []string
	for _, name := range src.Names() {
		if isQuantiser(name) {
			quantised = append(quantised, name)
		} else if !needed[name] {
			unexpected = append(unexpected, name)
		}
	}
	for _, fault := range []struct {
		class Class
		what  string
		names []string
	}{
		{Quantised, "weights are quantised", quantised},
		{MissingTensor, "tensors are missing", missing},
		{UnexpectedTensor, "tensors do not belong to the model", unexpected},
		{BadDType, "weights are not floating point", dtypes},
		{BadShape, "weights have wrong shapes", shapes},
	} {
		if len(fault.names) > 0 {
			return &Error{Class: fault.class, File: place(src), Detail: fmt.Sprintf("%d %s: %s", len(fault.names), fault.what, shorten(fault.names))}
		}
	}
	return nil
}

func isQuantiser(name string) bool {
	for _, suffix := range quantiserSuffixes {
		if strings.HasSuffix(name, suffix) || strings.Contains(name, suffix+".") {
			return true
		}
	}
	return false
}

// place names the files of a source for a message.
func place(src Source) string {
	switch s := src.(type) {
	case *File:
		return s.path
	case *Set:
		return s.files[0].path
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
