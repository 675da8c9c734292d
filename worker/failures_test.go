package worker

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/trainer"
)

func TestTrainerErrorsGetTheirClass(t *testing.T) {
	if c := run.ClassOf(classify("train", fmt.Errorf("step: %w", &trainer.NonFiniteError{What: "loss", Step: 3}))); c != run.ClassNonFinite {
		t.Errorf("class %s", c)
	}
	if err := classify("train", context.Canceled); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
