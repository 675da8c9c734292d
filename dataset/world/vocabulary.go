package world

import (
	"slices"
	"strings"
)

// Vocabulary lists, sorted, every word of every prompt of the world.
func Vocabulary() []string {
	seen := map[string]bool{}
	for i := range tasks {
		for _, s := range tasks[i].subjects {
			for _, c := range scenes {
				p := Tuple{Task: tasks[i].abbr, Subject: s.name, Scene: c.name}.Prompts()
				for _, l := range [][]string{p.Implicit, p.Explicit, p.Superficial} {
					for _, line := range l {
						for w := range strings.FieldsSeq(line) {
							seen[w] = true
						}
					}
				}
			}
		}
	}
	out := make([]string, 0, len(seen))
	for w := range seen {
		out = append(out, w)
	}
	slices.Sort(out)
	return out
}
