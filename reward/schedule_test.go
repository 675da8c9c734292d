package reward

import (
	"math"
	"testing"
)

func TestScheduleShape(t *testing.T) {
	s := Schedule{Peak: 2e-6, Warmup: 150, Total: 600}
	for update, want := range map[int]float64{
		1: 2e-6, 2: 0, 3: 2e-6 * math.Log(2) / math.Log(150), 37: 2e-6 * math.Log(36) / math.Log(150), 151: 2e-6, 152: 2e-6, 377: 1e-6, 602: 0, 700: 0,
	} {
		if got := s.Rate(update); math.Abs(got-want) > 1e-18 {
			t.Errorf("update %d: %v, want %v", update, got, want)
		}
	}
	for u := 3; u <= 151; u++ {
		if s.Rate(u) <= s.Rate(u-1) {
			t.Fatalf("the warm-up falls at update %d", u)
		}
	}
	for u := 153; u <= 602; u++ {
		if s.Rate(u) >= s.Rate(u-1) {
			t.Fatalf("the decay rises at update %d", u)
		}
	}
}

func TestScheduleValidate(t *testing.T) {
	good := Schedule{Peak: 1e-3, Warmup: 5, Total: 20}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, s := range map[string]Schedule{
		"no rate": {0, 5, 20}, "not a number": {math.NaN(), 5, 20}, "infinite": {math.Inf(1), 5, 20}, "no warm-up": {1, 1, 20}, "no decay": {1, 5, 5},
	} {
		if s.Validate() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
