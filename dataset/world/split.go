package world

// The splits. Held scenes are never in train; held subjects of condition tasks neither. A test tuple joins a held scene
// with a held subject (condition tasks), or is one of a third of the held-scene tuples (subject-oriented tasks, whose
// outcome the subject alone decides); pretrain has every combination but those. Validation, by which settings are chosen,
// has combinations of neither train nor test: a held scene with another subject, of subject-oriented tasks another third.
const (
	Pretrain   = "pretrain"
	Train      = "train"
	Validation = "validation"
	TestS      = "test_S" // plain backgrounds
	TestC      = "test_C" // described scenes
)

// part is where one task x subject x scene belongs.
type part struct{ pretrain, train, validation, test bool }

func partOf(k *task, subject, sceneIndex int) part {
	held := subject >= len(k.subjects)-heldSubjects
	c := scenes[sceneIndex]
	var p part
	if k.bySubject {
		p.test = c.held && (subject+sceneIndex)%3 == 0
		p.validation = c.held && (subject+sceneIndex)%3 == 1
		p.train = !c.held
	} else {
		p.test = c.held && held
		p.validation = c.held && !held
		p.train = !c.held && !held
	}
	p.pretrain = !p.test
	return p
}

// combos lists the tuples of a split, nominal pose, in task, subject, scene order; one list a task.
func combos(split string) [][]Tuple {
	out := make([][]Tuple, len(tasks))
	for i := range tasks {
		k := &tasks[i]
		for j, s := range k.subjects {
			for c := range scenes {
				p := partOf(k, j, c)
				in := map[string]bool{Pretrain: p.pretrain, Train: p.train, Validation: p.validation,
					TestS: p.test && scenes[c].plain(), TestC: p.test && !scenes[c].plain()}
				if in[split] {
					out[i] = append(out[i], Tuple{Task: k.abbr, Subject: s.name, Scene: scenes[c].name})
				}
			}
		}
	}
	return out
}

// Tuples lists rows of a split in a balanced order: tasks take turns, the order within a task is a permutation keyed by
// the seed, and every tuple has its own pose. rows = 0 gives each combination once; with more rows than that, combinations
// come again in another pose. It returns nil for a split the world does not have.
func Tuples(split string, seed uint64, rows int) []Tuple {
	lists := combos(split)
	total := 0
	for i, l := range lists {
		order := newStream(seed, "order/"+split+"/"+tasks[i].abbr).order(len(l))
		mixed := make([]Tuple, len(l))
		for j, o := range order {
			mixed[j] = l[o]
		}
		lists[i] = mixed
		total += len(l)
	}
	if total == 0 {
		return nil
	}
	once := rows <= 0
	if once {
		rows = total
	}
	poses := newStream(seed, "pose/"+split)
	out := make([]Tuple, 0, rows)
	for turn := 0; len(out) < rows; turn++ {
		for _, l := range lists {
			if len(out) == rows || once && turn >= len(l) {
				continue
			}
			t := l[turn%len(l)]
			t.Pose = poses.next()>>33 + 1
			out = append(out, t)
		}
	}
	return out
}
