package engine

// Ops is the vocabulary in which a model that may need gradients is written, once, for every way of running it: at once
// on a Backend (Eager), as a graph that is differentiated and replayed (engine/graph), or on a test's own numbers. V is
// what stands for a matrix there. Layers and norms are named by their path inside the current block (attn.to_q); which
// weights the names mean is a Binding, so one function and one compiled graph serve all blocks of a kind.
type Ops[V any] interface {
	// Project multiplies each segment's rows by its layers, whose outputs lie side by side as columns. Several xs lie side
	// by side as input columns of every layer.
	Project(segs []Segment, xs ...V) V
	// Attend is self-attention of qkv [R, 3·H·D], the columns of q, k and v side by side.
	Attend(qkv V, h Heads) V
	// Activate is an elementwise function.
	Activate(x V, f Activation) V
	// Modulate is LN(x)·(1+scale) + shift.
	Modulate(x V, ms ...Modulation[V]) V
	// GateAdd is s + gate·x.
	GateAdd(s, x V, ms ...Modulation[V]) V
	// Add is a + b.
	Add(a, b V) V
	// Stack puts the rows of bottom below those of top.
	Stack(top, bottom V) V
	// Rows is rows [from, from+n) of x.
	Rows(x V, from, n int) V
}

// Segment is a run of consecutive rows of a matrix, from where the segment before it ends, and the linear layers that
// multiply it. The output widths of all segments of one matrix add up to the same.
type Segment struct {
	Rows   int
	Layers []string
}

// Modulation says which chunks of an adaptive-norm vector act on a run of consecutive rows. By is a matrix [B, k·C] of k
// chunks; row r of the run uses row r/PerSample of it.
type Modulation[V any] struct {
	Rows, PerSample    int
	By                 V
	Shift, Scale, Gate int // chunk numbers
}

// Heads says how Attend splits and treats its matrix. NormQ and NormK name the RMSNorm weights of q and k, for text and
// for image rows, "" for none; the rotation tables are the Binding's.
type Heads struct {
	Layout       Layout
	Heads, Dim   int
	NormQ, NormK [2]string
	Eps          float32
}

// Binding gives the names of one block their weights.
type Binding struct {
	Layers   map[string]Layer
	Stacked  map[string]Layer // all layers of a segment as one, by the first, where their rows lie together in memory
	Norms    map[string][]float32
	Adapters map[string]*LowRank // by the first layer of the segment
	Cos, Sin *Tensor             // rotation of attention heads, [L, D/2]; nil for none
}

// Layer is a frozen linear layer.
type Layer struct {
	Weight *Weight
	Bias   []float32 // Out values, nil for none
}

// LowRank is the adapters (Hu et al. 2021, LoRA) of the layers of one segment: layer i computes
// x·Wᵀ + Scales[i]·(x·Aᵢᵀ)·Bᵢᵀ. A holds the Aᵢ [Ranks[i], In] below each other, B the Bᵢ [Out, Ranks[i]] one after another.
// A rank is 0 where the layer has no adapter.
type LowRank struct {
	A, B   *Tensor
	Ranks  []int
	Scales []float32
}

// Rank is the sum of the ranks, the number of rows of A.
func (l *LowRank) Rank() int {
	n := 0
	for _, r := range l.Ranks {
		n += r
	}
	return n
}
