package data

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/run"
)

// TestSpreadTakesEveryTaskInTurn: a part of a split has as many tuples of each task as there can be, in the split's order.
func TestSpreadTakesEveryTaskInTurn(t *testing.T) {
	rows := make([]Row, 11) // laws 0, 1, 2 with 4, 4, 3 rows
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 15).Draw(t, "n")
		for i := range rows {
			rows[i] = Row{Index: i, Law: fmt.Sprint(i % 3)}
		}
		got := spread(rows, n)
		if len(got) != min(n, len(rows)) {
			t.Fatalf("%d rows for %d", len(got), n)
		}
		counts := map[string]int{}
		for _, r := range got {
			counts[r.Law]++
		}
		for law, c := range counts {
			if c < n/3 && c < 3 || c > (n+2)/3+1 {
				t.Fatalf("%d rows of %s among %d", c, law, n)
			}
		}
		if n <= 9 && !slices.EqualFunc(got, spread(rows, 9)[:n], func(a, b Row) bool { return a.Index == b.Index }) {
			t.Fatal("a smaller part is no beginning of a larger one")
		}
	})
}

// TestPromptFiles: what is wrong with a file of prompts is said with its path and the cure; a good one replaces the rows'
// own prompts.
func TestPromptFiles(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		set  []string
		says []string
		want int
	}{
		"good":                {`[{"prompt": "an apple", "object": "apple"}, {"prompt": "rust", "object": "nail"}]`, nil, nil, 2},
		"no object":           {`[{"prompt": "an apple", "object": "apple"}, {"prompt": "rust"}]`, []string{"oft.mask.policy=detector"}, []string{"prompt 1", `"rust"`, "names no object", "oft.mask.policy"}, 0},
		"no object, no masks": {`[{"prompt": "rust"}]`, []string{"oft.mask.policy=none"}, nil, 1},
		"empty":               {`[]`, nil, []string{"no prompts in it"}, 0},
		"one a line":          {`{"prompt": "x", "object": "y"}`, nil, nil, 1},
		"cut short":           {`[{"prompt": "x"`, nil, []string{"cut off"}, 0},
	} {
		cfg, err := configs.Load(configs.Sources{Name: "world", Set: c.set})
		if err != nil {
			t.Fatal(err)
		}
		cfg.Data.Prompts = filepath.Join(t.TempDir(), "prompts.json")
		if err := os.WriteFile(cfg.Data.Prompts, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		prompts, err := (&Set{cfg: cfg, folder: "folder"}).prompts()
		if c.says == nil {
			if err != nil || len(prompts) != c.want || prompts[0].Row != -1 {
				t.Errorf("%s: %+v, %v", name, prompts, err)
			}
			continue
		}
		for _, say := range append(c.says, cfg.Data.Prompts) {
			if err == nil || run.ClassOf(err) != run.ClassData || !strings.Contains(err.Error(), say) {
				t.Errorf("%s: error %v does not say %q", name, err, say)
			}
		}
	}
}
