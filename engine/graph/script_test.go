package graph

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/engine"
)

// script is a function that was drawn: steps over earlier values, number 0 being the input x, 1 the input cond and, where there
// is one, 2 the input z, which has the shape of x.
type script struct {
	weights    *engine.Binding
	layout     engine.Layout
	cols, cond int // columns of x and of cond
	z          bool
	heads      int
	steps      []step
}

// step makes the next value from values a and b.
type step struct {
	op    string
	a, b  int
	segs  []engine.Segment
	heads engine.Heads
	f     engine.Activation
	runs  []engine.Modulation[int]
	from  int
}

// play runs a script on any kind of value.
func play[V any](s *script, o engine.Ops[V], ins ...V) V {
	values := slices.Clone(ins)
	of := func(runs []engine.Modulation[int]) (ms []engine.Modulation[V]) {
		for _, m := range runs {
			ms = append(ms, engine.Modulation[V]{Rows: m.Rows, PerSample: m.PerSample, By: values[m.By], Shift: m.Shift, Scale: m.Scale,
				Gate: m.Gate})
		}
		return ms
	}
	for _, p := range s.steps {
		a, b := values[p.a], values[p.b]
		var v V
		switch p.op {
		case "project":
			v = o.Project(p.segs, a)
		case "project two":
			v = o.Project(p.segs, a, b)
		case "attend":
			v = o.Attend(a, p.heads)
		case "activate":
			v = o.Activate(a, p.f)
		case "modulate":
			v = o.Modulate(a, of(p.runs)...)
		case "gate":
			v = o.GateAdd(a, b, of(p.runs)...)
		case "add":
			v = o.Add(a, b)
		case "cut":
			v = o.Stack(o.Rows(a, 0, p.from), o.Rows(a, p.from, s.layout.Rows()-p.from))
		default:
			panic(p.op)
		}
		values = append(values, v)
	}
	return values[len(values)-1]
}

// generator draws a script.
type generator struct {
	*script
	t     *rapid.T
	r     *rand.Rand
	wide  []int // numbers of values of the shape of x
	names int
}

func (d *generator) from(name string, low, high int) int {
	return rapid.IntRange(low, high).Draw(d.t, name)
}

func (d *generator) any(name string) int { return rapid.SampledFrom(d.wide).Draw(d.t, name) }

func (d *generator) numbers(n int, scale float64) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(scale * d.r.NormFloat64())
	}
	return v
}

// drawScript draws a small graph with every operation likely, all shapes fitting.
func drawScript(t *rapid.T) *script {
	d := &generator{t: t, r: rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 5)), wide: []int{0}}
	d.script = &script{weights: &engine.Binding{Layers: map[string]engine.Layer{}, Stacked: map[string]engine.Layer{},
		Norms: map[string][]float32{}, Adapters: map[string]*engine.LowRank{}},
		z: rapid.Bool().Draw(t, "z"), layout: engine.Layout{B: d.from("B", 1, 2), T: d.from("T", 0, 2), N: d.from("N", 1, 3)},
		heads: d.from("heads", 1, 2), cond: d.from("columns of cond", 1, 3)}
	dim := 2 * d.from("dim/2", 2, 3) // norms of fewer values are too steep for differences
	d.cols = d.heads * dim
	if l := d.layout.L(); rapid.Bool().Draw(t, "rotation") {
		d.weights.Cos, d.weights.Sin = engine.Wrap(d.numbers(l*dim/2, 1), l, dim/2), engine.Wrap(d.numbers(l*dim/2, 1), l, dim/2)
	}
	for _, n := range []string{"q text", "q image", "k text", "k image"} {
		d.weights.Norms[n] = d.numbers(dim, 1)
	}
	if d.z {
		d.wide = append(d.wide, 2)
	}
	ops := []func(){d.project, d.attend, d.activate, d.modulate, d.gate, d.add, d.cut}
	d.modulate()
	for range d.from("steps", 0, 5) {
		rapid.SampledFrom(ops).Draw(t, "step")()
	}
	for { // whatever was made is used, if only once, and the result may come from any operation
		unused := d.unused()
		if len(unused) == 1 {
			break
		}
		d.pushWide(step{op: "add", a: unused[0], b: unused[1]})
	}
	if rapid.Bool().Draw(t, "one more") {
		d.wide = d.unused()
		rapid.SampledFrom(ops).Draw(t, "last step")()
	}
	return d.script
}

// unused are the values of the shape of x that no step reads.
func (d *generator) unused() []int {
	return slices.DeleteFunc(slices.Clone(d.wide), func(v int) bool {
		return slices.ContainsFunc(d.steps, func(s step) bool {
			return s.a == v || s.b == v && slices.Contains([]string{"project two", "gate", "add"}, s.op)
		})
	})
}

