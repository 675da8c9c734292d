//go:build cgo

package cpu_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/cpu"
)

// wrong is a call that does not fit and what its panic must name: the operation and the sizes at odds.
type wrong struct {
	run  func(e engine.Backend)
	says []string
}

func blank(rows, cols int) engine.View {
	return engine.All(engine.Wrap(make([]float32, rows*cols), rows, cols))
}

func frozen(out, in int) *engine.Weight {
	return &engine.Weight{Out: out, In: in, Stride: in, F32: make([]float32, out*in)}
}

func pictures(shape ...int) *engine.Tensor {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return engine.Wrap(make([]float32, n), shape...)
}

func wrongMatrices() map[string]wrong {
	a, b := blank(2, 3), blank(3, 2)
	return map[string]wrong{
		"linear output":     {func(e engine.Backend) { e.Linear(b, a, frozen(3, 3), nil, 0) }, []string{"linear output", "3×2", "2×3"}},
		"linear input":      {func(e engine.Backend) { e.Linear(a, b, frozen(3, 3), nil, 0) }, []string{"linear output", "2×3", "3×3"}},
		"linear bias":       {func(e engine.Backend) { e.Linear(a, a, frozen(3, 3), make([]float32, 4), 0) }, []string{"linear bias", "4", "3"}},
		"linear beta":       {func(e engine.Backend) { e.Linear(a, a, frozen(3, 3), nil, 0.5) }, []string{"beta 0.5"}},
		"linear back input": {func(e engine.Backend) { e.LinearBack(b, b, frozen(3, 2), 0) }, []string{"linear back input", "3×2", "3×3"}},
		"linear back output": {func(e engine.Backend) { e.LinearBack(b, blank(3, 4), frozen(4, 5), 0) }, []string{"linear back output", "3×2",
			"3×5"}},
		"short weight": {func(e engine.Backend) {
			e.Linear(a, a, &engine.Weight{Out: 3, In: 3, Stride: 3, F32: make([]float32, 8)}, nil, 0)
		},
			[]string{"weight 3×3", "8 values"}},
		"short bfloat16 weight": {func(e engine.Backend) {
			e.LinearBack(a, a, &engine.Weight{Out: 3, In: 3, Stride: 4, BF16: make([]uint16, 10)}, 0)
		},
			[]string{"weight 3×3 stride 4", "10 values"}},
		"narrow stride": {func(e engine.Backend) {
			e.Linear(a, a, &engine.Weight{Out: 3, In: 3, Stride: 2, F32: make([]float32, 9)}, nil, 0)
		},
			[]string{"weight 3×3 stride 2"}},
		"inner sizes":   {func(e engine.Backend) { e.MatMul(a, a, false, a, false, 1, 0) }, []string{"matmul", "2×3 by 2×3"}},
		"transpose":     {func(e engine.Backend) { e.Transpose(a, a) }, []string{"transpose", "2×3", "3×2"}},
		"matmul output": {func(e engine.Backend) { e.MatMul(a, a, false, b, false, 1, 0) }, []string{"matmul output", "2×3", "2×2"}},
	}
}

