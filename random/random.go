// Package random draws numbers that depend on what they are for and on nothing else.
//
// A Key names a purpose ("sft noise of seed 7, epoch 3, sample 12"); the n-th number of a key is a pure function of key and
// n (Philox 4x32-10, Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"). So no generator has a state to
// save, any worker can draw any number, and a resumed run draws what the unbroken run would have drawn.
package random

import "math"

// Key names one stream of numbers.
type Key struct{ hi, lo uint64 }

// New is the root key of a run.
func New(seed uint64) Key { return Key{lo: seed}.Index(seed) }

// Purpose is the key of a named use under k.
func (k Key) Purpose(name string) Key {
	h := uint64(14695981039346656037) // FNV-1a
	for i := 0; i < len(name); i++ {
		h = (h ^ uint64(name[i])) * 1099511628211
	}
	return k.mix(h, 0x9e3779b97f4a7c15)
}

// Index is the key of the numbered uses under k, for example (epoch, step, sample).
func (k Key) Index(numbers ...uint64) Key {
	for _, n := range numbers {
		k = k.mix(n, 0xd1b54a32d192ed03)
	}
	return k
}

func (k Key) mix(value, salt uint64) Key {
	a := block(k, value, salt)
	return Key{hi: uint64(a[0])<<32 | uint64(a[1]), lo: uint64(a[2])<<32 | uint64(a[3])}
}

// block is Philox 4x32-10 of the counter (c0, c1) under the key, whose halves are folded into 64 bits.
func block(k Key, c0, c1 uint64) [4]uint32 {
	const m0, m1, w0, w1 = 0xD2511F53, 0xCD9E8D57, 0x9E3779B9, 0xBB67AE85
	x := [4]uint32{uint32(c0), uint32(c0 >> 32), uint32(c1 ^ k.hi), uint32((c1 ^ k.hi) >> 32)}
	k0, k1 := uint32(k.lo), uint32(k.lo>>32)
	for range 10 {
		p0, p1 := uint64(m0)*uint64(x[0]), uint64(m1)*uint64(x[2])
		x = [4]uint32{uint32(p1>>32) ^ x[1] ^ k0, uint32(p1), uint32(p0>>32) ^ x[3] ^ k1, uint32(p0)}
		k0, k1 = k0+w0, k1+w1
	}
	return x
}

// Uint64 is the n-th number of the key.
func (k Key) Uint64(n uint64) uint64 {
	b := block(k, n, 0)
	return uint64(b[0])<<32 | uint64(b[1])
}

// Float64 is the n-th uniform number in [0, 1).
func (k Key) Float64(n uint64) float64 { return float64(k.Uint64(n)>>11) / (1 << 53) }

// Normal fills dst with standard normal numbers (Box-Muller), the same ones whatever part of a longer run they are.
func (k Key) Normal(dst []float32) {
	for i := 0; i < len(dst); i += 2 {
		b := block(k, uint64(i/2), 1)
		u := (float64(uint64(b[0])<<21|uint64(b[1]>>11)) + 0.5) / (1 << 53)
		v := float64(uint64(b[2])<<21|uint64(b[3]>>11)) / (1 << 53)
		r := math.Sqrt(-2 * math.Log(u))
		sin, cos := math.Sincos(2 * math.Pi * v)
		dst[i] = float32(r * cos)
		if i+1 < len(dst) {
			dst[i+1] = float32(r * sin)
		}
	}
}

// Intn is the n-th number in [0, limit); limit must be positive.
func (k Key) Intn(n uint64, limit int) int { return int(k.Float64(n) * float64(limit)) }

// Permutation is a random order of 0..n-1.
func (k Key) Permutation(n int) []int {
	p := make([]int, n)
	for i := range p {
		j := k.Intn(uint64(i), i+1)
		p[i] = p[j]
		p[j] = i
	}
	return p
}
