// Package datatest makes rows and prompts for tests of what works on them: texts without pictures.
package datatest

import (
	"fmt"

	"github.com/sciflux/sciflux/worker/data"
)

// Rows are n rows of three laws in turn, with two implicit wordings each, and their prompts.
func Rows(n int) ([]data.Row, []data.Prompt) {
	var rows []data.Row
	var prompts []data.Prompt
	for i := range n {
		r := data.Row{Index: i, ID: fmt.Sprint(i), Law: fmt.Sprintf("law %d", i%3), Object: "apple",
			Implicit: []string{fmt.Sprintf("implicit %d", i), fmt.Sprintf("implied %d", i)}, Explicit: []string{fmt.Sprintf("explicit %d", i)}, Superficial: []string{"s"}}
		rows, prompts = append(rows, r), append(prompts, data.Prompt{Text: r.Implicit[0], Object: r.Object, Row: i})
	}
	return rows, prompts
}
