package flow

import "math"

// SchedulerConfig is scheduler_config.json of FlowMatchEulerDiscreteScheduler.
type SchedulerConfig struct {
	NumTrainTimesteps  int     `json:"num_train_timesteps"`
	Shift              float64 `json:"shift"`
	UseDynamicShifting bool    `json:"use_dynamic_shifting"`
	BaseShift          float64 `json:"base_shift"`
	MaxShift           float64 `json:"max_shift"`
	BaseImageSeqLen    int     `json:"base_image_seq_len"`
	MaxImageSeqLen     int     `json:"max_image_seq_len"`
}

// DefaultScheduler holds the values a scheduler_config.json may leave out.
func DefaultScheduler() SchedulerConfig {
	return SchedulerConfig{NumTrainTimesteps: 1000, Shift: 1, BaseShift: 0.5, MaxShift: 1.15, BaseImageSeqLen: 256, MaxImageSeqLen: 4096}
}

// Mu is the dynamic shift of a picture of the given number of packed tokens: linear in it, not clamped.
func (c SchedulerConfig) Mu(imageTokens int) float64 {
	m := (c.MaxShift - c.BaseShift) / float64(c.MaxImageSeqLen-c.BaseImageSeqLen)
	return float64(imageTokens)*m + c.BaseShift - m*float64(c.BaseImageSeqLen)
}

func (c SchedulerConfig) staticShift(u float64) float64 { return c.Shift * u / (1 + (c.Shift-1)*u) }

// Sigmas is the inference schedule of n steps, as the FLUX pipeline asks for it: n+1 values from 1 (or near it) to 0.
func (c SchedulerConfig) Sigmas(n, imageTokens int) []float32 {
	sigmas := make([]float32, n+1)
	shift := math.Exp(c.Mu(imageTokens))
	for i := range n {
		u := 1.0
		if n > 1 {
			u = 1 - float64(i)*(1-1/float64(n))/float64(n-1)
		}
		if c.UseDynamicShifting {
			sigmas[i] = float32(shift / (shift + 1/u - 1))
		} else {
			sigmas[i] = float32(c.staticShift(u))
		}
	}
	return sigmas
}

// Timesteps is 1000·sigma for all but the last of an inference schedule, in float32 as the scheduler has it.
func (c SchedulerConfig) Timesteps(sigmas []float32) []float32 {
	t := make([]float32, len(sigmas)-1)
	for i := range t {
		t[i] = float32(c.NumTrainTimesteps) * sigmas[i]
	}
	return t
}

// TrainingGrid is the descending grid from which training draws noise levels. Only the static shift applies to it: a
// freshly loaded scheduler with dynamic shifting leaves it uniform.
func (c SchedulerConfig) TrainingGrid() []float32 {
	grid := make([]float32, c.NumTrainTimesteps)
	for k := range grid {
		u := float64(c.NumTrainTimesteps-k) / float64(c.NumTrainTimesteps)
		if !c.UseDynamicShifting {
			u = c.staticShift(u)
		}
		grid[k] = float32(u)
	}
	return grid
}
