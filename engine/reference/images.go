package reference

import (
	"fmt"
	"math"

	"github.com/sciflux/sciflux/engine"
)

// Images is a batch of pictures [B, C, H, W].
type Images[F Float] struct {
	Data       []F
	B, C, H, W int
}

// Plane is channel c of picture b, H·W values.
func (m Images[F]) Plane(b, c int) []F { n := m.H * m.W; return m.Data[(b*m.C+c)*n:][:n] }

// Convolve: y [B, Out, h', w'] = cross-correlation of x [B, In, h, w] with w [Out, In·k·k] + bias.
func Convolve[F Float](y, x Images[F], w Matrix[F], bias []F, c engine.Conv) {
	h, wd := OutputSize(c, x.H, x.W)
	if y.B != x.B || y.H != h || y.W != wd || y.C != w.Rows || w.Cols != x.C*c.Kernel*c.Kernel {
		panic(fmt.Sprintf("reference: convolve %d×%d×%d×%d by %d×%d into %d×%d×%d×%d",
			x.B, x.C, x.H, x.W, w.Rows, w.Cols, y.B, y.C, y.H, y.W))
	}
	parallel(y.B*y.C, func(i int) {
		b, o := i/y.C, i%y.C
		sums := make([]float64, y.H*y.W)
		for ch := range x.C {
			for k := range c.Kernel * c.Kernel {
				tap(sums, x.Plane(b, ch), float64(w.At(o, ch*c.Kernel*c.Kernel+k)), c, k, x.H, x.W, y.H, y.W)
			}
		}
		if bias != nil {
			for j := range sums {
				sums[j] += float64(bias[o])
			}
		}
		store(y.Plane(b, o), sums)
	})
}

// OutputSize is the size of a convolution's output for inputs of h×w.
func OutputSize(c engine.Conv, h, w int) (int, int) {
	return (h+c.Top+c.Bottom-c.Kernel)/c.Stride + 1, (w+c.Left+c.Right-c.Kernel)/c.Stride + 1
}

// tap adds one kernel element times its shifted input plane.
func tap[F Float](sums []float64, in []F, weight float64, c engine.Conv, k, h, w, outH, outW int) {
	for i := range outH {
		row := i*c.Stride + k/c.Kernel - c.Top
		if row < 0 || row >= h {
			continue
		}
		for j := range outW {
			if col := j*c.Stride + k%c.Kernel - c.Left; col >= 0 && col < w {
				sums[i*outW+j] += weight * float64(in[row*w+col])
			}
		}
	}
}

// GroupNorm normalises each sample's groups of C/groups channels (biased variance), applies weight and bias per channel
// and then SiLU when silu is set.
func GroupNorm[F Float](y, x Images[F], groups int, weight, bias []F, eps float64, silu bool) {
	if x.C%groups != 0 || y.B != x.B || y.C != x.C || y.H != x.H || y.W != x.W || len(weight) != x.C || len(bias) != x.C {
		panic(fmt.Sprintf("reference: group norm of %d channels in %d groups, %d weights", x.C, groups, len(weight)))
	}
	per := x.C / groups
	parallel(x.B*groups, func(i int) {
		b, g := i/groups, i%groups
		n := per * x.H * x.W
		all := x.Data[(b*x.C+g*per)*x.H*x.W:][:n]
		mean, inverse := moments(all, eps)
		for c := g * per; c < (g+1)*per; c++ {
			in, out := x.Plane(b, c), y.Plane(b, c)
			for j := range out {
				v := (float64(in[j])-mean)*inverse*float64(weight[c]) + float64(bias[c])
				if silu {
					v, _ = Value(engine.SiLU, v)
				}
				out[j] = F(v)
			}
		}
	})
}

// Upsample repeats every pixel twice in both directions.
func Upsample[F Float](y, x Images[F]) {
	if y.B != x.B || y.C != x.C || y.H != 2*x.H || y.W != 2*x.W {
		panic(fmt.Sprintf("reference: upsample %d×%d into %d×%d", x.H, x.W, y.H, y.W))
	}
	parallel(x.B*x.C, func(i int) {
		in, out := x.Plane(i/x.C, i%x.C), y.Plane(i/x.C, i%x.C)
		for j := range out {
			out[j] = in[j/y.W/2*x.W+j%y.W/2]
		}
	})
}

// Widen is a bfloat16 number as float32.
func Widen(v uint16) float32 { return math.Float32frombits(uint32(v) << 16) }