func wrongRows() map[string]wrong {
	a, b := blank(2, 3), blank(3, 2)
	return map[string]wrong{
		"copy":          {func(e engine.Backend) { e.Copy(a, b) }, []string{"copy", "3×2", "2×3"}},
		"add":           {func(e engine.Backend) { e.Add(a, a, b) }, []string{"add", "3×2", "2×3"}},
		"mul":           {func(e engine.Backend) { e.Mul(a, b, a) }, []string{"mul", "3×2", "2×3"}},
		"axpy":          {func(e engine.Backend) { e.Axpy(b, 1, a) }, []string{"axpy", "2×3", "3×2"}},
		"activate":      {func(e engine.Backend) { e.Activate(a, b, engine.GELU) }, []string{"activate", "3×2"}},
		"activation":    {func(e engine.Backend) { e.Activate(a, a, 9) }, []string{"activation 9"}},
		"activate back": {func(e engine.Backend) { e.ActivateBack(a, a, b, engine.SiLU) }, []string{"activate back", "3×2"}},
		"layer norm": {func(e engine.Backend) { e.LayerNorm(a, a, make([]float32, 2), nil, 0) }, []string{"layer norm", "2 values",
			"3 columns"}},
		"rms norm":      {func(e engine.Backend) { e.RMSNorm(a, a, make([]float32, 4), 0) }, []string{"rms norm", "4 values", "3 columns"}},
		"modulate rows": {func(e engine.Backend) { e.Modulate(b, b, b, b, 2) }, []string{"modulate shift", "3 rows", "2 per sample"}},
		"modulate scale": {func(e engine.Backend) { e.Modulate(b, b, blank(3, 2), blank(2, 2), 1) },
			[]string{"modulate scale", "2×2", "3×2"}},
		"modulate back": {func(e engine.Backend) { e.ModulateBack(a, blank(1, 3), blank(2, 3), a, a, a, 1, 0) },
			[]string{"modulate back shift", "1×3", "2×3"}},
		"gate add":      {func(e engine.Backend) { e.GateAdd(a, a, a, b, 1) }, []string{"gate add gate", "3×2", "2×3"}},
		"gate of none":  {func(e engine.Backend) { e.GateAdd(a, a, a, a, 0) }, []string{"gate add gate", "2 rows", "0 per sample"}},
		"gate back":     {func(e engine.Backend) { e.GateBack(a, engine.View{}, a, b, a, 1) }, []string{"gate back x", "3×2", "2×3"}},
		"gate back sum": {func(e engine.Backend) { e.GateBack(a, b, a, a, a, 1) }, []string{"gate back gate", "3×2", "2×3"}},
		"update": {func(e engine.Backend) { e.Update(a.T, a.T, a.T, pictures(5), 1, engine.AdamW{}) }, []string{"update of 6",
			"5 gradients"}},
		"upload":   {func(e engine.Backend) { e.Upload(a.T, make([]float32, 5)) }, []string{"copy 5 values to 6"}},
		"download": {func(e engine.Backend) { e.Download(make([]float32, 7), a.T) }, []string{"copy 6 values to 7"}},
	}
}

func wrongAttentions() map[string]wrong {
	a := blank(4, 6)
	good := engine.Attention{Layout: engine.Layout{B: 2, N: 2}, Heads: 3, Dim: 2, Scale: 1}
	with := func(change func(*engine.Attention)) *engine.Attention {
		c := good
		change(&c)
		return &c
	}
	attend := func(x *engine.Attention) func(e engine.Backend) {
		return func(e engine.Backend) { e.Attend(a, a, a, a, x) }
	}
	return map[string]wrong{
		"attend rows":  {attend(with(func(x *engine.Attention) { x.Layout.N = 3 })), []string{"attend o", "4×6", "6×6"}},
		"attend heads": {attend(with(func(x *engine.Attention) { x.Heads = 2 })), []string{"attend o", "4×6", "4×4"}},
		"attend bias": {attend(with(func(x *engine.Attention) { x.Bias = pictures(3, 2) })), []string{"attend bias", "[3 2]",
			"3 heads, 2 tokens"}},
		"rotation": {attend(with(func(x *engine.Attention) { x.Cos, x.Sin = pictures(3, 1), pictures(3, 1) })), []string{"attend rotation",
			"2 tokens of 2"}},
		"no sine": {attend(with(func(x *engine.Attention) { x.Cos = pictures(2, 1) })), []string{"attend rotation"}},
		"head norm": {attend(with(func(x *engine.Attention) { x.NormK[1] = make([]float32, 3) })), []string{"attend weight", "3 values",
			"2 columns"}},
		"attend key": {func(e engine.Backend) { e.Attend(a, a, blank(4, 5), a, &good) }, []string{"attend k", "4×5", "4×6"}},
		"gradient of v": {func(e engine.Backend) { e.AttendBack(a, a, blank(3, 6), a, a, a, a, a, &good) },
			[]string{"attend back dv", "3×6", "4×6"}},
	}
}

