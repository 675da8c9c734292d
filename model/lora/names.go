package lora

import (
	"fmt"
	"slices"
	"strings"
)

func namesOf(layers []Layer) []string {
	names := make([]string, len(layers))
	for i, l := range layers {
		names[i] = l.Name
	}
	return names
}

// some is the first of many names and how many there are.
func some(names []string) string {
	const shown = 3
	if len(names) <= shown {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s, … (%d)", strings.Join(names[:shown], ", "), len(names))
}

// endings are all names that choose some of the layers: whole ones and what follows a dot.
func endings(layers []Layer) []string {
	var list []string
	seen := map[string]bool{}
	for _, l := range layers {
		for end, more := l.Name, true; more && !seen[end]; _, end, more = strings.Cut(end, ".") {
			seen[end] = true
			list = append(list, end)
		}
	}
	return list
}

// kinds are the beginnings of the layers' names, such as transformer_blocks.
func kinds(layers []Layer) []string {
	var list []string
	for _, l := range layers {
		if kind, _, in := strings.Cut(l.Name, "."); in && !slices.Contains(list, kind) {
			list = append(list, kind)
		}
	}
	return list
}

// didYouMean names the candidate that is nearest to a name which matches nothing.
func didYouMean(name string, candidates []string) string {
	if len(candidates) == 0 {
		return ""
	}
	near := slices.MinFunc(candidates, func(a, b string) int { return distance(name, a) - distance(name, b) })
	return fmt.Sprintf("; did you mean %s?", near)
}

// distance is the number of letters to insert, delete or replace between a and b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
