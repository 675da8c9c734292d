//go:build unix

package cpu_test

import (
	"fmt"
	"sync"
	"syscall"
	"testing"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/cpu"
)

// threads of the benchmarks of everything but products; processor time says most with one.
const threads = 1

func benchBackend(b *testing.B, o cpu.Options) engine.Backend {
	e, err := cpu.New(o)
	if err != nil {
		b.Skip(err)
	}
	return e
}

func filled(e engine.Backend, shape ...int) *engine.Tensor {
	t := e.Alloc(shape...)
	for i, v := 0, t.Floats(); i < len(v); i++ {
		v[i] = float32(i%17)/17 - 0.4
	}
	return t
}

// seconds is the processor time of this process: on a busy machine the only honest clock for one thread.
func seconds() float64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}

// loop runs f and reports the rate of units, of which one run does n, by the wall clock and by processor time.
func loop(b *testing.B, n float64, unit string, f func()) {
	f()
	start := seconds()
	for b.Loop() {
		f()
	}
	total := n * float64(b.N) / 1e9
	b.ReportMetric(total/b.Elapsed().Seconds(), "G"+unit+"/s")
	b.ReportMetric(total/(seconds()-start), "G"+unit+"/cpu-s")
}

// BenchmarkLinear multiplies tiny-world and FLUX shapes (rows, in, out) by our kernels and by oneDNN.
func BenchmarkLinear(b *testing.B) {
	for _, s := range [][3]int{{512, 128, 128}, {512, 128, 512}, {1024, 128, 768}, {16, 128, 768}, {1536, 3072, 3072}, {1536, 3072, 12288}} {
		for _, d := range []engine.DType{engine.Float32, engine.BFloat16} {
			for _, o := range []cpu.Options{{GEMM: "own"}, {GEMM: "onednn"}, {GEMM: "own", Threads: 1}, {GEMM: "onednn", Threads: 1}} {
				b.Run(fmt.Sprintf("%dx%dx%d/%v/%s/threads=%d", s[0], s[1], s[2], d, o.GEMM, o.Threads), func(b *testing.B) {
					e := benchBackend(b, o)
					w := &engine.Weight{Out: s[2], In: s[1], Stride: s[1]}
					if d == engine.Float32 {
						w.F32 = filled(e, s[1]*s[2]).Floats()
					} else {
						w.BF16 = make([]uint16, s[1]*s[2])
					}
					x, y := engine.All(filled(e, s[0], s[1])), engine.All(filled(e, s[0], s[2]))
					loop(b, 2*float64(s[0])*float64(s[1])*float64(s[2]), "FLOP", func() { e.Linear(y, x, w, nil, 0) })
				})
			}
		}
	}
}

// BenchmarkCallers multiplies from one and from two goroutines at once: what all of them do in a second should be the same.
func BenchmarkCallers(b *testing.B) {
	for _, callers := range []int{1, 2} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			e := benchBackend(b, cpu.Options{GEMM: "own"})
			w := &engine.Weight{Out: 768, In: 768, Stride: 768, F32: filled(e, 768, 768).Floats()}
			loop(b, float64(callers)*2*512*768*768, "FLOP", func() {
				var wait sync.WaitGroup
				for range callers {
					wait.Go(func() {
						x, y := filled(e, 512, 768), e.Alloc(512, 768)
						e.Linear(engine.All(y), engine.All(x), w, nil, 0)
						e.Free(x)
						e.Free(y)
					})
				}
				wait.Wait()
			})
		})
	}
}

// BenchmarkAttention runs the tiny world's and FLUX's heads, forwards and backwards.
func BenchmarkAttention(b *testing.B) {
	for _, a := range []engine.Attention{
		{Layout: engine.Layout{B: 16, T: 16, N: 16}, Heads: 4, Dim: 32, Scale: 0.2},
		{Layout: engine.Layout{B: 1, T: 512, N: 1024}, Heads: 24, Dim: 128, Scale: 0.1},
	} {
		e := benchBackend(b, cpu.Options{Threads: threads})
		rows, width, l := a.Layout.Rows(), a.Heads*a.Dim, a.Layout.L()
		a.Cos, a.Sin, a.Eps = filled(e, l, a.Dim/2), filled(e, l, a.Dim/2), 1e-6
		for i := range 2 {
			a.NormQ[i], a.NormK[i] = make([]float32, a.Dim), make([]float32, a.Dim)
		}
		var v [8]engine.View
		for i := range v {
			v[i] = engine.All(filled(e, rows, width))
		}
		flops := 4 * float64(a.Layout.B*l) * float64(l*width)
		b.Run(fmt.Sprintf("L%d/forward", l), func(b *testing.B) {
			loop(b, flops, "FLOP", func() { e.Attend(v[0], v[1], v[2], v[3], &a) })
		})
		b.Run(fmt.Sprintf("L%d/backward", l), func(b *testing.B) {
			loop(b, 2.5*flops, "FLOP", func() { e.AttendBack(v[5], v[6], v[7], v[4], v[0], v[1], v[2], v[3], &a) })
		})
		for i := range v {
			e.Free(v[i].T)
		}
	}
}

// BenchmarkElements runs row kernels over a tiny and a FLUX matrix.
func BenchmarkElements(b *testing.B) {
	for _, s := range [][2]int{{512, 128}, {1536, 3072}} {
		e := benchBackend(b, cpu.Options{Threads: threads})
		x, y, z := engine.All(filled(e, s[0], s[1])), engine.All(filled(e, s[0], s[1])), engine.All(filled(e, s[0], s[1]))
		m := engine.All(filled(e, 1, s[1]))
		for name, f := range map[string]func(){
			"add":           func() { e.Add(z, x, y) },
			"gelu":          func() { e.Activate(z, x, engine.GELUTanh) },
			"gelu-back":     func() { e.ActivateBack(z, y, x, engine.GELUTanh) },
			"modulate":      func() { e.Modulate(z, x, m, m, s[0]) },
			"modulate-back": func() { e.ModulateBack(z, engine.View{}, engine.View{}, x, m, y, s[0], 1) },
			"gate-add":      func() { e.GateAdd(z, x, y, m, s[0]) },
		} {
			b.Run(fmt.Sprintf("%dx%d/%s", s[0], s[1], name), func(b *testing.B) {
				loop(b, float64(s[0]*s[1]), "value", f)
			})
		}
	}
}

// BenchmarkConvolve runs the layers of a small decoder.
func BenchmarkConvolve(b *testing.B) {
	for _, s := range [][3]int{{64, 64, 32}, {32, 32, 64}, {128, 128, 64}, {32, 3, 64}} {
		b.Run(fmt.Sprintf("%dto%d/%d", s[0], s[1], s[2]), func(b *testing.B) {
			e := benchBackend(b, cpu.Options{Threads: threads})
			x, y := filled(e, 1, s[0], s[2], s[2]), filled(e, 1, s[1], s[2], s[2])
			w := &engine.Weight{Out: s[1], In: 9 * s[0], Stride: 9 * s[0], F32: filled(e, 9*s[0]*s[1]).Floats()}
			loop(b, 18*float64(s[0]*s[1])*float64(s[2]*s[2]), "FLOP", func() {
				e.Convolve(y, x, w, nil, engine.Conv{Kernel: 3, Stride: 1, Top: 1, Bottom: 1, Left: 1, Right: 1})
			})
		})
	}
}
