package eval

import (
	"math"
	"sort"

	"github.com/sciflux/sciflux/random"
	"github.com/sciflux/sciflux/run"
)

// Kind is one of a tuple's three prompts.
type Kind string

// The kinds of prompts.
const (
	Implicit    Kind = "implicit"
	Explicit    Kind = "explicit"
	Superficial Kind = "superficial"
)

// Kinds lists them in the order in which they are measured.
func Kinds() []Kind { return []Kind{Implicit, Explicit, Superficial} }

// Picture is what was measured of one generated picture.
type Picture struct {
	Score   float64     `json:"score"`             // SciScore against the implicit prompt of its tuple
	Verdict string      `json:"verdict,omitempty"` // right, superficial, neither; empty without a judge
	Outside float64     `json:"outside,omitempty"` // distance from the drawn scene outside the subject's region, grey levels
	Box     *[4]float64 `json:"box,omitempty"`     // where the subject was found: cx, cy, w, h
}

// Tuple is what was measured of one tuple's pictures, in the order of their noises.
type Tuple struct {
	Index       int       `json:"index"` // in the split
	ID          string    `json:"id"`
	Law         string    `json:"law"`
	Category    string    `json:"category"`
	Implicit    []Picture `json:"implicit"`
	Explicit    []Picture `json:"explicit,omitempty"`
	Superficial []Picture `json:"superficial,omitempty"`
}

// Add appends a picture of a kind.
func (t *Tuple) Add(k Kind, p Picture) {
	switch k {
	case Implicit:
		t.Implicit = append(t.Implicit, p)
	case Explicit:
		t.Explicit = append(t.Explicit, p)
	case Superficial:
		t.Superficial = append(t.Superficial, p)
	}
}

// Sort puts tuples in the order of their split.
func Sort(tuples []Tuple) {
	sort.Slice(tuples, func(i, j int) bool { return tuples[i].Index < tuples[j].Index })
}

// Means are averages over all pictures of some tuples.
type Means struct {
	IP, EP, SP                float64
	JudgeIP, JudgeEP, JudgeSP float64 // shares judged right
	Outside                   float64 // of implicit pictures
}

// Summarise averages over tuples. A kind without pictures has mean 0.
func Summarise(tuples []Tuple) Means { return weighted(tuples, nil) }

// weighted is Summarise with each tuple counted count[i] times, nil for once.
func weighted(tuples []Tuple, count []int) Means {
	var m Means
	var n [3]float64
	for i, t := range tuples {
		w := 1.0
		if count != nil {
			w = float64(count[i])
		}
		for k, pictures := range [][]Picture{t.Implicit, t.Explicit, t.Superficial} {
			score := [...]*float64{&m.IP, &m.EP, &m.SP}[k]
			right := [...]*float64{&m.JudgeIP, &m.JudgeEP, &m.JudgeSP}[k]
			for _, p := range pictures {
				n[k] += w
				*score += w * p.Score
				if p.Verdict == "right" {
					*right += w
				}
				if k == 0 {
					m.Outside += w * p.Outside
				}
			}
		}
	}
	for k, sums := range [][]*float64{{&m.IP, &m.JudgeIP, &m.Outside}, {&m.EP, &m.JudgeEP}, {&m.SP, &m.JudgeSP}} {
		for _, s := range sums {
			if n[k] > 0 {
				*s /= n[k]
			}
		}
	}
	return m
}

// Bootstrap says how intervals are made: tuples are drawn with replacement, all variants the same ones.
type Bootstrap struct {
	Resamples int
	Seed      uint64
}

// Results turns one split's variants into the rows of a report. The base must be among them for ND, RI and intervals;
// all variants must hold the same tuples in the same order.
func Results(split string, variants map[run.Variant][]Tuple, pictures int, b Bootstrap) []run.EvalResult {
	base := Summarise(variants[run.VariantBase])
	var out []run.EvalResult
	for _, v := range run.Variants() {
		tuples, ok := variants[v]
		if !ok {
			continue
		}
		m := Summarise(tuples)
		r := run.EvalResult{Split: split, Variant: v, Tuples: len(tuples), Pictures: pictures, IP: m.IP, EP: m.EP, SP: m.SP,
			JudgeIP: m.JudgeIP, JudgeEP: m.JudgeEP, JudgeSP: m.JudgeSP, Outside: m.Outside}
		r.ND = share(NormalisedDifference(m.IP, m.EP, m.SP))
		if v != run.VariantBase {
			r.RI = share(RelativeImprovement(m.IP, base.IP, base.EP))
		}
		if sft := variants[run.VariantSFT]; v != run.VariantBase && v != run.VariantSFT && len(sft) == len(tuples) {
			r.RIGain = b.gain(variants[run.VariantBase], sft, tuples)
		}
		out = append(out, r)
	}
	return out
}

// share turns percent into a fraction, and what has no scale into 0.
func share(percent float64) float64 {
	if math.IsNaN(percent) || math.IsInf(percent, 0) {
		return 0
	}
	return percent / 100
}

// gain is the difference of RI between two tuned variants with its 95 % interval. The base's own means are resampled with
// them, so the interval covers the scale too.
func (b Bootstrap) gain(base, from, to []Tuple) run.Interval {
	difference := func(count []int) float64 {
		scale := weighted(base, count)
		return share(RelativeImprovement(weighted(to, count).IP, scale.IP, scale.EP)) -
			share(RelativeImprovement(weighted(from, count).IP, scale.IP, scale.EP))
	}
	n, key := len(to), random.New(b.Seed).Purpose("bootstrap")
	draws := make([]float64, b.Resamples)
	for k := range draws {
		count := make([]int, n)
		for i := range n {
			count[key.Index(uint64(k)).Intn(uint64(i), n)]++
		}
		draws[k] = difference(count)
	}
	sort.Float64s(draws)
	out := run.Interval{Mean: difference(nil)}
	if len(draws) > 0 {
		out.Low, out.High = quantile(draws, 0.025), quantile(draws, 0.975)
	}
	return out
}

// quantile interpolates in sorted values.
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}