// push adds a step and returns the number of its value.
func (d *generator) push(s step) int {
	d.steps = append(d.steps, s)
	if d.z {
		return len(d.steps) + 2
	}
	return len(d.steps) + 1
}

func (d *generator) pushWide(s step) { d.wide = append(d.wide, d.push(s)) }

// segment makes layers from `in` columns to outs, some of them with adapters.
func (d *generator) segment(rows, in int, outs []int) engine.Segment {
	seg, low, flat := engine.Segment{Rows: rows}, &engine.LowRank{}, 0
	for _, out := range outs {
		d.names++
		name := fmt.Sprint("layer ", d.names)
		seg.Layers = append(seg.Layers, name)
		l := engine.Layer{Weight: &engine.Weight{Out: out, In: in, Stride: in, F32: d.numbers(out*in, 0.5)}}
		if rapid.Bool().Draw(d.t, "bias") {
			l.Bias = d.numbers(out, 0.5)
		}
		d.weights.Layers[name] = l
		rank := d.from("rank", 0, 2)
		low.Ranks, low.Scales = append(low.Ranks, rank), append(low.Scales, 0.5+float32(len(outs)))
		flat += rank * out
	}
	if r := low.Rank(); r > 0 && rows > 0 {
		low.A, low.B = engine.Wrap(d.numbers(r*in, 0.5), r, in), engine.Wrap(d.numbers(flat, 0.5), flat)
		d.weights.Adapters[seg.Layers[0]] = low
	}
	return seg
}

// segments are text and image rows with layers of their own.
func (d *generator) segments(in int, outs []int) []engine.Segment {
	l := d.layout
	return []engine.Segment{d.segment(l.B*l.T, in, outs), d.segment(l.B*l.N, in, outs)}
}

func (d *generator) project() {
	outs := []int{d.cols}
	if k := d.from("first output", 0, d.cols-1); k > 0 {
		outs = []int{k, d.cols - k}
	}
	s := step{op: "project", a: d.any("a"), b: d.any("b")}
	in := d.cols
	if rapid.Bool().Draw(d.t, "two inputs") {
		s.op, in = "project two", 2*d.cols
	}
	s.segs = d.segments(in, outs)
	d.pushWide(s)
}

func (d *generator) attend() {
	qkv := d.push(step{op: "project", a: d.any("a"), segs: d.segments(d.cols, []int{d.cols, d.cols, d.cols})})
	h := engine.Heads{Layout: d.layout, Heads: d.heads, Dim: d.cols / d.heads, Eps: 1e-6}
	if rapid.Bool().Draw(d.t, "norms") {
		h.NormQ, h.NormK = [2]string{"q text", "q image"}, [2]string{"k text", "k image"}
	}
	d.pushWide(step{op: "attend", a: qkv, heads: h})
}

func (d *generator) activate() {
	d.pushWide(step{op: "activate", a: d.any("a"), f: engine.Activation(d.from("f", 0, 3))})
}

// runs are two runs of rows, text and image, by one matrix of chunks or by two.
func (d *generator) runs() []engine.Modulation[int] {
	l := d.layout
	by := func() int {
		return d.push(step{op: "project", a: 1, segs: []engine.Segment{d.segment(l.B, d.cond, []int{3 * d.cols})}})
	}
	text := engine.Modulation[int]{Rows: l.B * l.T, PerSample: l.T, By: by(), Shift: 0, Scale: 1, Gate: 2}
	image := engine.Modulation[int]{Rows: l.B * l.N, PerSample: l.N, By: text.By, Shift: 2, Scale: 0, Gate: 1}
	if rapid.Bool().Draw(d.t, "chunks of its own") {
		image.By = by()
	}
	return []engine.Modulation[int]{text, image}
}

func (d *generator) modulate() { d.pushWide(step{op: "modulate", a: d.any("a"), runs: d.runs()}) }
func (d *generator) gate() {
	d.pushWide(step{op: "gate", a: d.any("a"), b: d.any("b"), runs: d.runs()})
}
func (d *generator) add() { d.pushWide(step{op: "add", a: d.any("a"), b: d.any("b")}) }
func (d *generator) cut() {
	if n := d.layout.Rows(); n > 1 {
		d.pushWide(step{op: "cut", a: d.any("a"), from: d.from("rows above", 1, n-1)})
	}
}

// keys are the adapters that the script uses, sorted.
func (s *script) keys() []string {
	var keys []string
	for _, p := range s.steps {
		for _, seg := range p.segs {
			if s.weights.Adapter(seg) != nil {
				keys = append(keys, seg.Layers[0])
			}
		}
	}
	slices.Sort(keys)
	return keys
}
