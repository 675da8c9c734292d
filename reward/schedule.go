package reward

import (
	"errors"
	"fmt"
	"math"
)

// Schedule is the learning rate of SciScore's own training: a logarithmic warm-up, then a linear decay to zero
// (DeepSpeed's WarmupDecayLR before 0.15.3).
type Schedule struct {
	Peak   float64 // highest rate
	Warmup int     // updates until it is reached, at least 2
	Total  int     // updates until it has fallen to zero, more than Warmup
}

// Validate tells whether the schedule can be followed.
func (s Schedule) Validate() error {
	if !(s.Peak > 0) || math.IsInf(s.Peak, 0) {
		return fmt.Errorf("reward schedule: a highest rate of %v: it has to be a positive number", s.Peak)
	}
	if s.Warmup < 2 {
		return errors.New("reward schedule: a logarithmic warm-up needs at least 2 updates")
	}
	if s.Total <= s.Warmup {
		return fmt.Errorf("reward schedule: %d updates in all leave none after %d of warm-up", s.Total, s.Warmup)
	}
	return nil
}

// Rate is the learning rate of an update, counted from 1. The schedule is stepped after each update only, so the first
// one runs at the highest rate, the second at 0, and update u at the value for iteration u-2.
func (s Schedule) Rate(update int) float64 {
	if update <= 1 {
		return s.Peak
	}
	t := update - 2
	if t < s.Warmup {
		return s.Peak * (math.Log(float64(t+1)) / math.Log(float64(s.Warmup)))
	}
	return s.Peak * math.Max(0, float64(s.Total-t)/float64(s.Total-s.Warmup))
}
