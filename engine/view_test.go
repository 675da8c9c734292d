package engine_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/engine"
)

// elements are the values of a view, row by row, straight from its numbers.
func elements(v engine.View) (out []float32) {
	data := v.T.Floats()
	for r := range v.Rows {
		out = append(out, data[v.Offset+r*v.Stride:][:v.Cols]...)
	}
	return out
}

// TestRangesOfRangesAreRanges: cutting rows and columns in any order gives the rectangle, and cuts compose.
func TestRangesOfRangesAreRanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows, cols := rapid.IntRange(1, 7).Draw(t, "rows"), rapid.IntRange(1, 7).Draw(t, "cols")
		x := engine.Wrap(numbers(1, rows*cols), rows, cols)
		part := func(name string, n int) (from, size int) {
			from = rapid.IntRange(0, n).Draw(t, name+" from")
			return from, rapid.IntRange(0, n-from).Draw(t, name+" size")
		}
		r, h := part("row", rows)
		c, w := part("column", cols)
		var want []float32
		for i := r; i < r+h; i++ {
			want = append(want, x.Floats()[i*cols+c:][:w]...)
		}
		a, b := engine.All(x).RowRange(r, h).ColRange(c, w), engine.All(x).ColRange(c, w).RowRange(r, h)
		if !slices.Equal(elements(a), want) || !slices.Equal(elements(b), want) {
			t.Fatalf("rows %d+%d, columns %d+%d: %v and %v, want %v", r, h, c, w, elements(a), elements(b), want)
		}
		inner, n := part("inner row", h)
		if !slices.Equal(elements(a.RowRange(inner, n)), elements(engine.All(x).RowRange(r+inner, n).ColRange(c, w))) {
			t.Fatal("a range of a range is another rectangle")
		}
	})
}

func TestRangesBeyondTheViewPanic(t *testing.T) {
	v := engine.All(engine.Wrap(make([]float32, 6), 2, 3))
	for name, f := range map[string]func(){
		"rows": func() { v.RowRange(1, 2) }, "negative row": func() { v.RowRange(-1, 1) }, "columns": func() { v.ColRange(2, 2) },
		"negative size": func() { v.ColRange(2, -1) }, "values": func() { engine.Wrap(make([]float32, 5), 2, 3) },
		"host access of a device": func() { (&engine.Tensor{Shape: []int{1}}).Floats() },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			f()
		})
	}
}

// TestPartsOfWeights: rows and columns of a weight are the rows and columns of its matrix, for both kinds of storage.
func TestPartsOfWeights(t *testing.T) {
	const out, in = 5, 6
	f32 := &engine.Weight{Out: out, In: in, Stride: in, F32: numbers(2, out*in)}
	bf16 := &engine.Weight{Out: out, In: in, Stride: in, BF16: make([]uint16, out*in)}
	for i := range bf16.BF16 {
		bf16.BF16[i] = uint16(i)
	}
	if f32.DType() != engine.Float32 || bf16.DType() != engine.BFloat16 || f32.DType().String() != "float32" || bf16.DType().String() != "bfloat16" {
		t.Error("storage types are mixed up")
	}
	rapid.Check(t, func(t *rapid.T) {
		r, c := rapid.IntRange(0, out-1).Draw(t, "row"), rapid.IntRange(0, in-1).Draw(t, "column")
		h, w := rapid.IntRange(1, out-r).Draw(t, "rows"), rapid.IntRange(1, in-c).Draw(t, "columns")
		a, b := f32.RowRange(r, h).ColRange(c, w), bf16.ColRange(c, w).RowRange(r, h)
		if a.Out != h || a.In != w || b.Out != h || b.In != w {
			t.Fatalf("[%d, %d] and [%d, %d], want [%d, %d]", a.Out, a.In, b.Out, b.In, h, w)
		}
		for i := range h {
			for j := range w {
				at := (r+i)*in + c + j
				if a.F32[i*a.Stride+j] != f32.F32[at] || b.BF16[i*b.Stride+j] != bf16.BF16[at] {
					t.Fatalf("element (%d, %d) of the part", i, j)
				}
			}
		}
	})
	if f32.Out != out || bf16.In != in {
		t.Error("cutting changed the weight itself")
	}
}

// TestLayoutIsABijection: every token of every sample has one row of its own, text rows of all samples first.
func TestLayoutIsABijection(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := engine.Layout{B: rapid.IntRange(1, 4).Draw(t, "B"), T: rapid.IntRange(0, 5).Draw(t, "T"), N: rapid.IntRange(0, 5).Draw(t, "N")}
		seen := make([]bool, l.Rows())
		for b := range l.B {
			for i := range l.L() {
				row := l.Row(b, i)
				if seen[row] {
					t.Fatalf("row %d belongs to two tokens", row)
				}
				if seen[row] = true; (i < l.T) != (row < l.B*l.T) {
					t.Fatalf("token %d of sample %d is row %d", i, b, row)
				}
			}
		}
	})
}

func TestShapesOfTensors(t *testing.T) {
	for _, c := range []struct {
		shape           []int
		len, rows, cols int
	}{{nil, 1, 1, 1}, {[]int{4}, 4, 1, 4}, {[]int{2, 3, 4}, 24, 6, 4}, {[]int{3, 0}, 0, 0, 0}, {[]int{0, 3}, 0, 0, 3}} {
		x := &engine.Tensor{Shape: c.shape, Host: true}
		if x.Len() != c.len || x.Rows() != c.rows || x.Cols() != c.cols {
			t.Errorf("%v: %d values, %d×%d", c.shape, x.Len(), x.Rows(), x.Cols())
		}
	}
}
