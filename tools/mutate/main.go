// Command mutate proves that the tests hold what they are there for: it puts one deliberate fault after another into the
// code, runs the tests of `make test` that should notice, and lists what noticed which. The working tree stays as it is:
// a fault is handed to `go test` as an overlay.
//
//	go run ./tools/mutate                    all of the list, and docs/mutations.md is written anew
//	go run ./tools/mutate -only sft-sigma    some of them; the other rows of the page stay
//	go run ./tools/mutate -rest              those that the page does not call killed
//
// It ends with 1 when a fault survives or cannot be put in.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

func main() {
	only := flag.String("only", "", "ids to try, separated by commas; an id that ends with * stands for all that begin so")
	rest := flag.Bool("rest", false, "leave out what docs/mutations.md says is killed")
	jobs := flag.Int("jobs", 1, "mutations tried at once")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := mutate(ctx, ".", *only, *rest, *jobs); err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

// mutate tries the mutations of the list and writes the page.
func mutate(ctx context.Context, root, only string, rest bool, jobs int) error {
	all, err := readList()
	if err != nil {
		return err
	}
	if err := check(root, all); err != nil {
		return err
	}
	page := filepath.Join(root, "docs", "mutations.md")
	verdicts := readPage(page)
	chosen := choose(all, only)
	if len(chosen) == 0 {
		return fmt.Errorf("no mutation is named %s; see the ids in docs/mutations.md", only)
	}
	if rest {
		chosen = slices.DeleteFunc(chosen, func(m Mutation) bool { return killer.MatchString(verdicts[m.ID]) })
	}
	if err := unmutated(ctx, root, chosen); err != nil {
		return err
	}
	var bad []string
	var failed error
	try(ctx, root, chosen, jobs, func(id string, v Verdict) {
		fmt.Printf("%-32s %s\n", id, v)
		verdicts[id] = v.String()
		if v.Outcome != killed {
			bad = append(bad, id)
		}
		failed = errors.Join(failed, os.WriteFile(page, []byte(pageOf(all, verdicts)), 0o644))
	})
	if err := errors.Join(failed, ctx.Err()); err != nil {
		return err
	}
	if len(bad) > 0 {
		slices.Sort(bad)
		return fmt.Errorf("%d of %d not killed: %s", len(bad), len(chosen), strings.Join(bad, ", "))
	}
	return nil
}

// choose picks mutations by id.
func choose(all []Mutation, only string) []Mutation {
	if only == "" {
		return slices.Clone(all)
	}
	var out []Mutation
	for _, m := range all {
		for id := range strings.SplitSeq(only, ",") {
			if begin, many := strings.CutSuffix(id, "*"); id == m.ID || many && strings.HasPrefix(m.ID, begin) {
				out = append(out, m)
				break
			}
		}
	}
	return out
}

// try runs the tests of each mutation and tells its verdict as soon as it stands, one at a time.
func try(ctx context.Context, root string, list []Mutation, jobs int, tell func(id string, v Verdict)) {
	var mu sync.Mutex
	var all sync.WaitGroup
	free := make(chan struct{}, max(1, jobs))
	for _, m := range list {
		free <- struct{}{}
		all.Go(func() {
			defer func() { <-free }()
			v, err := verdict(ctx, root, m)
			if err != nil {
				v = Verdict{Outcome: broken, Detail: err.Error()}
			}
			mu.Lock()
			defer mu.Unlock()
			if ctx.Err() == nil {
				tell(m.ID, v)
			}
		})
	}
	all.Wait()
}
