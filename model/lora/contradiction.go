package lora

import (
	"fmt"
	"slices"
)

// Contradictions lists what a spec says otherwise than an adapter that was read from a file, as sentences. Of the spec only
// the given settings count, by their names in a config: targets, exclude, blocks, rank, alpha, rslora, rank_pattern,
// alpha_pattern; what nobody set contradicts nothing. Settings that cannot be read are an error.
func Contradictions(a *Adapter, layers []Layer, s Spec, given []string) ([]string, error) {
	found, err := s.otherModules(a, layers, given)
	if err != nil {
		return nil, fmt.Errorf("compare with adapter: %w", err)
	}
	numbers, err := s.otherNumbers(a, given)
	if err != nil {
		return nil, fmt.Errorf("compare with adapter: %w", err)
	}
	return append(found, numbers...), nil
}

// otherModules compares which modules there are.
func (s Spec) otherModules(a *Adapter, layers []Layer, given []string) ([]string, error) {
	says := func(name string) bool { return slices.Contains(given, name) }
	ranges, err := parseRanges(s.Blocks)
	if err != nil {
		return nil, err
	}
	chosen := func(l Layer) bool {
		return (!says("targets") || slices.ContainsFunc(s.Targets, l.targeted)) && (!says("exclude") || !slices.ContainsFunc(s.Exclude, l.named)) &&
			(!says("blocks") || len(ranges) == 0 || ranges.hold(l))
	}
	var absent, beyond []string
	for _, l := range layers {
		if _, has := a.Module(l.Name); has && !chosen(l) {
			beyond = append(beyond, l.Name)
		} else if !has && says("targets") && chosen(l) {
			absent = append(absent, l.Name)
		}
	}
	return append(sentence("targets choose modules that the adapter has not", absent),
		sentence("the adapter has modules that targets, exclude and blocks leave out", beyond)...), nil
}

// otherNumbers compares ranks and scales.
func (s Spec) otherNumbers(a *Adapter, given []string) ([]string, error) {
	says := func(name string) bool { return slices.Contains(given, name) }
	var wanted struct{ ranks, alphas patterns }
	var err error
	if says("rank_pattern") {
		wanted.ranks, err = parsePatterns(s.Ranks)
	}
	if err == nil && says("alpha_pattern") {
		wanted.alphas, err = parsePatterns(s.Alphas)
	}
	if err != nil {
		return nil, err
	}
	var ranks, alphas, rules []string
	for _, m := range a.Modules {
		want := m
		if says("rank") {
			want.Rank = s.Rank
		}
		if says("alpha") {
			want.Alpha = s.Alpha
		}
		rank, err := wanted.ranks.of(m.Name, float64(want.Rank))
		if err != nil {
			return nil, err
		}
		if want.Alpha, err = wanted.alphas.of(m.Name, want.Alpha); err != nil {
			return nil, err
		}
		if rank != float64(m.Rank) {
			ranks = append(ranks, fmt.Sprintf("%s has %d, not %v", m.Name, m.Rank, rank))
		}
		// A file may say the same scale by another alpha and rule.
		want.Rank = m.Rank
		if says("rslora") {
			want.RankStabilised = s.RankStabilised
		}
		switch {
		case want.Scale() == m.Scale():
		case want.Alpha != m.Alpha:
			alphas = append(alphas, fmt.Sprintf("%s has %v, not %v", m.Name, m.Alpha, want.Alpha))
		default:
			rules = append(rules, m.Name)
		}
	}
	return slices.Concat(sentence("rank", ranks), sentence("alpha", alphas),
		sentence(fmt.Sprintf("rslora is %v, but the scales follow the other rule", s.RankStabilised), rules)), nil
}

// sentence is what is said of some names, nothing when there are none.
func sentence(what string, names []string) []string {
	if len(names) == 0 {
		return nil
	}
	return []string{what + ": " + some(names)}
}
