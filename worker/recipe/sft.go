package recipe

import (
	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/random"
	"github.com/sciflux/sciflux/trainer"
	"github.com/sciflux/sciflux/worker/data"
)

// Sample is one picture of a micro-batch of stage 1, with every choice about it.
type Sample struct {
	Row       int // index into the training rows
	Picture   int // of the row's right pictures
	Caption   string
	Posterior random.Key // of the draw from the autoencoder's distribution of latents
	Noise     random.Key // of the noise that is mixed in
	Sigma     float32    // noise level
	Weight    float64    // of the loss
}

// Batches are the micro-batches of the optimiser step after step: rows in a keyed permutation of each epoch, every
// random number keyed by the sample's place in the run.
func (r Recipe) Batches(step int, rows []data.Row) ([][]Sample, error) {
	o := r.Config.SFT
	c, err := r.chooser(rows)
	if err != nil {
		return nil, err
	}
	batches := make([][]Sample, o.Accumulate)
	for a := range batches {
		first := (step*o.Accumulate + a) * o.Batch
		for number := first; number < first+o.Batch; number++ {
			s, err := c.sample(number)
			if err != nil {
				return nil, err
			}
			batches[a] = append(batches[a], s)
		}
	}
	return batches, nil
}

// chooser makes the choices about samples.
type chooser struct {
	recipe  Recipe
	rows    []data.Row
	order   orders
	grid    []float32 // noise levels of training, descending
	density flow.Density
	shift   float64 // of the noise levels
}

func (r Recipe) chooser(rows []data.Row) (*chooser, error) {
	d := r.Config.SFT.Density
	shift, err := r.Scheduler.TrainingShift(string(d.Shift), r.Grid.Tokens())
	return &chooser{recipe: r, rows: rows, order: orders{recipe: r, rows: len(rows)}, grid: r.Scheduler.TrainingGrid(),
		density: flow.Density{Kind: d.Kind, Mean: d.Mean, Std: d.Std, Scale: d.Scale}, shift: shift}, err
}

// key is the root of the random numbers of a sample.
func (c *chooser) key(number int) random.Key { return c.recipe.key("sft").Index(uint64(number)) }

// sample makes the choices about a sample, by its number in the run.
func (c *chooser) sample(number int) (Sample, error) {
	row, key := c.order.row(number), c.key(number)
	s := Sample{
		Row: row, Picture: key.Purpose("picture").Intn(0, c.rows[row].Pictures()), Caption: c.caption(number),
		Posterior: key.Purpose("posterior"), Noise: key.Purpose("noise"), Sigma: c.sigma(key.Purpose("sigma")),
	}
	var err error
	s.Weight, err = flow.LossWeight(c.recipe.Config.SFT.Weighting, float64(s.Sigma))
	return s, err
}

// sigma is the noise level of a sample.
func (c *chooser) sigma(key random.Key) float32 {
	return flow.Shifted(c.grid[flow.GridIndex(c.density.U(draw(key, c.density)), len(c.grid))], c.shift)
}

// caption picks one wording of the kind that the config asks for.
func (c *chooser) caption(number int) string {
	row := c.rows[c.order.row(number)]
	kind := row.Implicit
	if which := c.recipe.Config.Data.Captions; which == "explicit" || (which == "both" && number%2 == 1) {
		kind = row.Explicit
	}
	return kind[c.key(number).Purpose("caption").Intn(0, len(kind))]
}

// draw is the raw number that a density wants.
func draw(key random.Key, d flow.Density) float64 {
	if d.Normal() {
		z := make([]float32, 1)
		key.Normal(z)
		return float64(z[0])
	}
	return key.Float64(0)
}

// orders finds the training row of a sample: each epoch goes through all rows once in an order of its own. It remembers
// the epoch that it was asked for last.
type orders struct {
	recipe Recipe
	rows   int
	epoch  int
	order  []int
}

func (o *orders) row(number int) int {
	if epoch := number / o.rows; o.order == nil || epoch != o.epoch {
		o.epoch = epoch
		o.order = o.recipe.key("sft order").Index(uint64(epoch)).Permutation(o.rows)
	}
	return o.order[number%o.rows]
}

// Example is a micro-batch as the trainer takes it: latents are packed, one picture a sample.
func (r Recipe) Example(batch []Sample, latents [][]float32, c trainer.Conditioning) trainer.Example {
	e := trainer.Example{Conditioning: c}
	for i, s := range batch {
		noise := make([]float32, len(latents[i]))
		s.Noise.Normal(noise)
		e.Latents, e.Noise = append(e.Latents, latents[i]...), append(e.Noise, noise...)
		e.Sigma, e.Weight = append(e.Sigma, s.Sigma), append(e.Weight, s.Weight)
	}
	return e
}

// SFTSetting surrounds the network in stage 1.
func (r Recipe) SFTSetting() trainer.Setting { return r.setting(r.Config.SFT.Guidance) }

// Optimizer is the optimiser of a stage.
func Optimizer(o configs.Optim) trainer.OptimizerConfig {
	return trainer.OptimizerConfig{LR: o.LR, Beta1: o.Betas[0], Beta2: o.Betas[1], Eps: o.Eps, WeightDecay: o.WeightDecay,
		MaxGradNorm: o.MaxGradNorm, WarmupSteps: o.WarmupSteps}
}
