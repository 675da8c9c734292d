package parity

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"slices"
)

// judge compares everything the case expects with what the runner gave, tensors first, each part in name order.
func judge(c *Case, got *Outputs, dtype string) []Row {
	var rows []Row
	for _, name := range sortedKeys(c.expected) {
		row := Row{Case: c.Name, Kind: c.Kind, Output: name, Tolerance: Number(c.toleranceFor(name, dtype))}
		ours, ok := got.tensors[name]
		if !ok {
			row.fail("the runner gave no such output")
		} else {
			row.compareTensor(ours, c.expected[name], got.exact[name])
		}
		rows = append(rows, row)
	}
	for _, name := range sortedKeys(c.values) {
		row := Row{Case: c.Name, Kind: c.Kind, Output: name}
		ours, ok := got.values[name]
		if !ok {
			row.fail("the runner gave no such output")
		} else {
			row.compareValue(ours, c.values[name])
		}
		rows = append(rows, row)
	}
	return rows
}

func (r *Row) fail(format string, args ...any) {
	r.OK, r.Error, r.Detail = false, Number(math.Inf(1)), fmt.Sprintf(format, args...)
}

func (r *Row) compareTensor(ours, expected Tensor, exact bool) {
	if !slices.Equal(ours.Shape, expected.Shape) {
		r.fail("shape %v, expected %v", ours.Shape, expected.Shape)
		return
	}
	if size := elementSize[ours.DType]; size == 0 || ours.Len()*size != len(ours.Data) {
		r.fail("%d bytes do not make %s %v", len(ours.Data), ours.DType, ours.Shape)
		return
	}
	switch {
	case exact:
		r.Tolerance = 0
		r.compareBytes(ours, expected)
	case !expected.isFloat():
		r.Tolerance = 0
		r.compareIntegers(ours, expected)
	default:
		r.compareFloats(ours, expected)
	}
}

func (r *Row) compareBytes(ours, expected Tensor) {
	if ours.DType != expected.DType {
		r.fail("dtype %s, expected %s", ours.DType, expected.DType)
		return
	}
	if !bytes.Equal(ours.Data, expected.Data) {
		r.fail("the stored bytes differ")
		return
	}
	r.OK = true
}

// compareIntegers sets the error to the number of places that differ.
func (r *Row) compareIntegers(ours, expected Tensor) {
	a, err := ours.Int64s()
	if err != nil {
		r.fail("%s given where integers are expected", ours.DType)
		return
	}
	b, err := expected.Int64s()
	if err != nil {
		r.fail("expected: %v", err)
		return
	}
	differ, first := 0, -1
	for i := range a {
		if a[i] != b[i] {
			differ++
			if first < 0 {
				first = i
			}
		}
	}
	r.Error, r.OK = Number(differ), differ == 0
	if differ > 0 {
		r.Detail = fmt.Sprintf("%d of %d places differ, first at %v: %d, expected %d", differ, len(a),
			place(first, expected.Shape), a[first], b[first])
	}
}

// compareFloats sets the error to max|ours - expected| / max|expected|, or to max|ours| where the expected values are
// all zero. A value that is not finite is never right, unless the very same one is expected.
func (r *Row) compareFloats(ours, expected Tensor) {
	a, err := ours.Float64s()
	if err != nil {
		r.fail("%v", err)
		return
	}
	b, err := expected.Float64s()
	if err != nil {
		r.fail("expected: %v", err)
		return
	}
	var worst, scale float64
	at := 0
	for i := range a {
		if a[i] == b[i] || math.IsNaN(a[i]) && math.IsNaN(b[i]) {
			if !math.IsInf(b[i], 0) && !math.IsNaN(b[i]) {
				scale = max(scale, math.Abs(b[i]))
			}
			continue
		}
		d := math.Abs(a[i] - b[i])
		if math.IsNaN(d) || math.IsInf(d, 0) {
			r.fail("not finite at %v: %v, expected %v", place(i, expected.Shape), a[i], b[i])
			return
		}
		scale = max(scale, math.Abs(b[i]))
		if d > worst {
			worst, at = d, i
		}
	}
	if scale > 0 {
		worst /= scale
	}
	r.Error, r.OK = Number(worst), worst <= float64(r.Tolerance)
	if !r.OK {
		r.Detail = fmt.Sprintf("largest difference at %v: %v, expected %v", place(at, expected.Shape), a[at], b[at])
	}
}

func (r *Row) compareValue(ours any, expected json.RawMessage) {
	encoded, err := json.Marshal(ours)
	if err != nil {
		r.fail("output cannot be written as JSON: %v", err)
		return
	}
	a, err := decodeNumbers(encoded)
	if err != nil {
		r.fail("output: %v", err)
		return
	}
	b, err := decodeNumbers(expected)
	if err != nil {
		r.fail("expected: %v", err)
		return
	}
	if where, same := sameJSON(a, b, ""); !same {
		r.Error, r.Detail = 1, where
		return
	}
	r.OK = true
}

func decodeNumbers(data []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	err := d.Decode(&v)
	return v, err
}

// sameJSON compares two decoded values; numbers by value, so 1 equals 1.0. It also says where they part.
func sameJSON(a, b any, path string) (string, bool) {
	switch b := b.(type) {
	case []any:
		list, ok := a.([]any)
		if !ok || len(list) != len(b) {
			return differs(path, a, b)
		}
		for i := range b {
			if where, same := sameJSON(list[i], b[i], fmt.Sprintf("%s[%d]", path, i)); !same {
				return where, false
			}
		}
		return "", true
	case map[string]any:
		object, ok := a.(map[string]any)
		if !ok || !slices.Equal(sortedKeys(object), sortedKeys(b)) {
			return differs(path, a, b)
		}
		for _, k := range sortedKeys(b) {
			if where, same := sameJSON(object[k], b[k], path+"."+k); !same {
				return where, false
			}
		}
		return "", true
	case json.Number:
		number, ok := a.(json.Number)
		if !ok || !sameNumber(number, b) {
			return differs(path, a, b)
		}
		return "", true
	}
	if !reflect.DeepEqual(a, b) {
		return differs(path, a, b)
	}
	return "", true
}

func sameNumber(a, b json.Number) bool {
	x, _, errX := big.ParseFloat(a.String(), 10, 128, big.ToNearestEven)
	y, _, errY := big.ParseFloat(b.String(), 10, 128, big.ToNearestEven)
	return errX == nil && errY == nil && x.Cmp(y) == 0
}

func differs(path string, a, b any) (string, bool) {
	return fmt.Sprintf("at %q: %s, expected %s", path, short(a), short(b)), false
}

func short(v any) string {
	text, _ := json.Marshal(v)
	if len(text) > 120 {
		return string(text[:120]) + "…"
	}
	return string(text)
}

// place turns a flat index into coordinates.
func place(flat int, shape []int) []int {
	at := make([]int, len(shape))
	for d := len(shape) - 1; d >= 0; d-- {
		if shape[d] > 0 {
			at[d] = flat % shape[d]
			flat /= shape[d]
		}
	}
	return at
}
