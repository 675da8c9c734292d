package world

import "hash/fnv"

// stream is a counter-based random source: the i-th number depends on the key and i alone, so that two draws with
// different purposes never share numbers and the order in which pictures are drawn does not matter.
type stream struct{ key, n uint64 }

// newStream keys a stream by a seed and a purpose ("backdrop", "pose", "split", ...).
func newStream(seed uint64, purpose string) *stream {
	h := fnv.New64a()
	_, _ = h.Write([]byte(purpose))
	return &stream{key: mix64(seed ^ mix64(h.Sum64()))}
}

// mix64 is the output function of SplitMix64 (Steele, Lea, Flood 2014).
func mix64(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb
	return z ^ (z >> 31)
}

func (s *stream) next() uint64 {
	s.n++
	return mix64(s.key + s.n*0x9e3779b97f4a7c15)
}

// float is uniform in [0,1).
func (s *stream) float() float64 { return float64(s.next()>>11) / (1 << 53) }

// in is uniform in [a,b).
func (s *stream) in(a, b float64) float64 { return a + (b-a)*s.float() }

// intn is uniform in [0,n); the bias of the modulus is below 2^-50 for the small n used here.
func (s *stream) intn(n int) int { return int(s.next() % uint64(n)) }

// order is a random permutation of 0..n-1 (Fisher-Yates).
func (s *stream) order(n int) []int {
	p := make([]int, n)
	for i := range p {
		p[i] = i
	}
	for i := n - 1; i > 0; i-- {
		j := s.intn(i + 1)
		p[i], p[j] = p[j], p[i]
	}
	return p
}