func wrongImages() map[string]wrong {
	x, c := pictures(1, 2, 4, 4), engine.Conv{Kernel: 3, Stride: 1, Top: 1, Bottom: 1, Left: 1, Right: 1}
	return map[string]wrong{
		"convolve matrix": {func(e engine.Backend) { e.Convolve(x, pictures(4, 4), frozen(2, 18), nil, c) }, []string{"convolve", "[4 4]",
			"[B, C, h, w]"}},
		"convolve weight": {func(e engine.Backend) { e.Convolve(x, x, frozen(2, 17), nil, c) }, []string{"convolve [1 2 4 4]", "2×17"}},
		"convolve size": {func(e engine.Backend) { e.Convolve(pictures(1, 2, 4, 5), x, frozen(2, 18), nil, c) }, []string{"convolve",
			"[1 2 4 5]"}},
		"convolve bias": {func(e engine.Backend) { e.Convolve(x, x, frozen(2, 18), make([]float32, 3), c) }, []string{"convolve bias",
			"3 values", "2"}},
		"no stride": {func(e engine.Backend) { e.Convolve(x, x, frozen(2, 18), nil, engine.Conv{Kernel: 3}) }, []string{"convolve"}},
		"groups": {func(e engine.Backend) { e.GroupNorm(x, x, 3, make([]float32, 2), make([]float32, 2), 0, false) },
			[]string{"group norm", "[1 2 4 4]", "3 groups"}},
		"group weights": {func(e engine.Backend) { e.GroupNorm(x, x, 2, make([]float32, 3), make([]float32, 2), 0, false) },
			[]string{"group norm", "3 weights"}},
		"upsample": {func(e engine.Backend) { e.Upsample(x, x) }, []string{"upsample [1 2 4 4] into [1 2 4 4]"}},
	}
}

func wrongViews() map[string]wrong {
	a := blank(2, 3)
	return map[string]wrong{
		"beyond its tensor": {func(e engine.Backend) { e.Zero(engine.View{T: a.T, Offset: 1, Rows: 2, Cols: 3, Stride: 3}) },
			[]string{"zero", "2×3 stride 3 at 1", "[2 3]"}},
		"before its tensor": {func(e engine.Backend) { e.Zero(engine.View{T: a.T, Offset: -1, Rows: 1, Cols: 3, Stride: 3}) }, []string{"zero",
			"at -1"}},
		"overlapping rows": {func(e engine.Backend) { e.Zero(engine.View{T: a.T, Rows: 2, Cols: 3, Stride: 2}) }, []string{"zero", "stride 2"}},
		"of no tensor": {func(e engine.Backend) { e.Copy(a, engine.View{Rows: 2, Cols: 3, Stride: 3}) }, []string{"copy", "2×3",
			"no tensor"}},
		"of another device": {func(e engine.Backend) {
			e.Zero(engine.View{T: &engine.Tensor{Shape: []int{2, 3}}, Rows: 2, Cols: 3, Stride: 3})
		}, []string{"zero"}},
		"of a freed tensor": {func(e engine.Backend) {
			x := e.Alloc(2, 3)
			v := engine.All(x)
			e.Free(x)
			e.Add(v, v, v)
		}, []string{"add", "freed"}},
	}
}

// TestPanicsNameOperationAndShapes: a call that does not fit panics on the calling goroutine, before any memory is
// touched, with a text from which the mistake can be found; the backend works on.
func TestPanicsNameOperationAndShapes(t *testing.T) {
	e, err := cpu.New(cpu.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, group := range []map[string]wrong{wrongMatrices(), wrongRows(), wrongAttentions(), wrongImages(), wrongViews()} {
		for name, w := range group {
			t.Run(name, func(t *testing.T) {
				defer func() {
					p := fmt.Sprint(recover())
					for _, say := range append(w.says, "cpu: ") {
						if !strings.Contains(p, say) {
							t.Errorf("panic %q does not say %q", p, say)
						}
					}
				}()
				w.run(e)
			})
		}
	}
	x, y := blank(2, 2), blank(2, 2)
	x.T.Floats()[3] = 4
	e.Add(y, x, x)
	if y.T.Floats()[3] != 8 {
		t.Error("the backend gives wrong sums after the panics")
	}
}
