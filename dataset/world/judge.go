package world

import (
	"fmt"
	"math"
	"sync"
)

// Verdict says what a picture shows of its tuple.
type Verdict int8

// The verdicts.
const (
	Superficial Verdict = -1
	Neither     Verdict = 0
	Right       Verdict = 1
)

// String is the verdict as reports write it.
func (v Verdict) String() string {
	return [...]string{"superficial", "neither", "right"}[v+1]
}

// Judgement is what the judge reads from one picture.
type Judgement struct {
	Verdict   Verdict
	Margin    float64 // -1 (drawn superficial) .. +1 (drawn right)
	Explained float64 // share of the picture's distance to the empty scene that the drawn subject explains; 1 = drawn exactly
	Likeness  float64 // correlation with the drawing around the subject, -1..1
	Found     bool    // the subject is there
	Box       Box     // where it is, by the best pose
	Outside   float64 // mean distance to the empty scene around the subject's region, grey levels 0..255
}

const (
	judgeSide    = 32   // pictures are compared at this side: blur and noise matter less there
	minMargin    = 0.2  // below it a picture shows neither outcome
	minExplained = 0.05 // below it the subject is not there
	minLikeness  = 0.42 // nor below this
	cacheLimit   = 512  // tuples whose drawings are kept
)

// Judge compares pictures with drawings of both outcomes. It knows no rules of the tasks: the drawing code decides. It is
// safe for concurrent use, and its answers do not depend on what was asked before.
type Judge struct {
	mu    sync.Mutex
	cases map[Tuple]*judged
}

// NewJudge returns a judge; it keeps the drawings of the tuples it sees.
func NewJudge() *Judge { return &Judge{cases: map[Tuple]*judged{}} }

// Judge reads a picture of tuple t (its pose is not used). The picture may have any side; it is brought to 32 x 32.
func (j *Judge) Judge(p Picture, t Tuple) (Judgement, error) {
	c, err := j.caseOf(t)
	if err != nil {
		return Judgement{}, err
	}
	x, err := p.shrink(judgeSide)
	if err != nil {
		return Judgement{}, fmt.Errorf("judge %s: %w", t.ID(), err)
	}
	return c.judge(x), nil
}

// Detect finds the subject of t in a picture: the world's detector for masks. ok is false when it is not there.
func (j *Judge) Detect(p Picture, t Tuple) (box Box, ok bool, err error) {
	r, err := j.Judge(p, t)
	return r.Box, r.Found, err
}

func (j *Judge) caseOf(t Tuple) (*judged, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	t.Pose = 0
	j.mu.Lock()
	defer j.mu.Unlock()
	if c := j.cases[t]; c != nil {
		return c, nil
	}
	if len(j.cases) >= cacheLimit {
		clear(j.cases)
	}
	c := newJudged(t)
	j.cases[t] = c
	return c, nil
}

// pose is a step of the search: shifts in 64ths and index of scale.
type pose struct{ dx, dy, k int8 }

var scales = [...]float64{1.03, 1.08, 1.13}

func (q pose) place() place {
	return place{nominal.x + float64(q.dx), nominal.y + float64(q.dy), scales[q.k]}
}

// judged holds the drawings of one tuple, cropped to the region a subject can reach.
type judged struct {
	mu             sync.Mutex
	t              Tuple
	reach          extent
	x0, y0, x1, y1 int     // region in judge pixels
	empty          []uint8 // backdrop, whole picture
	pairs          map[pose]*pair
}

// pair is both outcomes in one pose, cropped to the region, [h,w,3].
type pair struct{ right, wrong []uint8 }

func newJudged(t Tuple) *judged {
	c := &judged{t: t, reach: t.extent(), pairs: map[pose]*pair{}}
	const slack = 3.0 // how far poses move the subject, in 64ths
	per := 64.0 / judgeSide
	c.x0 = max(0, int(math.Floor((nominal.x+c.reach.x0*1.14-slack)/per)))
	c.y0 = max(0, int(math.Floor((nominal.y+c.reach.y0*1.14-slack)/per)))
	c.x1 = min(judgeSide, int(math.Ceil((nominal.x+c.reach.x1*1.14+slack)/per)))
	c.y1 = min(judgeSide, int(math.Ceil((nominal.y+c.reach.y1*1.14+slack)/per)))
	p := newCoarsePen(judgeSide, 2)
	_, _, sc := t.must()
	backdrop(p, sc, nil)
	c.empty = p.picture()
	return c
}

