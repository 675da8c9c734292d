package parity

import (
	"context"
	"fmt"

	"github.com/sciflux/sciflux/eval"
)

// runMetrics is kind "metrics": ND and RI in percent from averages.
func runMetrics(_ context.Context, c *Case, _ Options) (*Outputs, error) {
	var args struct {
		ND []struct {
			IP, EP, SP float64
		} `json:"nd"`
		RI []struct {
			TunedIP float64 `json:"tuned_ip"`
			BaseIP  float64 `json:"base_ip"`
			BaseEP  float64 `json:"base_ep"`
		} `json:"ri"`
		Published map[string][]float64 `json:"published"` // the printed values, for a reader; not judged
	}
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	var nd, ri []float64
	for _, a := range args.ND {
		nd = append(nd, eval.NormalisedDifference(a.IP, a.EP, a.SP))
	}
	for _, a := range args.RI {
		ri = append(ri, eval.RelativeImprovement(a.TunedIP, a.BaseIP, a.BaseEP))
	}
	out := NewOutputs()
	out.Float64("nd", []int{len(nd)}, nd)
	out.Float64("ri", []int{len(ri)}, ri)
	return out, nil
}

// runBenchmark is kind "benchmark": two-choice accuracy over all rows, per law and per category.
func runBenchmark(_ context.Context, c *Case, _ Options) (*Outputs, error) {
	var args struct {
		Law      []string `json:"law"`
		Category []string `json:"category"`
	}
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	input, err := c.Input("scores")
	if err != nil {
		return nil, err
	}
	scores, err := input.Float32s()
	if err != nil {
		return nil, err
	}
	n := len(args.Law)
	if len(args.Category) != n || len(scores) != 2*n {
		return nil, fmt.Errorf("benchmark: %d laws, %d categories and %d scores do not belong together", n, len(args.Category), len(scores))
	}
	choices := make([]eval.Choice, n)
	for i := range choices {
		choices[i] = eval.Choice{Law: args.Law[i], Category: args.Category[i], Explicit: scores[2*i], Superficial: scores[2*i+1]}
	}
	result, err := eval.Benchmark(choices)
	if err != nil {
		return nil, err
	}
	out := NewOutputs()
	probabilities := make([]float64, 2*n)
	for i, p := range result.ProbabilityOfCorrect {
		probabilities[2*i], probabilities[2*i+1] = p, 1-p
	}
	out.Float64("probabilities", []int{n, 2}, probabilities)
	out.Float64("accuracy", []int{1}, []float64{result.Overall.Accuracy()})
	out.Value("overall", []int{result.Overall.Correct, result.Overall.Total})
	reportTallies(out, "law", "laws", "law_accuracy", result.ByLaw)
	reportTallies(out, "category", "categories", "category_accuracy", result.ByCategory)
	return out, nil
}

func reportTallies(out *Outputs, counts, names, accuracy string, table map[string]eval.Tally) {
	sorted, pairs := eval.Names(table), map[string][2]int{}
	var fractions []float64
	for _, name := range sorted {
		pairs[name] = [2]int{table[name].Correct, table[name].Total}
		fractions = append(fractions, table[name].Accuracy())
	}
	out.Value(counts, pairs)
	out.Value(names, sorted)
	out.Float64(accuracy, []int{len(sorted)}, fractions)
}
