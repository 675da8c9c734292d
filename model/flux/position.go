package flux

import (
	"math"
	"sync"
)

// frequencies of the 256 features, in the order of roundings of the reference (diffusers, no frequency shift): exponents in
// float32, exp in float64 rounded to float32. With angles in the thousands another order moves the velocity by up to 4e-5.
var frequencies = sync.OnceValue(func() (f [sinusoids / 2]float32) {
	logTheta := float32(-math.Log(ropeTheta))
	for k := range f {
		exponent := logTheta * float32(k) / float32(len(f))
		f[k] = float32(math.Exp(float64(exponent)))
	}
	return f
})

// sinusoid writes the 256 features of value·1000: cosines first, then sines (flip_sin_to_cos). Angles are float32.
func sinusoid(dst []float32, value float32) {
	u := timeFactor * value
	table := frequencies()
	for k, f := range table {
		s, c := math.Sincos(float64(u * f))
		dst[k], dst[len(table)+k] = float32(c), float32(s)
	}
}

// sinusoidRows is the features [len(values), 256] of times or guidance.
func sinusoidRows(values []float32) []float32 {
	f := make([]float32, len(values)*sinusoids)
	for i, v := range values {
		row := f[i*sinusoids:][:sinusoids]
		if i > 0 && v == values[i-1] {
			copy(row, f[(i-1)*sinusoids:])
		} else {
			sinusoid(row, v)
		}
	}
	return f
}

// rope is the tables cos and sin [len(ids), HeadDim/2] of rotary position embedding (Su et al. 2021) for position ids of
// three axes. Angles are float64 throughout.
func (c Config) rope(ids [][3]float32) (cos, sin []float32) {
	omega := make([]float64, 0, c.HeadDim/2)
	axis := make([]int, 0, c.HeadDim/2)
	for a, d := range c.Axes {
		for m := range d / 2 {
			omega = append(omega, math.Pow(ropeTheta, -float64(2*m)/float64(d)))
			axis = append(axis, a)
		}
	}
	cos, sin = make([]float32, len(ids)*len(omega)), make([]float32, len(ids)*len(omega))
	for i, id := range ids {
		for m, f := range omega {
			s, c := math.Sincos(float64(id[axis[m]]) * f)
			cos[i*len(omega)+m], sin[i*len(omega)+m] = float32(c), float32(s)
		}
	}
	return cos, sin
}
