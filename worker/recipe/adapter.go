package recipe

import (
	"math"

	"github.com/sciflux/sciflux/model/lora"
	"github.com/sciflux/sciflux/random"
)

// AdapterSpec is what the config says of the adapter: all of a fresh one, of model.adapter's what the user gave.
func (r Recipe) AdapterSpec() lora.Spec {
	c := r.Config.LoRA
	return lora.Spec{Targets: c.Targets, Exclude: c.Exclude, Blocks: c.Blocks, Rank: c.Rank, Alpha: c.Alpha, RankStabilised: c.RSLoRA,
		Ranks: c.RankPattern, Alphas: c.AlphaPattern}
}

// FreshAdapter is what a run without model.adapter starts from: A drawn from the run's seed, B zero.
func (r Recipe) FreshAdapter(layers []lora.Layer) (*lora.Adapter, error) {
	return lora.New(layers, r.AdapterSpec(), func(m lora.Module, a []float32) {
		initialA(r.Config.LoRA.Init, r.key("lora "+m.Name), a, m)
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
