package world

import (
	"slices"
	"strings"
	"testing"
)

// benchmarkTasks are the tasks of Science-T2I as its paper lists them: abbreviation, name, field, and whether the subject or
// the condition decides the outcome.
var benchmarkTasks = []struct{ abbr, law, field, decides string }{
	{"GR", "gravity", "physics", "condition"}, {"SO", "solidification", "physics", "condition"}, {"ME", "melting", "physics", "condition"},
	{"AB", "absorption", "physics", "subject"}, {"BU", "buoyancy", "physics", "subject"}, {"DI", "diffusion", "physics", "subject"},
	{"EL", "electricity", "physics", "condition"}, {"EV", "evaporation", "physics", "condition"}, {"LI", "liquidation", "physics", "condition"},
	{"RU", "rust", "chemistry", "condition"}, {"IM", "immiscibility", "chemistry", "subject"}, {"FR", "flame reaction", "chemistry", "subject"},
	{"LR", "light requirement", "biology", "condition"}, {"WR", "watering requirement", "biology", "condition"},
	{"SC", "seasonal change", "biology", "subject"}, {"RI", "ripeness", "biology", "condition"},
}

// TestTasksOfTheBenchmark: name, field and kind of each task, as tuples report them.
func TestTasksOfTheBenchmark(t *testing.T) {
	if len(tasks) != len(benchmarkTasks) {
		t.Fatalf("%d tasks, want %d", len(tasks), len(benchmarkTasks))
	}
	for _, want := range benchmarkTasks {
		k, ok := taskNamed(want.abbr)
		if !ok {
			t.Errorf("no task %s", want.abbr)
			continue
		}
		u := Tuple{Task: k.abbr, Subject: k.subjects[0].name, Scene: scenes[0].name}
		if u.Law() != want.law || u.Category() != want.field || k.bySubject != (want.decides == "subject") {
			t.Errorf("%s: %s in %s, by subject %v; want %s, %s, by %s", want.abbr, u.Law(), u.Category(), k.bySubject, want.law, want.field, want.decides)
		}
	}
}

// TestOutcomesOfTasks: where the condition decides, it makes one outcome right for every subject; where the subject does, each
// outcome is right for some of them, and prompts of the two kinds change places.
func TestOutcomesOfTasks(t *testing.T) {
	for i := range tasks {
		k := &tasks[i]
		explicit := map[string]int{}
		for _, s := range k.subjects {
			p := (Tuple{Task: k.abbr, Subject: s.name, Scene: scenes[0].name}).Prompts()
			first, second := word(k.first[0], s)+" "+scenes[0].name, word(k.second[0], s)+" "+scenes[0].name
			switch p.Explicit[0] {
			case first:
				explicit["first"]++
				if p.Superficial[0] != second {
					t.Errorf("%s %s: explicit %q but superficial %q", k.abbr, s.name, p.Explicit[0], p.Superficial[0])
				}
			case second:
				explicit["second"]++
				if p.Superficial[0] != first {
					t.Errorf("%s %s: explicit %q but superficial %q", k.abbr, s.name, p.Explicit[0], p.Superficial[0])
				}
			default:
				t.Errorf("%s %s: explicit prompt %q is of neither outcome", k.abbr, s.name, p.Explicit[0])
			}
		}
		// FR's subjects all burn in their own colour; the superficial reading is the orange of an ordinary flame.
		if both := explicit["first"] > 0 && explicit["second"] > 0; both != (k.bySubject && k.abbr != "FR") {
			t.Errorf("%s: outcomes %v", k.abbr, explicit)
		}
	}
}

// eachCombination calls f for every task, subject and scene.
func eachCombination(f func(u Tuple)) {
	for i := range tasks {
		for _, s := range tasks[i].subjects {
			for _, c := range scenes {
				f(Tuple{Task: tasks[i].abbr, Subject: s.name, Scene: c.name})
			}
		}
	}
}

