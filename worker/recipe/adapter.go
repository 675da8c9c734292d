package recipe

import (
	"math"

	"github.com/sciflux/sciflux/model/lora"
	"github.com/sciflux/sciflux/random"
)

// FreshAdapter is what a run without model.adapter starts from: A drawn from the run's seed, B zero.
func (r Recipe) FreshAdapter(layers []lora.Layer) (*lora.Adapter, error) {
	c := r.Config.LoRA
	return lora.New(layers, lora.Spec{Targets: c.Targets, Rank: c.Rank, Alpha: c.Alpha}, func(m lora.Module, a []float32) {
		initialA(c.Init, r.key("lora "+m.Name), a, m)
	})
}

// initialA draws the A of a module: gaussian with standard deviation 1/rank, as the authors, or uniform in ±1/√in.
func initialA(kind string, key random.Key, a []float32, m lora.Module) {
	if kind == "kaiming" {
		bound := 1 / math.Sqrt(float64(m.In))
		for i := range a {
			a[i] = float32((2*key.Float64(uint64(i)) - 1) * bound)
		}
		return
	}
	key.Normal(a)
	for i := range a {
		a[i] /= float32(m.Rank)
	}
}
