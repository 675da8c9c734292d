package flux

import "math"

// sinusoid writes the 256 features of value·1000, cosines first (diffusers' flip_sin_to_cos, no frequency shift). The
// order of roundings is the reference's: exponents in float32, exp in float64 rounded to float32, angles in float32.
// With angles in the thousands another order moves the velocity by up to 4e-5.
func sinusoid(dst []float32, value float32) {
	const half = sinusoids / 2
	logTheta := float32(-math.Log(ropeTheta))
	u := timeFactor * value
	for k := range half {
		exponent := logTheta * float32(k) / half
		frequency := float32(math.Exp(float64(exponent)))
		angle := float64(u * frequency)
		dst[k], dst[half+k] = float32(math.Cos(angle)), float32(math.Sin(angle))
	}
}

// rotations fills cos and sin [len(ids), HeadDim/2] for position ids of three axes. Angles are float64 throughout.
func (c Config) rotations(cos, sin []float32, ids [][3]float32) {
	frequencies := make([]float64, 0, c.HeadDim/2)
	axis := make([]int, 0, c.HeadDim/2)
	for a, d := range c.Axes {
		for m := range d / 2 {
			frequencies = append(frequencies, math.Pow(ropeTheta, -float64(2*m)/float64(d)))
			axis = append(axis, a)
		}
	}
	for i, id := range ids {
		for m, f := range frequencies {
			s, c := math.Sincos(float64(id[axis[m]]) * f)
			cos[i*len(frequencies)+m], sin[i*len(frequencies)+m] = float32(c), float32(s)
		}
	}
}