// TestWordingsDiffer: within a tuple no wording appears twice, neither in one list nor in two; the subject is named in every
// implicit prompt; and words are separated by single spaces with the right article.
func TestWordingsDiffer(t *testing.T) {
	eachCombination(func(u Tuple) {
		p := u.Prompts()
		seen := map[string]bool{}
		for _, line := range slices.Concat(p.Implicit, p.Explicit, p.Superficial) {
			if seen[line] {
				t.Errorf("%s: %q twice", u.ID(), line)
			}
			seen[line] = true
			if strings.Join(strings.Fields(line), " ") != line {
				t.Errorf("%q has stray spaces", line)
			}
			checkArticles(t, line)
		}
		for _, line := range p.Implicit {
			if !strings.Contains(line, u.Subject) {
				t.Errorf("%s: %q does not name the subject", u.ID(), line)
			}
		}
	})
}

func checkArticles(t *testing.T, line string) {
	t.Helper()
	words := strings.Fields(line)
	for i, w := range words[:len(words)-1] {
		next := words[i+1]
		vowel := strings.ContainsRune("aeiou", rune(next[0])) && !strings.HasPrefix(next, "uni") || next == "hour"
		if w == "a" && vowel || w == "an" && !vowel {
			t.Errorf("%q: %s %s", line, w, next)
		}
	}
}

// TestPromptsTellTuplesApart: two tuples never share an implicit prompt, so a prompt of a file leads to one subject and scene.
// Tasks may share an outcome's wording ("a green ... plant" is no secret), but not within a kind of prompt of one task.
func TestPromptsTellTuplesApart(t *testing.T) {
	owner := map[string]string{}
	eachCombination(func(u Tuple) {
		for _, line := range u.Prompts().Implicit {
			if other, taken := owner[line]; taken {
				t.Errorf("%q belongs to %s and to %s", line, other, u.ID())
			}
			owner[line] = u.ID()
		}
	})
	if len(owner) != 3*total() {
		t.Errorf("%d implicit prompts, want %d", len(owner), 3*total())
	}
}

// total is the number of combinations of a task, one of its subjects, and a scene.
func total() (n int) {
	eachCombination(func(Tuple) { n++ })
	return n
}

// promptsOf collects every wording of a split, each kind apart.
func promptsOf(split string) (implicit, all map[string]bool) {
	implicit, all = map[string]bool{}, map[string]bool{}
	for _, u := range Tuples(split, 1, 0) {
		p := u.Prompts()
		for _, line := range p.Implicit {
			implicit[line] = true
		}
		for _, line := range slices.Concat(p.Implicit, p.Explicit, p.Superficial) {
			all[line] = true
		}
	}
	return implicit, all
}

// TestSplitsShareNoPrompt: not one wording of a test split, of any kind, stands in train or in the other test split; nor does an
// implicit one stand in pretrain.
func TestSplitsShareNoPrompt(t *testing.T) {
	_, train := promptsOf(Train)
	pretrain, _ := promptsOf(Pretrain)
	simple, allSimple := promptsOf(TestS)
	hard, allHard := promptsOf(TestC)
	for name, pair := range map[string][2]map[string]bool{
		"test_S and train": {allSimple, train}, "test_C and train": {allHard, train}, "test_S and test_C": {allSimple, allHard},
		"test_S and pretrain": {simple, pretrain}, "test_C and pretrain": {hard, pretrain},
	} {
		for line := range pair[0] {
			if pair[1][line] {
				t.Errorf("%s share %q", name, line)
				break
			}
		}
	}
	if len(simple) < 300 || len(hard) < 300 || len(train) < 5000 {
		t.Errorf("%d, %d and %d prompts", len(simple), len(hard), len(train))
	}
}

