package enginetest

import (
	"encoding/binary"
	"hash/fnv"
	"math"
	"math/rand/v2"

	"github.com/sciflux/sciflux/engine"
)

// Print is the hash of all bits that one kernel wrote.
type Print struct {
	Kernel string
	Hash   uint64
}

// Prints runs every kernel that splits or reduces on fixed inputs of sizes that use several tiles. Two backends of one kind
// must give equal prints, whatever their number of threads.
func Prints(e engine.Backend) []Print {
	p := &printer{e: e, rng: rand.New(rand.NewPCG(3, 4))}
	p.matrices()
	p.rows()
	p.heads()
	p.images()
	p.optimizer()
	return p.prints
}

type printer struct {
	e      engine.Backend
	rng    *rand.Rand
	prints []Print
}

func (p *printer) slice(n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(p.rng.NormFloat64())
	}
	return v
}

func (p *printer) tensor(shape ...int) *engine.Tensor {
	t := p.e.Alloc(shape...)
	p.e.Upload(t, p.slice(t.Len()))
	return t
}

func (p *printer) view(rows, cols int) engine.View { return engine.All(p.tensor(rows, cols)) }

// add hashes outputs.
func (p *printer) add(kernel string, outs ...*engine.Tensor) {
	h := fnv.New64a()
	for _, t := range outs {
		v := make([]float32, t.Len())
		p.e.Download(v, t)
		for _, x := range v {
			_ = binary.Write(h, binary.LittleEndian, math.Float32bits(x))
		}
	}
	p.prints = append(p.prints, Print{kernel, h.Sum64()})
}

func (p *printer) matrices() {
	for _, s := range [][3]int{{3, 700, 500}, {64, 128, 128}, {150, 700, 300}, {40, 90, 2200}} {
		w := &engine.Weight{Out: s[2], In: s[1], Stride: s[1], F32: p.slice(s[1] * s[2])}
		x, y := p.view(s[0], s[1]), p.view(s[0], s[2])
		p.e.Linear(y, x, w, p.slice(s[2]), 0)
		p.add("linear", y.T)
		p.e.LinearBack(x, y, w, 1)
		p.add("linear back", x.T)
		c := p.view(s[1], s[2])
		p.e.MatMul(c, x, true, y, false, 0.3, 1)
		p.add("matmul", c.T)
		t := p.view(s[2], s[1])
		p.e.Transpose(t, c)
		p.add("transpose", t.T)
	}
}

func (p *printer) rows() {
	const samples, per, cols = 3, 67, 301
	x, y, dy := p.view(samples*per, cols), p.view(samples*per, cols), p.view(samples*per, cols)
	shift, scale := p.view(samples, cols), p.view(samples, cols)
	p.e.Modulate(y, x, shift, scale, per)
	p.add("modulate", y.T)
	p.e.ModulateBack(y, shift, p.view(samples, cols), x, scale, dy, per, 1)
	p.add("modulate back", y.T, shift.T)
	p.e.GateBack(y, shift, dy, x, scale, per)
	p.add("gate back", y.T, shift.T)
	p.e.LayerNorm(y, x, p.slice(cols), nil, 1e-5)
	p.add("layer norm", y.T)
	p.e.ActivateBack(y, dy, x, engine.GELUTanh)
	p.add("activate back", y.T)
}

func (p *printer) heads() {
	a := &engine.Attention{Layout: engine.Layout{B: 2, T: 30, N: 111}, Heads: 3, Dim: 32, Scale: 0.2, Eps: 1e-6}
	for i := range 2 {
		a.NormQ[i], a.NormK[i] = p.slice(32), p.slice(32)
	}
	a.Cos, a.Sin = p.tensor(141, 16), p.tensor(141, 16)
	rows := a.Layout.Rows()
	q, k, v, o, g := p.view(rows, 96), p.view(rows, 96), p.view(rows, 96), p.view(rows, 96), p.view(rows, 96)
	p.e.Attend(o, q, k, v, a)
	p.add("attend", o.T)
	dq, dk, dv := p.view(rows, 96), p.view(rows, 96), p.view(rows, 96)
	p.e.AttendBack(dq, dk, dv, g, o, q, k, v, a)
	p.add("attend back", dq.T, dk.T, dv.T)
}

func (p *printer) images() {
	x, y := p.tensor(2, 33, 20, 20), p.tensor(2, 17, 20, 20)
	w := &engine.Weight{Out: 17, In: 297, Stride: 297, F32: p.slice(17 * 297)}
	p.e.Convolve(y, x, w, p.slice(17), engine.Conv{Kernel: 3, Stride: 1, Top: 1, Bottom: 1, Left: 1, Right: 1})
	p.add("convolve", y)
	p.e.GroupNorm(x, x, 3, p.slice(33), p.slice(33), 1e-6, true)
	p.add("group norm", x)
}

func (p *printer) optimizer() {
	w, m, v, g := p.tensor(50000), p.tensor(50000), p.tensor(50000), p.tensor(50000)
	p.e.Mul(engine.All(v), engine.All(v), engine.All(v))
	p.e.Update(w, m, v, g, 0.3, engine.AdamW{LR: 1e-3, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Decay: 1e-2, Step: 5})
	p.add("update", w, m, v)
	s := p.e.SumSquares(g)
	p.prints = append(p.prints, Print{"sum of squares", math.Float64bits(s)})
}
