package lora

import (
	"fmt"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/store/safetensors"
)

// Delta is the change scale·B·A [Out, In] of a module's weight, each number rounded once.
func (a *Adapter) Delta(m Module) []float32 {
	delta := make([]float32, m.Out*m.In)
	for o := range m.Out {
		a.deltaRow(delta[o*m.In:][:m.In], m, o)
	}
	return delta
}

func (a *Adapter) deltaRow(dst []float32, m Module, o int) {
	down, up, scale := a.A(m), a.B(m), float64(m.Scale())
	sums := make([]float64, m.In)
	for k, b := range up[o*m.Rank:][:m.Rank] {
		for i, v := range down[k*m.In:][:m.In] {
			sums[i] += float64(b) * float64(v)
		}
	}
	for i, s := range sums {
		dst[i] = float32(scale * s)
	}
}

// Merge is the weight w of the module's layer with the adapter added, in float32 with one rounding to dtype.
func (a *Adapter) Merge(m Module, w *engine.Weight, dtype engine.DType) (*engine.Weight, error) {
	if w.Out != m.Out || w.In != m.In {
		return nil, fmt.Errorf("merge %s: weight is [%d, %d], the adapter's [%d, %d]", m.Name, w.Out, w.In, m.Out, m.In)
	}
	merged := &engine.Weight{Out: m.Out, In: m.In, Stride: m.In, Compute: w.Compute}
	if dtype == engine.BFloat16 {
		merged.BF16 = make([]uint16, m.Out*m.In)
	} else {
		merged.F32 = make([]float32, m.Out*m.In)
	}
	row := make([]float32, m.In)
	for o := range m.Out {
		a.deltaRow(row, m, o)
		for i, d := range row {
			sum := at(w, o, i) + d
			if dtype == engine.BFloat16 {
				merged.BF16[o*m.In+i] = safetensors.ToBFloat16(sum)
			} else {
				merged.F32[o*m.In+i] = sum
			}
		}
	}
	return merged, nil
}

func at(w *engine.Weight, o, i int) float32 {
	if w.BF16 != nil {
		return safetensors.FromBFloat16(w.BF16[o*w.Stride+i])
	}
	return w.F32[o*w.Stride+i]
}
