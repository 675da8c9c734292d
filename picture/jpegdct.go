package picture

// Constants of the inverse transform: cosines with 13 fraction bits, as in libjpeg's accurate integer method (after
// Loeffler, Ligtenberg and Moschytz).
const (
	fix0_298631336 = 2446
	fix0_390180644 = 3196
	fix0_541196100 = 4433
	fix0_765366865 = 6270
	fix0_899976223 = 7373
	fix1_175875602 = 9633
	fix1_501321110 = 12299
	fix1_847759065 = 15137
	fix1_961570560 = 16069
	fix2_053119869 = 16819
	fix2_562915447 = 20995
	fix3_072711026 = 25172
)

// inverse8 transforms eight values, step apart, and drops shift fraction bits with rounding.
func inverse8(v []int32, step int, shift uint) {
	even := (v[2*step] + v[6*step]) * fix0_541196100
	low, high := even-v[6*step]*fix1_847759065, even+v[2*step]*fix0_765366865
	sum, gap := (v[0]+v[4*step])<<13, (v[0]-v[4*step])<<13
	e0, e3, e1, e2 := sum+high, sum-high, gap+low, gap-low

	a, b, c, d := v[7*step], v[5*step], v[3*step], v[step]
	z5 := (a + c + b + d) * fix1_175875602
	z1, z2 := -(a+d)*fix0_899976223, -(b+c)*fix2_562915447
	z3, z4 := z5-(a+c)*fix1_961570560, z5-(b+d)*fix0_390180644
	a = a*fix0_298631336 + z1 + z3
	b = b*fix2_053119869 + z2 + z4
	c = c*fix3_072711026 + z2 + z3
	d = d*fix1_501321110 + z1 + z4

	half := int32(1) << (shift - 1)
	v[0], v[7*step] = (e0+d+half)>>shift, (e0-d+half)>>shift
	v[step], v[6*step] = (e1+c+half)>>shift, (e1-c+half)>>shift
	v[2*step], v[5*step] = (e2+b+half)>>shift, (e2-b+half)>>shift
	v[3*step], v[4*step] = (e3+a+half)>>shift, (e3-a+half)>>shift
}

// inverse turns the coefficients of block number at, in natural order, into samples: columns first with two fraction
// bits kept, then rows.
func (p *jpegPart) inverse(block *[64]int32, at int) {
	for i := range block {
		block[i] *= p.quant[i]
	}
	for x := range 8 {
		inverse8(block[x:], 8, 11)
	}
	top, left := at/p.stride*8, at%p.stride*8
	for y := range 8 {
		row := block[8*y : 8*y+8]
		inverse8(row, 1, 18)
		dst := p.samples.pix[(top+y)*p.samples.stride+left:][:8]
		for x, v := range row {
			dst[x] = clampLevel(v + 128)
		}
	}
}

// transformAll makes the samples of a progressive component, whose coefficients came in several scans.
func (p *jpegPart) transformAll() {
	var block [64]int32
	for at := range p.stride * p.rows {
		for i, v := range p.coefficients[64*at:][:64] {
			block[i] = int32(v)
		}
		p.inverse(&block, at)
	}
}
