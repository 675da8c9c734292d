// Package flow is the arithmetic of rectified flow and of masked online DPO on it, free of networks and devices.
//
// Conventions: sigma in [0, 1] is the noise fraction, x_σ = (1−σ)·x0 + σ·ε; the velocity a network predicts is ε − x0 and
// its time input is σ (the scheduler's timestep is 1000·σ). Latents are packed: [B, N, C] with N = rows·columns tokens
// and token (i, j) holding latent cells (2i+a, 2j+b) of channel c at index 4c + 2a + b.
//
// Stage 2 has two families of losses. DPO compares policy and reference by the probabilities of the stochastic steps of a
// stored rollout (Step, DPO). The forward-process methods train on finished pictures mixed with fresh noise (Matching), with
// advantages made of rewards (Advantages).
//
// Where the published Science-T2I training code and the mathematics part, both are here under the values Paper and
// Corrected of one named option each (Forms); the stochastic step has two values more, Exact and CPS.
package flow

import "fmt"

// Form selects how one part of the arithmetic is done.
type Form string

// The forms. Exact and CPS apply to the step alone.
const (
	Paper     Form = "paper"     // as the authors' code does it
	Corrected Form = "corrected" // as the mathematics asks for
	Exact     Form = "exact"     // the step keeps the marginal for any noise
	CPS       Form = "cps"       // as Exact, with noise in proportion to the next noise level
)

// Forms are the places where forms differ.
type Forms struct {
	Step    Form // drift of the stochastic step: Paper | Corrected | Exact | CPS
	Corners Form // box corners: Paper wraps negative ones as Python slices do, Corrected clamps them to the picture
	Mean    Form // masked log-probability: Paper divides by all elements, Corrected by those kept
	Pairs   Form // DPO mean: Paper over all B² entries, Corrected over ordered pairs
}

// AllForms sets every place to f, except that only the step knows Exact and CPS.
func AllForms(f Form) Forms {
	rest := f
	if f == Exact || f == CPS {
		rest = Corrected
	}
	return Forms{Step: f, Corners: rest, Mean: rest, Pairs: rest}
}

// Validate reports the first value that is not a form of its place.
func (f Forms) Validate() error {
	for _, p := range []struct {
		name string
		form Form
		step bool
	}{{"step", f.Step, true}, {"corners", f.Corners, false}, {"mean", f.Mean, false}, {"pairs", f.Pairs, false}} {
		if p.form == Paper || p.form == Corrected || (p.step && (p.form == Exact || p.form == CPS)) {
			continue
		}
		return fmt.Errorf("form of %s: %q is unknown; use %q or %q", p.name, p.form, Paper, Corrected)
	}
	return nil
}

// Grid is the size of a latent picture in packed tokens.
type Grid struct{ Rows, Columns int }

// Tokens is N, the number of packed tokens.
func (g Grid) Tokens() int { return g.Rows * g.Columns }
