package lora

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestTargets: whole names, or their ends after a dot; no parts of words, nothing empty.
func TestTargets(t *testing.T) {
	for target, want := range map[string]int{
		"to_q": 2, "attn.to_q": 2, "0.attn.to_q": 2, "transformer_blocks.0.attn.to_q": 1, "single_transformer_blocks.0.attn.to_q": 1,
		"q": 0, "o_q": 0, ".to_q": 0, "to_": 0, "": 0, "to_out": 0, "to_out.0": 1, "linear": 1, "norm_out.linear": 1, "TO_Q": 0, "0": 1, AllLinear: len(layers) - 1, "linear_1": 1,
	} {
		chosen, err := Match(layers, []string{target})
		if len(chosen) != want || (err == nil) != (want > 0) {
			t.Errorf("%q matches %d layers, want %d: %v", target, len(chosen), want, err)
		}
	}
	twice, err := Match(layers, []string{"to_q", "attn.to_q"})
	if err != nil || len(twice) != 2 {
		t.Errorf("a layer that two targets match is chosen twice: %d, %v", len(twice), err)
	}
}

// TestNewAdaptersStartAsTheBase: each A is drawn once, in the order of the modules, and with B zero nothing changes.
func TestNewAdaptersStartAsTheBase(t *testing.T) {
	var asked []string
	a, err := New(layers, Spec{Targets: []string{"to_q", "to_k", "to_v", "proj_mlp"}, Rank: 3, Alpha: 6}, func(m Module, x []float32) {
		asked = append(asked, m.Name)
		if len(x) != 3*m.In {
			t.Errorf("%s: %d numbers of A, want %d", m.Name, len(x), 3*m.In)
		}
		for i := range x {
			x[i] = float32(len(asked))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range a.Modules {
		if asked[i] != m.Name || m.Scale() != 2 || a.A(m)[0] != float32(i+1) || slices.ContainsFunc(a.Delta(m),
			func(v float32) bool { return v != 0 }) {
			t.Errorf("module %d, %s, asked as %s, scale %v", i, m.Name, asked[i], m.Scale())
		}
	}
	if len(asked) != 7 || a.Parameters() != 3*(6*(6+4)+6+10) {
		t.Errorf("%d modules, %d parameters", len(asked), a.Parameters())
	}
}

// chosen is what New makes of a spec, as NAME rank/alpha.
func chosen(s Spec) ([]string, error) {
	a, err := New(layers, s, nil)
	if err != nil {
		return nil, err
	}
	var list []string
	for _, m := range a.Modules {
		text := fmt.Sprintf("%s %d/%v", m.Name, m.Rank, m.Alpha)
		if m.RankStabilised {
			text += " rs"
		}
		list = append(list, text)
	}
	return list, nil
}

// TestSpecs: targets less exclusions, in blocks, with ranks and alphas of the first pattern that matches.
func TestSpecs(t *testing.T) {
	const d, s = "transformer_blocks.0.attn.", "single_transformer_blocks.0."
	for name, c := range map[string]struct {
		spec Spec
		want []string
	}{
		"targets": {Spec{Targets: []string{"to_q"}, Rank: 2, Alpha: 3}, []string{d + "to_q 2/3", s + "attn.to_q 2/3"}},
		"exclude": {Spec{Targets: []string{"to_q", "to_k"}, Exclude: []string{d + "to_q", s + "attn.to_k"}, Rank: 2, Alpha: 3},
			[]string{d + "to_k 2/3", s + "attn.to_q 2/3"}},
		"one block": {Spec{Targets: []string{"to_q"}, Blocks: []string{"single_transformer_blocks.0"}, Rank: 2, Alpha: 3},
			[]string{s + "attn.to_q 2/3"}},
		"all-linear": {Spec{Targets: []string{AllLinear}, Blocks: []string{"single_transformer_blocks.0-0"}, Exclude: []string{"to_k",
			"to_v"}, Rank: 1, Alpha: 1}, []string{s + "attn.to_q 1/1", s + "proj_mlp 1/1"}},
		"rsLoRA": {Spec{Targets: []string{"norm_out.linear"}, Rank: 2, Alpha: 3, RankStabilised: true},
			[]string{"norm_out.linear 2/3 rs"}},
		"patterns": {Spec{Targets: []string{"to_q", "to_k"}, Rank: 2, Alpha: 3, Ranks: []string{"^transformer_blocks.*=4", "to_q = 8"},
			Alphas: []string{"single_.*q=0.5"}},
			[]string{d + "to_q 4/3", d + "to_k 4/3", s + "attn.to_q 8/0.5", s + "attn.to_k 2/3"}},
		"looking ahead": {Spec{Targets: []string{"to_q", "to_k"}, Rank: 2, Alpha: 3, Ranks: []string{`^(?!single).*to_q=4`}},
			[]string{d + "to_q 4/3", d + "to_k 2/3", s + "attn.to_q 2/3", s + "attn.to_k 2/3"}},
	} {
		if got, err := chosen(c.spec); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v, want %v", name, got, err, c.want)
		}
	}
}

// TestBadSpecs: whatever says nothing about the model is named, with what is near.
func TestBadSpecs(t *testing.T) {
	ok := Spec{Targets: []string{"to_q"}, Rank: 2, Alpha: 3}
	with := func(change func(*Spec)) Spec { s := ok; change(&s); return s }
	for _, c := range []struct {
		spec  Spec
		words []string
	}{
		{with(func(s *Spec) { s.Targets = []string{"to_q", "to_qq"} }), []string{`target "to_qq"`, "did you mean to_q?"}},
		{with(func(s *Spec) { s.Targets = []string{"all-linea"} }), []string{`target "all-linea"`, "did you mean all-linear?"}},
		{with(func(s *Spec) { s.Targets = nil }), []string{"match no linear layer"}},
		{with(func(s *Spec) { s.Exclude = []string{"to_k"} }), []string{`exclusion "to_k"`, "did you mean to_q?"}},
		{with(func(s *Spec) { s.Exclude = []string{"attn.to_q"} }), []string{"nothing is left"}},
		{with(func(s *Spec) { s.Blocks = []string{"transformer_block.0"} }), []string{`blocks "transformer_block.0"`,
			"did you mean transformer_blocks?"}},
		{with(func(s *Spec) { s.Blocks = []string{"transformer_blocks.0-18"} }), []string{"transformer_blocks.0-18",
			"the model has transformer_blocks.0-0"}},
		{with(func(s *Spec) { s.Blocks = []string{"transformer_blocks"} }), []string{`"transformer_blocks"`, "KIND.FIRST-LAST"}},
		{with(func(s *Spec) { s.Blocks = []string{"transformer_blocks.1-0"} }), []string{"end before they begin"}},
		{with(func(s *Spec) { s.Targets, s.Blocks = []string{"to_out.0"}, []string{"single_transformer_blocks.0"} }),
			[]string{"single_transformer_blocks.0", "no targeted module"}},
		{with(func(s *Spec) { s.Ranks = []string{"to_k=4"} }), []string{`rank pattern "to_k"`, "did you mean to_q?"}},
		{with(func(s *Spec) { s.Alphas = []string{"to_k=4"} }), []string{`alpha pattern "to_k"`}},
		{with(func(s *Spec) { s.Ranks = []string{"to_q"} }), []string{"PATTERN=NUMBER"}},
		{with(func(s *Spec) { s.Ranks = []string{"to_q=0"} }), []string{"above 0"}},
		{with(func(s *Spec) { s.Ranks = []string{"to_q=1.5"} }), []string{"rank 1.5", "whole number"}},
		{with(func(s *Spec) { s.Ranks = []string{"to_q=1e18"} }), []string{"rank 1e+18"}},
		{with(func(s *Spec) { s.Alphas = []string{"(=4"} }), []string{`pattern "("`}},
		{with(func(s *Spec) { s.Rank = 0 }), []string{"rank 0"}},
		{with(func(s *Spec) { s.Alpha = 1e300 }), []string{"no finite scale"}},
	} {
		_, err := New(layers, c.spec, nil)
		for _, w := range c.words {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%+v: error %v, want %q in it", c.spec, err, w)
			}
		}
	}
}

// TestSlowPatternsEnd: an expression that backtracks for ever is an error that names it.
func TestSlowPatternsEnd(t *testing.T) {
	long := []Layer{{Name: strings.Repeat("a", 60) + "!", In: 1, Out: 1}}
	_, err := New(long, Spec{Targets: []string{long[0].Name}, Rank: 1, Alpha: 1, Ranks: []string{"(a+)+=2"}}, nil)
	if err == nil || !strings.Contains(err.Error(), "(a+)+") || !strings.Contains(err.Error(), "too long") {
		t.Errorf("error %v", err)
	}
}

// TestContradictions: what an adapter of the spec itself says is none, nor what a spec does not say; every other value is.
func TestContradictions(t *testing.T) {
	spec := Spec{Targets: []string{"to_q", "to_k"}, Rank: 2, Alpha: 3, Alphas: []string{"to_k=5"}}
	a := one(t, spec)
	for _, s := range []Spec{{}, spec, {Rank: 2}, {Targets: spec.Targets}, {Exclude: []string{"proj_mlp"}},
		{Blocks: []string{"transformer_blocks.0", "single_transformer_blocks.0"}},
		{Alpha: 3, Alphas: spec.Alphas}, {Ranks: []string{"to_.=2"}}} {
		if got, err := Contradictions(a, layers, s); err != nil || len(got) > 0 {
			t.Errorf("%+v: %q, %v", s, got, err)
		}
	}
	for _, c := range []struct {
		spec Spec
		want string
	}{
		{Spec{Targets: []string{"to_q", "to_k", "to_v"}},
			"the adapter has not: transformer_blocks.0.attn.to_v, single_transformer_blocks.0.attn.to_v"},
		{Spec{Targets: []string{"to_k"}}, "leave out: transformer_blocks.0.attn.to_q, single_transformer_blocks.0.attn.to_q"},
		{Spec{Exclude: []string{"to_k"}}, "leave out: transformer_blocks.0.attn.to_k, single_transformer_blocks.0.attn.to_k"},
		{Spec{Blocks: []string{"transformer_blocks.0"}},
			"leave out: single_transformer_blocks.0.attn.to_q, single_transformer_blocks.0.attn.to_k"},
		{Spec{Rank: 4}, "rank: transformer_blocks.0.attn.to_q has 2, not 4"},
		{Spec{Alpha: 4}, "alpha: transformer_blocks.0.attn.to_q has 3, not 4"},
		{Spec{Alpha: 3}, "alpha: transformer_blocks.0.attn.to_k has 5, not 3"},
		{Spec{RankStabilised: true}, "rslora, but the scales are alpha/rank: transformer_blocks.0.attn.to_q"},
		{Spec{Ranks: []string{"single.*to_q=7"}}, "rank: single_transformer_blocks.0.attn.to_q has 2, not 7"},
		{Spec{Alphas: []string{"to_k=9"}}, "alpha: transformer_blocks.0.attn.to_k has 5, not 9"},
	} {
		got, err := Contradictions(a, layers, c.spec)
		if err != nil || len(got) != 1 || !strings.Contains(got[0], c.want) {
			t.Errorf("%+v: %q, %v, want %q", c.spec, got, err, c.want)
		}
	}
	for _, s := range []Spec{{Ranks: []string{"to_q"}}, {Alphas: []string{"(=1"}}, {Blocks: []string{"x"}}} {
		if _, err := Contradictions(a, layers, s); err == nil {
			t.Errorf("%+v was read", s)
		}
	}
}

// TestSameScaleByAnotherRule: alpha 6 of the plain rule is alpha 3 of rsLoRA at rank 4: no contradiction.
func TestSameScaleByAnotherRule(t *testing.T) {
	a := one(t, Spec{Targets: []string{"to_q"}, Rank: 4, Alpha: 6})
	if got, err := Contradictions(a, layers, Spec{Alpha: 3, RankStabilised: true}); err != nil || len(got) > 0 {
		t.Errorf("%q, %v", got, err)
	}
}

// TestDistance is a metric on names: nought for equal ones alone, symmetric, and no more than the longer name.
func TestDistance(t *testing.T) {
	if d := distance("to_qq", "to_q"); d != 1 {
		t.Errorf("to_qq is %d from to_q", d)
	}
	name := rapid.StringMatching(`[a-c_.]{0,8}`)
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := name.Draw(t, "a"), name.Draw(t, "b"), name.Draw(t, "c")
		if d := distance(a, b); d != distance(b, a) || (d == 0) != (a == b) || d > max(len(a), len(b)) || d > distance(a, c)+distance(c,
			b) {
			t.Fatalf("%q and %q: %d", a, b, d)
		}
	})
}
