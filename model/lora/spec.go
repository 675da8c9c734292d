package lora

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// AllLinear is the target word for every linear layer that can be trained.
const AllLinear = "all-linear"

// Spec says what a new adapter adapts. A name stands for the module of that name and for those that end with it after a
// dot.
type Spec struct {
	Targets []string // names, or all-linear
	Exclude []string // names of targeted modules that get no adapter all the same
	Blocks  []string // KIND.N or KIND.FIRST-LAST: only modules of these blocks; empty: all, also those of no block
	Rank    int
	Alpha   float64
	// RankStabilised: scale is Alpha/√Rank instead of Alpha/Rank.
	RankStabilised bool
	// Ranks and Alphas of some modules, PATTERN=NUMBER with regular expressions as peft has them: the first pattern that
	// matches the module's path from its start, or from after a dot, to its end.
	Ranks, Alphas []string
}

// New makes an adapter of every layer that the spec chooses. init fills the A of each module, in the order of Modules; B
// is zero. A target, exclusion, block range or pattern that says nothing about this model is an error.
func New(layers []Layer, s Spec, init func(m Module, a []float32)) (*Adapter, error) {
	modules, err := s.modules(layers)
	if err != nil {
		return nil, fmt.Errorf("new adapter: %w", err)
	}
	a := build(modules)
	if init != nil {
		for _, m := range a.Modules {
			init(m, a.A(m))
		}
	}
	return a, nil
}

// modules are the chosen layers with their ranks and alphas.
func (s Spec) modules(layers []Layer) ([]Module, error) {
	if s.Rank < 1 {
		return nil, fmt.Errorf("rank %d; give a rank of at least 1", s.Rank)
	}
	chosen, err := s.choose(layers)
	if err != nil {
		return nil, err
	}
	ranks, err := numbers("rank pattern", s.Ranks, chosen, float64(s.Rank))
	if err != nil {
		return nil, err
	}
	alphas, err := numbers("alpha pattern", s.Alphas, chosen, s.Alpha)
	if err != nil {
		return nil, err
	}
	modules := make([]Module, len(chosen))
	for i, l := range chosen {
		m := Module{Layer: l, Rank: int(ranks[i]), Alpha: alphas[i], RankStabilised: s.RankStabilised}
		if float64(m.Rank) != ranks[i] || m.Rank > maxRank {
			return nil, fmt.Errorf("rank %v of %s; give a whole number from 1 to %d", ranks[i], l.Name, maxRank)
		}
		if !finite(m.Scale()) {
			return nil, fmt.Errorf("alpha %v of %s gives no finite scale", m.Alpha, l.Name)
		}
		modules[i] = m
	}
	return modules, nil
}

// maxRank is more than any layer of FLUX has use for: a slip of some digits must not ask for all memory.
const maxRank = 1 << 14

// numbers are the values of patterns for layers, each of which has to match one of them at least.
func numbers(what string, list []string, layers []Layer, fallback float64) ([]float64, error) {
	ps, err := parsePatterns(list)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	values := make([]float64, len(layers))
	for i, l := range layers {
		if values[i], err = ps.of(l.Name, fallback); err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
	}
	for _, p := range ps {
		matched := false
		for i := 0; i < len(layers) && !matched; i++ {
			if matched, err = p.matches(layers[i].Name); err != nil {
				return nil, fmt.Errorf("%s: %w", what, err)
			}
		}
		if !matched {
			return nil, fmt.Errorf("%s %q matches no adapted module%s", what, p.key, didYouMean(p.key, endings(layers)))
		}
	}
	return values, nil
}

// choose lists the layers that get an adapter.
func (s Spec) choose(layers []Layer) ([]Layer, error) {
	for _, t := range s.Targets {
		if !slices.ContainsFunc(layers, func(l Layer) bool { return l.targeted(t) }) {
			return nil, fmt.Errorf("target %q matches no linear layer of the model%s", t, didYouMean(t,
				append(endings(layers), AllLinear)))
		}
	}
	chosen, err := Match(layers, s.Targets)
	if err != nil {
		return nil, err
	}
	kept := slices.DeleteFunc(slices.Clone(chosen), func(l Layer) bool { return slices.ContainsFunc(s.Exclude, l.named) })
	for _, name := range s.Exclude {
		if !slices.ContainsFunc(chosen, func(l Layer) bool { return l.named(name) }) {
			return nil, fmt.Errorf("exclusion %q matches no targeted module%s", name, didYouMean(name, endings(chosen)))
		}
	}
	if kept, err = inBlocks(kept, s.Blocks, layers); err != nil {
		return nil, err
	}
	if len(kept) == 0 {
		return nil, fmt.Errorf("nothing is left of targets %q: exclusions %q take every module", s.Targets, s.Exclude)
	}
	return kept, nil
}

