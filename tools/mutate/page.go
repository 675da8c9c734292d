package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
)

// pageOf is docs/mutations.md: the list with what noticed each fault.
func pageOf(all []Mutation, verdicts map[string]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# What the tests notice

Deliberate faults, put into the code one at a time, and the first test of `+"`make test`"+` that fails over each.
`+"`make mutate`"+` tries them all and writes this page; the faults themselves are in tools/mutate/list.

%d faults, %d killed.
`, len(all), count(all, verdicts))
	area := ""
	for _, m := range all {
		if m.Area != area {
			area = m.Area
			fmt.Fprintf(&b, "\n## %s\n\n| fault | file | what it does | killed by |\n|---|---|---|---|\n", strings.ToUpper(area[:1])+area[1:])
		}
		v := verdicts[m.ID]
		if v == "" {
			v = notTried
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.ID, m.File, m.What, strings.ReplaceAll(v, "|", "/"))
	}
	return b.String()
}

// notTried stands where a verdict is yet to come.
const notTried = "not tried"

// count is how many were killed.
func count(all []Mutation, verdicts map[string]string) (n int) {
	for _, m := range all {
		if killer.MatchString(verdicts[m.ID]) {
			n++
		}
	}
	return n
}

// killer is the form of a verdict that names package and test.
var killer = regexp.MustCompile(`^([\w/.]+) (Test\w+|\(the package\))$`)

var row = regexp.MustCompile("(?m)^\\| `([a-z0-9-]+)` \\| [^|]* \\| [^|]* \\| ([^|]*) \\|$")

// readPage gives the verdicts that a page holds; none where there is no page.
func readPage(path string) map[string]string {
	verdicts := map[string]string{}
	text, err := os.ReadFile(path)
	if err != nil {
		return verdicts
	}
	for _, r := range row.FindAllStringSubmatch(string(text), -1) {
		if r[2] != notTried {
			verdicts[r[1]] = r[2]
		}
	}
	return verdicts
}
