package graph

import (
	"strings"
	"testing"

	"github.com/sciflux/sciflux/engine"
)

// TestShapesAreCheckedWhileBuilding: a function that does not fit its shapes is refused by Build, with the operation and the
// sizes at odds, not by a kernel in the first pass.
func TestShapesAreCheckedWhileBuilding(t *testing.T) {
	type ops = engine.Ops[Value]
	seg := func(n int, names ...string) engine.Segment { return engine.Segment{Rows: n, Layers: names} }
	by := func(o ops, in []Value) Value { return o.Project([]engine.Segment{seg(samples, "by")}, in[1]) }
	run := engine.Modulation[Value]{Rows: rows, PerSample: perSample, Shift: 0, Scale: 1, Gate: 2}
	modulated := func(change func(*engine.Modulation[Value])) func(o ops, in []Value) Value {
		return func(o ops, in []Value) Value {
			m := run
			m.By = by(o, in)
			change(&m)
			return o.GateAdd(in[0], o.Modulate(in[0], m), m)
		}
	}
	heads := engine.Heads{Layout: engine.Layout{B: samples, N: perSample}, Heads: 1, Dim: 4}
	for name, c := range map[string]struct {
		function func(o ops, in []Value) Value
		says     string
	}{
		"sum of two shapes":     {func(o ops, in []Value) Value { return o.Add(in[0], in[1]) }, "add: 6×4 and 2×4"},
		"gate of two shapes":    {func(o ops, in []Value) Value { return o.GateAdd(in[1], in[0]) }, "gate: 2×4 and 6×4"},
		"stack of two widths":   {func(o ops, in []Value) Value { return o.Stack(in[0], by(o, in)) }, "stack: 4 columns above 12"},
		"rows beyond the end":   {func(o ops, in []Value) Value { return o.Rows(in[0], 4, 3) }, "rows: 3 from 4 of 6"},
		"rows before the start": {func(o ops, in []Value) Value { return o.Rows(in[0], -1, 3) }, "rows: 3 from -1 of 6"},
		"input of a layer": {func(o ops, in []Value) Value { return o.Project([]engine.Segment{seg(rows, "out")}, in[0]) },
			"project out: 4 input columns, the layer takes 6"},
		"rows of segments": {func(o ops, in []Value) Value { return o.Project([]engine.Segment{seg(rows-1, "in")}, in[0]) },
			"project in: segments of 5 rows in all, the input has 6"},
		"rows of two inputs": {func(o ops, in []Value) Value { return o.Project([]engine.Segment{seg(rows, "out")}, in[0], in[1]) },
			"project out: inputs of 6 and 2 rows"},
		"widths of segments": {func(o ops, in []Value) Value {
			return o.Project([]engine.Segment{seg(2, "in"), seg(rows-2, "by")}, in[0])
		}, "project by: 12 columns beside a segment of 6"},
		"no inputs": {func(o ops, in []Value) Value { return o.Project([]engine.Segment{seg(rows, "in")}) },
			"project: 1 segments of 0 inputs"},
		"width of heads": {func(o ops, in []Value) Value { return o.Attend(in[0], heads) }, "attend: a 6×4 matrix, want 6×12"},
		"tokens": {func(o ops, in []Value) Value {
			h := heads
			h.Layout.N = 2
			return o.Attend(o.Project([]engine.Segment{seg(rows, "by")}, in[0]), h)
		}, "attend: a 6×12 matrix, want 4×12"},
		"chunk number":   {modulated(func(m *engine.Modulation[Value]) { m.Gate = 3 }), "gate: chunk 3 of 4 columns in a matrix of 12"},
		"chunk of scale": {modulated(func(m *engine.Modulation[Value]) { m.Scale = -1 }), "modulate: chunk -1"},
		"rows of runs": {modulated(func(m *engine.Modulation[Value]) { m.Rows, m.PerSample = 4, 2 }),
			"modulate: runs of 4 rows in all, the input has 6"},
		"rows of a sample":   {modulated(func(m *engine.Modulation[Value]) { m.PerSample = 2 }), "modulate: 6 rows, 2 per sample, by 2 rows"},
		"what fits, at last": {modulated(func(*engine.Modulation[Value]) {}), ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Build(weights(0), declared, None, c.function)
			switch {
			case c.says == "" && err != nil:
				t.Error(err)
			case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
				t.Errorf("error %v, want %q", err, c.says)
			}
		})
	}
}

// TestWeightsAreCheckedWhileBuilding: also norms, rotation tables, biases and adapters of the block must fit.
func TestWeightsAreCheckedWhileBuilding(t *testing.T) {
	heads := engine.Heads{Layout: engine.Layout{B: samples, N: perSample}, Heads: 1, Dim: 4, NormQ: [2]string{"", "q"}}
	write := func(o engine.Ops[Value], in []Value) Value {
		qkv := o.Project([]engine.Segment{{Rows: rows, Layers: []string{"by"}}}, in[0])
		return o.Add(in[0], o.Attend(qkv, heads))
	}
	for name, c := range map[string]struct {
		change func(w *engine.Binding)
		says   string
	}{
		"norm":     {func(w *engine.Binding) { w.Norms["q"] = make([]float32, 3) }, "attend: norm q of 3 values for heads of 4"},
		"rotation": {func(w *engine.Binding) { w.Cos = engine.Wrap(make([]float32, 4), 2, 2) }, "attend: 4 values of rotation for 3 tokens of 4"},
		"bias": {func(w *engine.Binding) {
			w.Layers["by"] = engine.Layer{Weight: w.Layers["by"].Weight, Bias: make([]float32, 2)}
		},
			"project by: 2 values of bias for 12 outputs"},
		"ranks": {func(w *engine.Binding) { w.Adapters["by"].Ranks = []int{1, 1} }, "project by: an adapter for other than its 1 layers"},
		"A": {func(w *engine.Binding) { w.Adapters["by"].A = engine.Wrap(make([]float32, 6), 2, 3) },
			"project by: adapter of A [2 3] and 24 values of B, want [2 4] and 24"},
		"B": {func(w *engine.Binding) { w.Adapters["by"].B = engine.Wrap(make([]float32, 12), 12) }, "12 values of B, want [2 4] and 24"},
		"":  {func(*engine.Binding) {}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := weights(0)
			w.Norms = map[string][]float32{"q": make([]float32, 4)}
			c.change(w)
			_, err := Build(w, declared[:1], None, write)
			switch {
			case c.says == "" && err != nil:
				t.Error(err)
			case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
				t.Errorf("error %v, want %q", err, c.says)
			}
		})
	}
}
