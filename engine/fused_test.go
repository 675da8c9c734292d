package engine_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/reference"
)

func numbers(seed uint64, n int) []float32 {
	r := rand.New(rand.NewPCG(seed, 3))
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return v
}

func tensor(seed uint64, rows, cols int) *engine.Tensor {
	return engine.Wrap(numbers(seed, rows*cols), rows, cols)
}

// joint is a random projection of a joint matrix: text and image rows with layers of their own, some of them adapted.
type joint struct {
	segs     []engine.Segment
	binding  *engine.Binding
	xs       []*engine.Tensor
	rows, in int
}

func drawJoint(t *rapid.T) joint {
	j := joint{binding: &engine.Binding{Layers: map[string]engine.Layer{}, Stacked: map[string]engine.Layer{},
		Adapters: map[string]*engine.LowRank{}}}
	outs := rapid.SliceOfN(rapid.IntRange(1, 4), 1, 3).Draw(t, "outs")
	widths := rapid.SliceOfN(rapid.IntRange(1, 5), 1, 2).Draw(t, "widths")
	for _, w := range widths {
		j.in += w
	}
	seed := uint64(1)
	for s, rows := range []int{rapid.IntRange(0, 3).Draw(t, "text"), rapid.IntRange(1, 4).Draw(t, "image")} {
		seg := engine.Segment{Rows: rows}
		low := &engine.LowRank{}
		nb := 0
		for i, out := range outs {
			name := string(rune('a'+s)) + string(rune('0'+i))
			seg.Layers = append(seg.Layers, name)
			j.binding.Layers[name] = engine.Layer{Weight: &engine.Weight{Out: out, In: j.in, Stride: j.in, F32: numbers(seed, out*j.in)},
				Bias: numbers(seed+1, out)}
			r := rapid.IntRange(0, 2).Draw(t, "rank")
			low.Ranks, low.Scales = append(low.Ranks, r), append(low.Scales, float32(i)+0.5)
			nb += r * out
			seed += 2
		}
		if r := low.Rank(); r > 0 {
			low.A, low.B = tensor(seed, r, j.in), engine.Wrap(numbers(seed+1, nb), nb)
			j.binding.Adapters[seg.Layers[0]] = low
		}
		j.segs, j.rows, seed = append(j.segs, seg), j.rows+rows, seed+2
	}
	for i, w := range widths {
		j.xs = append(j.xs, tensor(100+uint64(i), j.rows, w))
	}
	return j
}

// at is the output of one row in float64, straight from the definition.
func (j joint) at(row int) []float64 {
	var x []float64
	for _, t := range j.xs {
		for _, v := range t.Floats()[row*t.Cols():][:t.Cols()] {
			x = append(x, float64(v))
		}
	}
	seg := j.segs[0]
	if row >= seg.Rows {
		seg = j.segs[1]
	}
	low := j.binding.Adapters[seg.Layers[0]]
	var y []float64
	a, b := 0, 0
	for i, name := range seg.Layers {
		l := j.binding.Layers[name]
		for o := range l.Weight.Out {
			sum := float64(l.Bias[o])
			for k, v := range x {
				w := float64(l.Weight.F32[o*j.in+k])
				for r := 0; low != nil && r < low.Ranks[i]; r++ {
					w += float64(low.Scales[i]) * float64(low.B.Floats()[b+o*low.Ranks[i]+r]) * float64(low.A.Floats()[(a+r)*j.in+k])
				}
				sum += v * w
			}
			y = append(y, sum)
		}
		if low != nil {
			a, b = a+low.Ranks[i], b+low.Ranks[i]*l.Weight.Out
		}
	}
	return y
}

// TestProject: any mixture of segments, layers, inputs and adapters is the definition, row by row; also when the layers
// of a segment are stacked.
func TestProject(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		j, b := drawJoint(t), reference.New()
		e := engine.NewEager(b)
		e.Bind(j.binding)
		y := e.Project(j.segs, j.xs...)
		for row := range j.rows {
			for o, want := range j.at(row) {
				if got := float64(y.Floats()[row*y.Cols()+o]); math.Abs(got-want) > 1e-4 {
					t.Fatalf("row %d, output %d: %v, want %v", row, o, got, want)
				}
			}
		}
		for _, seg := range j.segs {
			all := engine.Layer{Weight: &engine.Weight{In: j.in, Stride: j.in}}
			for _, name := range seg.Layers {
				l := j.binding.Layers[name]
				all.Weight.F32, all.Bias = append(all.Weight.F32, l.Weight.F32...), append(all.Bias, l.Bias...)
				all.Weight.Out += l.Weight.Out
			}
			j.binding.Stacked[seg.Layers[0]] = all
		}
		if stacked := e.Project(j.segs, j.xs...); !slices.Equal(stacked.Floats(), y.Floats()) {
			t.Fatal("stacked layers give another result")
		}
		e.Release()
		if live, _ := b.Memory(); live != 0 {
			t.Fatalf("%d bytes left behind", live)
		}
	})
}

