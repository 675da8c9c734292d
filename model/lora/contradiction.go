package lora

import (
	"cmp"
	"fmt"
	"slices"
)

// Contradictions lists what a spec says otherwise than an adapter that was read from a file, as sentences. What a spec
// leaves empty, 0 or false it does not say. A spec that cannot be read is an error.
func Contradictions(a *Adapter, layers []Layer, s Spec) ([]string, error) {
	found, err := s.otherModules(a, layers)
	if err != nil {
		return nil, fmt.Errorf("compare with adapter: %w", err)
	}
	numbers, err := s.otherNumbers(a)
	if err != nil {
		return nil, fmt.Errorf("compare with adapter: %w", err)
	}
	return append(found, numbers...), nil
}

// otherModules compares which modules there are.
func (s Spec) otherModules(a *Adapter, layers []Layer) ([]string, error) {
	ranges, err := parseRanges(s.Blocks)
	if err != nil {
		return nil, err
	}
	chosen := func(l Layer) bool {
		return (len(s.Targets) == 0 || slices.ContainsFunc(s.Targets, l.targeted)) && !slices.ContainsFunc(s.Exclude, l.named) &&
			(len(ranges) == 0 || ranges.hold(l))
	}
	var absent, beyond []string
	for _, l := range layers {
		if _, has := a.Module(l.Name); has && !chosen(l) {
			beyond = append(beyond, l.Name)
		} else if !has && len(s.Targets) > 0 && chosen(l) {
			absent = append(absent, l.Name)
		}
	}
	return append(sentence("targets choose modules that the adapter has not", absent),
		sentence("the adapter has modules that targets, exclude and blocks leave out", beyond)...), nil
}

// otherNumbers compares ranks and scales.
func (s Spec) otherNumbers(a *Adapter) ([]string, error) {
	rankOf, err := parsePatterns(s.Ranks)
	if err != nil {
		return nil, err
	}
	alphaOf, err := parsePatterns(s.Alphas)
	if err != nil {
		return nil, err
	}
	var ranks, alphas, rules []string
	for _, m := range a.Modules {
		rank, err := rankOf.of(m.Name, float64(cmp.Or(s.Rank, m.Rank)))
		if err != nil {
			return nil, err
		}
		if rank != float64(m.Rank) {
			ranks = append(ranks, fmt.Sprintf("%s has %d, not %v", m.Name, m.Rank, rank))
		}
		want := m
		want.RankStabilised = m.RankStabilised || s.RankStabilised
		if want.Alpha, err = alphaOf.of(m.Name, cmp.Or(s.Alpha, m.Alpha)); err != nil {
			return nil, err
		}
		switch {
		case want.Scale() == m.Scale(): // a file may say it by another alpha and rule
		case want.Alpha != m.Alpha:
			alphas = append(alphas, fmt.Sprintf("%s has %v, not %v", m.Name, m.Alpha, want.Alpha))
		default:
			rules = append(rules, m.Name)
		}
	}
	return slices.Concat(sentence("rank", ranks), sentence("alpha", alphas), sentence("rslora, but the scales are alpha/rank",
		rules)), nil
}

// sentence is what is said of some names, nothing when there are none.
func sentence(what string, names []string) []string {
	if len(names) == 0 {
		return nil
	}
	return []string{what + ": " + some(names)}
}
