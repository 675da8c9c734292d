package t5

import "math"

// bucket is the row of the relative bias table for a key at distance rel = key - query: half of the buckets for keys
// behind the query or at it, half for keys ahead; in each half the near distances exact, the rest logarithmic up to the
// maximal distance, and one bucket for everything beyond.
func bucket(rel, buckets, maxDistance int) int {
	half := buckets / 2
	offset, d := 0, -rel
	if rel > 0 {
		offset, d = half, rel
	}
	exact := half / 2
	if d < exact {
		return offset + d
	}
	// The library computes this in float32; 1e-9 lands every bucket edge on its side.
	span := math.Log(float64(d)/float64(exact)) / math.Log(float64(maxDistance)/float64(exact)) * float64(half-exact)
	return offset + min(half-1, exact+int(math.Floor(span+1e-9)))
}

// positionBias is the bias [H, L, L] added to the scores of every layer, from the table [buckets, H].
func positionBias(table []float32, heads, length, buckets, maxDistance int) []float32 {
	bias := make([]float32, heads*length*length)
	for rel := 1 - length; rel < length; rel++ {
		row := table[bucket(rel, buckets, maxDistance)*heads:]
		for h := range heads {
			plane := bias[h*length*length:]
			for i := max(0, -rel); i < min(length, length-rel); i++ {
				plane[i*length+i+rel] = row[h]
			}
		}
	}
	return bias
}
