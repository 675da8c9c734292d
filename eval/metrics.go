// Package eval turns scores into the numbers that a run is judged by.
package eval

import (
	"errors"
	"fmt"
	"math"
	"sort"
)

// NormalisedDifference is ND of the Science-T2I paper in percent: where the mean score of implicit prompts (ip) lies
// between that of superficial prompts (sp, 0 %) and that of explicit prompts (ep, 100 %). It is not clamped. With
// ep = sp there is no scale to measure on and the result is not finite.
func NormalisedDifference(ip, ep, sp float64) float64 { return 100 * (ip - sp) / (ep - sp) }

// RelativeImprovement is RI of the Science-T2I paper in percent: how much of the base model's gap between implicit
// (baseIP) and explicit prompts (baseEP) the tuned model's implicit prompts (tunedIP) have closed. It is not clamped.
func RelativeImprovement(tunedIP, baseIP, baseEP float64) float64 {
	return 100 * (tunedIP - baseIP) / (baseEP - baseIP)
}

// Tally counts right answers.
type Tally struct {
	Correct, Total int
}

// Accuracy is Correct/Total, NaN when nothing was asked.
func (t Tally) Accuracy() float64 { return float64(t.Correct) / float64(t.Total) }

func (t *Tally) add(correct bool) {
	t.Total++
	if correct {
		t.Correct++
	}
}

// Choice is one row of the two-choice benchmark: the scores of the scientifically right (explicit) and of the
// superficial picture under the row's implicit prompt.
type Choice struct {
	Law, Category         string
	Explicit, Superficial float32
}

// TwoChoice is the result of the benchmark. A category's rows are those whose own category column says so, because in
// the published data one law lies in two categories.
type TwoChoice struct {
	Overall              Tally
	ByLaw, ByCategory    map[string]Tally
	ProbabilityOfCorrect []float64 // softmax over the pair, explicit first, per row
}

// Benchmark counts a row as right when the explicit picture's score is strictly greater; equal scores are wrong.
func Benchmark(choices []Choice) (TwoChoice, error) {
	if len(choices) == 0 {
		return TwoChoice{}, errors.New("two-choice benchmark: no rows; check the split's name")
	}
	r := TwoChoice{ByLaw: map[string]Tally{}, ByCategory: map[string]Tally{}}
	for i, c := range choices {
		gap := float64(c.Superficial) - float64(c.Explicit)
		if math.IsNaN(gap) {
			return TwoChoice{}, fmt.Errorf("two-choice benchmark: row %d: scores %v and %v are no numbers to compare", i, c.Explicit, c.Superficial)
		}
		correct := c.Explicit > c.Superficial
		r.Overall.add(correct)
		law, category := r.ByLaw[c.Law], r.ByCategory[c.Category]
		law.add(correct)
		category.add(correct)
		r.ByLaw[c.Law], r.ByCategory[c.Category] = law, category
		r.ProbabilityOfCorrect = append(r.ProbabilityOfCorrect, 1/(1+math.Exp(gap)))
	}
	return r, nil
}

// Names lists the keys of a table of tallies in sorted order, the order of every report.
func Names(table map[string]Tally) []string {
	names := make([]string, 0, len(table))
	for name := range table {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}