// crop copies the region of a [32,32,3] picture.
func (c *judged) crop(pix []uint8) []uint8 {
	w := (c.x1 - c.x0) * 3
	out := make([]uint8, 0, w*(c.y1-c.y0))
	for y := c.y0; y < c.y1; y++ {
		i := (y*judgeSide + c.x0) * 3
		out = append(out, pix[i:i+w]...)
	}
	return out
}

func (c *judged) pair(q pose) *pair {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.pairs[q]; p != nil {
		return p
	}
	shot := func(right bool) []uint8 {
		p := newCoarsePen(judgeSide, 2)
		c.t.drawOn(p, right, q.place())
		return c.crop(p.picture())
	}
	p := &pair{right: shot(true), wrong: shot(false)}
	c.pairs[q] = p
	return p
}

// judge searches the pose that fits best in either outcome, coarse then fine, and reads the outcome there.
func (c *judged) judge(pix []uint8) Judgement {
	x := c.crop(pix)
	best, dist := pose{k: 1}, math.MaxInt
	try := func(q pose) {
		p := c.pair(q)
		if d := min(distance(x, p.right), distance(x, p.wrong)); d < dist {
			best, dist = q, d
		}
	}
	for _, dy := range []int8{0, -2, 2} {
		for _, dx := range []int8{0, -2, 2} {
			try(pose{dx, dy, 1})
		}
	}
	for _, k := range []int8{0, 2} {
		try(pose{best.dx, best.dy, k})
	}
	for mid, dy := best, int8(-1); dy <= 1; dy++ {
		for dx := int8(-1); dx <= 1; dx++ {
			try(pose{mid.dx + dx, mid.dy + dy, mid.k})
		}
	}
	return c.read(pix, x, best)
}

func (c *judged) read(pix, x []uint8, q pose) Judgement {
	p := c.pair(q)
	dr, dw, gap := distance(x, p.right), distance(x, p.wrong), max(1, distance(p.right, p.wrong))
	j := Judgement{Margin: float64(dw-dr) / float64(gap), Box: c.reach.box(q.place()), Outside: c.outside(pix)}
	seen := p.right
	if dw < dr {
		seen = p.wrong
	}
	j.Explained = explained(x, seen, c.crop(c.empty))
	j.Likeness = likeness(x, seen)
	j.Found = j.Explained >= minExplained && j.Likeness >= minLikeness
	switch {
	case !j.Found || math.Abs(j.Margin) < minMargin:
	case j.Margin > 0:
		j.Verdict = Right
	default:
		j.Verdict = Superficial
	}
	return j
}

// distance is the sum of absolute differences.
func distance(a, b []uint8) int {
	s := 0
	b = b[:len(a)]
	for i, v := range a {
		d := int(v) - int(b[i])
		s += max(d, -d)
	}
	return s
}

// explained is 1 - |x-drawn|/|x-empty| over the pixels where the drawing differs from the empty scene.
func explained(x, drawn, empty []uint8) float64 {
	to, from := 0, 0
	for i := 0; i+2 < len(x); i += 3 {
		if distance(drawn[i:i+3], empty[i:i+3]) < 24 {
			continue
		}
		to += distance(x[i:i+3], drawn[i:i+3])
		from += distance(x[i:i+3], empty[i:i+3])
	}
	return 1 - float64(to)/float64(max(1, from))
}

// likeness is the correlation of two [n,3] crops, each channel about its own mean: 0 for flat and scrambled pictures.
func likeness(a, b []uint8) float64 {
	var sa, sb [3]float64
	for i := range a {
		sa[i%3] += float64(a[i])
		sb[i%3] += float64(b[i])
	}
	n := float64(len(a)) / 3
	var ab, aa, bb float64
	for i := range a {
		u, v := float64(a[i])-sa[i%3]/n, float64(b[i])-sb[i%3]/n
		ab, aa, bb = ab+u*v, aa+u*u, bb+v*v
	}
	return ab / math.Sqrt(max(1, aa)*max(1, bb))
}

func (c *judged) outside(pix []uint8) float64 {
	s, n := 0, 0
	for y := range judgeSide {
		for x := range judgeSide {
			if y >= c.y0 && y < c.y1 && x >= c.x0 && x < c.x1 {
				continue
			}
			i := (y*judgeSide + x) * 3
			s += distance(pix[i:i+3], c.empty[i:i+3])
			n += 3
		}
	}
	return float64(s) / float64(max(1, n))
}