// Match lists the layers that a target names: by the whole name, by its end after a dot, or as one of all-linear. It fails
// when there is none.
func Match(layers []Layer, targets []string) ([]Layer, error) {
	var chosen []Layer
	for _, l := range layers {
		if slices.ContainsFunc(targets, l.targeted) {
			chosen = append(chosen, l)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("target modules %q match no linear layer; name whole layers or their ends after a dot, "+
			"e.g. to_q, to_k, to_v, to_out.0", targets)
	}
	return chosen, nil
}

// targeted tells whether a target chooses the layer.
func (l Layer) targeted(target string) bool {
	return target == AllLinear && !l.Conditioning || l.named(target)
}

// named tells whether the layer's name is the given one or ends with it after a dot.
func (l Layer) named(name string) bool {
	return l.Name == name || name != "" && strings.HasSuffix(l.Name, "."+name)
}

// blockRange is blocks First to Last of the list that Kind names.
type blockRange struct {
	text, kind  string
	first, last int
}

var blockText = regexp.MustCompile(`^(.+)\.(\d{1,6})(?:-(\d{1,6}))?$`)

func parseBlocks(text string) (blockRange, error) {
	part := blockText.FindStringSubmatch(text)
	if part == nil {
		return blockRange{}, fmt.Errorf("blocks %q are not KIND.FIRST-LAST, such as transformer_blocks.0-18", text)
	}
	r := blockRange{text: text, kind: part[1]}
	r.first, _ = strconv.Atoi(part[2])
	if r.last = r.first; part[3] != "" {
		r.last, _ = strconv.Atoi(part[3])
	}
	if r.last < r.first {
		return r, fmt.Errorf("blocks %q end before they begin", text)
	}
	return r, nil
}

// number is the number of the layer's block in the list that the range is of.
func (r blockRange) number(l Layer) (int, bool) {
	rest, ok := strings.CutPrefix(l.Name, r.kind+".")
	if !ok {
		return 0, false
	}
	digits, _, _ := strings.Cut(rest, ".")
	n, err := strconv.Atoi(digits)
	return n, err == nil
}

func (r blockRange) holds(l Layer) bool {
	n, ok := r.number(l)
	return ok && n >= r.first && n <= r.last
}

type blockRanges []blockRange

func parseRanges(texts []string) (blockRanges, error) {
	var ranges blockRanges
	for _, text := range texts {
		r, err := parseBlocks(text)
		if err != nil {
			return nil, err
		}
		ranges = append(ranges, r)
	}
	return ranges, nil
}

func (rs blockRanges) hold(l Layer) bool {
	return slices.ContainsFunc(rs, func(r blockRange) bool { return r.holds(l) })
}

// inBlocks keeps the layers of the given blocks, which all have to be in the model and to hold one of them at least.
func inBlocks(chosen []Layer, texts []string, model []Layer) ([]Layer, error) {
	ranges, err := parseRanges(texts)
	if err != nil || len(ranges) == 0 {
		return chosen, err
	}
	for _, r := range ranges {
		most := -1
		for _, l := range model {
			if n, ok := r.number(l); ok {
				most = max(most, n)
			}
		}
		if most < 0 {
			return nil, fmt.Errorf("blocks %q: the model has no %s%s", r.text, r.kind, didYouMean(r.kind, kinds(model)))
		}
		if r.last > most {
			return nil, fmt.Errorf("blocks %q: the model has %s.0-%d", r.text, r.kind, most)
		}
		if !slices.ContainsFunc(chosen, r.holds) {
			return nil, fmt.Errorf("blocks %q hold no targeted module; targeted are %s", r.text, some(namesOf(chosen)))
		}
	}
	return slices.DeleteFunc(chosen, func(l Layer) bool { return !ranges.hold(l) }), nil
}