// TestRelease frees everything but what is kept, which Free then gives back.
func TestRelease(t *testing.T) {
	b := reference.New()
	e := engine.NewEager(b)
	x := tensor(1, 4, 3)
	y := e.Add(e.Activate(x, engine.SiLU), x)
	e.Release(y)
	if live, _ := b.Memory(); live == 0 || y.Floats()[0] == 0 {
		t.Error("the kept result is gone")
	}
	e.Release()
	e.Free(y)
	if live, _ := b.Memory(); live != 0 {
		t.Errorf("%d bytes left behind", live)
	}
}

// TestStackAndRows: cutting a stack gives its parts.
func TestStackAndRows(t *testing.T) {
	e := engine.NewEager(reference.New())
	defer e.Release()
	top, bottom := tensor(1, 2, 3), tensor(2, 4, 3)
	y := e.Stack(top, bottom)
	if !slices.Equal(e.Rows(y, 0, 2).Floats(), top.Floats()) || !slices.Equal(e.Rows(y, 2, 4).Floats(), bottom.Floats()) {
		t.Error("parts of a stack differ from what was stacked")
	}
}

// TestRunsOfModulation: two runs with vectors of their own are two operations on their rows.
func TestRunsOfModulation(t *testing.T) {
	const text, image, c = 4, 6, 3 // two samples of 2 text and 3 image rows
	e := engine.NewEager(reference.New())
	defer e.Release()
	x, s, by1, by2 := tensor(1, text+image, c), tensor(2, text+image, c), tensor(3, 2, 3*c), tensor(4, 2, 3*c)
	first := engine.Modulation[*engine.Tensor]{Rows: text, PerSample: 2, By: by1, Shift: 0, Scale: 1, Gate: 2}
	second := engine.Modulation[*engine.Tensor]{Rows: image, PerSample: 3, By: by2, Shift: 2, Scale: 0, Gate: 1}
	cut := func(m *engine.Tensor) (*engine.Tensor, *engine.Tensor) {
		return e.Rows(m, 0, text), e.Rows(m, text, image)
	}
	xt, xi := cut(x)
	st, si := cut(s)
	if !slices.Equal(e.Modulate(x, first, second).Floats(), e.Stack(e.Modulate(xt, first), e.Modulate(xi, second)).Floats()) {
		t.Error("modulation of two runs differs from two modulations")
	}
	if !slices.Equal(e.GateAdd(s, x, first, second).Floats(), e.Stack(e.GateAdd(st, xt, first), e.GateAdd(si, xi, second)).Floats()) {
		t.Error("gate of two runs differs from two gates")
	}
}

func TestSlice(t *testing.T) {
	x := tensor(1, 3, 4)
	if s := engine.Slice(x, 5, 2, 3); s.Floats()[0] != x.Floats()[5] || s.Len() != 6 {
		t.Error("a slice begins elsewhere")
	}
	if s := engine.Slice(x, 12, 0, 4); s.Len() != 0 || s.Floats() != nil {
		t.Error("an empty slice holds numbers")
	}
	for _, bad := range []int{-1, 7} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("a slice of 6 from %d of 12 was given", bad)
				}
			}()
			engine.Slice(x, bad, 6)
		}()
	}
}

// TestUnknownNames panic with the name, for the callers that turn it into an error.
func TestUnknownNames(t *testing.T) {
	e := engine.NewEager(reference.New())
	e.Bind(&engine.Binding{})
	x := tensor(1, 2, 6)
	for name, run := range map[string]func(){
		"layer": func() { e.Project([]engine.Segment{{Rows: 2, Layers: []string{"absent"}}}, x) },
		"norm": func() {
			e.Attend(x, engine.Heads{Layout: engine.Layout{B: 1, N: 2}, Heads: 1, Dim: 2, NormQ: [2]string{"absent", "absent"}})
		},
	} {
		func() {
			defer func() {
				if p, _ := recover().(string); p != "engine: no "+name+" absent in this block" {
					t.Errorf("%s: panic %q", name, p)
				}
			}()
			run()
		}()
	}
}