// TestEverySubjectIsTrainedOrHeld: condition tasks hold back exactly three subjects, at the end of their lists; subject tasks
// train all of them, because nothing but having seen the subject can tell its outcome. Each split has every task.
func TestEverySubjectIsTrainedOrHeld(t *testing.T) {
	subjects := func(split string) map[string]map[string]bool {
		out := map[string]map[string]bool{}
		for _, u := range Tuples(split, 3, 0) {
			if out[u.Task] == nil {
				out[u.Task] = map[string]bool{}
			}
			out[u.Task][u.Subject] = true
		}
		return out
	}
	train, simple, hard := subjects(Train), subjects(TestS), subjects(TestC)
	for i := range tasks {
		k := &tasks[i]
		for j, s := range k.subjects {
			held := !k.bySubject && j >= len(k.subjects)-3
			if train[k.abbr][s.name] == held {
				t.Errorf("%s %s: held %v, trained %v", k.abbr, s.name, held, train[k.abbr][s.name])
			}
			if held && (!simple[k.abbr][s.name] || !hard[k.abbr][s.name]) {
				t.Errorf("%s %s is held back and never tested", k.abbr, s.name)
			}
		}
		if len(simple[k.abbr]) == 0 || len(hard[k.abbr]) == 0 {
			t.Errorf("%s is not tested", k.abbr)
		}
	}
}

// TestOutcomesAreBalanced: in train no task could be solved by always drawing one outcome where the subject decides.
func TestOutcomesAreBalanced(t *testing.T) {
	second, total := map[string]int{}, map[string]int{}
	for _, u := range Tuples(Train, 2, 0) {
		k, s, _ := u.must()
		if !k.bySubject || k.abbr == "FR" {
			continue
		}
		total[k.abbr]++
		if s.b {
			second[k.abbr]++
		}
	}
	if len(total) != 5 {
		t.Errorf("tasks %v", total)
	}
	for abbr, n := range total {
		if share := float64(second[abbr]) / float64(n); share < 0.4 || share > 0.6 {
			t.Errorf("%s: the second outcome is right in %.2f of the rows", abbr, share)
		}
	}
}

// TestScenes: backdrops have their own names and pictures, a third of each kind is held back, and described places keep the
// middle, where subjects stand, free of things.
func TestScenes(t *testing.T) {
	const side = 64
	held, kinds, names := map[bool]int{}, map[bool]int{}, map[string]bool{}
	var drawn [][]uint8
	for _, s := range scenes {
		names[s.name] = true
		kinds[s.plain()]++
		if s.held {
			held[s.plain()]++
		}
		if back, ok := sceneNamed(s.name); !ok || back.wall != s.wall {
			t.Errorf("%s is found as %+v", s.name, back)
		}
		p := newPen(side)
		backdrop(p, s, nil)
		drawn = append(drawn, p.picture())
		for pose := range uint64(8) {
			checkMiddle(t, s, pose)
		}
	}
	if len(names) != 18 || kinds[true] != 9 || held[true] != 3 || held[false] != 3 {
		t.Errorf("%d scenes, plain %v, held %v", len(names), kinds, held)
	}
	for a := range drawn {
		for b := range a {
			if d := distance(drawn[a], drawn[b]); d < 5*3*side*side {
				t.Errorf("%s and %s differ by %.1f levels", scenes[a].name, scenes[b].name, float64(d)/3/side/side)
			}
		}
	}
}

// checkMiddle wants one colour in each row of the middle: walls, water and floors run across, things do not.
func checkMiddle(t *testing.T, s scene, pose uint64) {
	t.Helper()
	p := newPen(64)
	if pose == 0 {
		backdrop(p, s, nil)
	} else {
		backdrop(p, s, newStream(pose, "backdrop"))
	}
	pix := p.picture()
	for y := 16; y < 38; y++ {
		first := pix[(y*64+25)*3 : (y*64+25)*3+3]
		for x := 25; x < 40; x++ {
			if !slices.Equal(pix[(y*64+x)*3:(y*64+x)*3+3], first) {
				t.Errorf("%s in pose %d: something stands at (%d, %d)", s.name, pose, x, y)
				return
			}
		}
	}
}

// TestIDsAreUnique: rows of all splits of one seed have different names.
func TestIDsAreUnique(t *testing.T) {
	seen := map[string]string{}
	for _, split := range []string{Pretrain, Train, TestS, TestC} {
		for _, u := range Tuples(split, 1, 0) {
			if other := seen[u.ID()]; other != "" {
				t.Errorf("%s is in %s and %s", u.ID(), other, split)
			}
			seen[u.ID()] = split
			if u.Pose == 0 || u.Pose>>33 != 0 {
				t.Errorf("%s: pose %d", split, u.Pose)
			}
		}
	}
}
