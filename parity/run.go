package parity

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"sort"
)

// Arithmetic that a case can be run in.
const (
	Float32  = "float32"
	BFloat16 = "bfloat16"
)

// Options choose where and in which arithmetic cases are run.
type Options struct {
	Device string // "cpu" (also the meaning of "") or "cuda"
	DType  string // Float32 (also the meaning of "") or BFloat16; a runner sees the one that its case is judged in
}

// Runner computes the outputs of one case of its kind, through the same public code that a training run uses.
type Runner func(ctx context.Context, c *Case, o Options) (*Outputs, error)

// Find lists the folders at or below paths that hold a case.json, sorted within each path, without repetition. A path
// may also be a case.json itself. A path without any case is an error.
func Find(paths ...string) ([]string, error) {
	var folders []string
	seen := map[string]bool{}
	for _, path := range paths {
		found, err := findBelow(path)
		if err != nil {
			return nil, fmt.Errorf("find cases: %w", err)
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("find cases in %s: no %s at or below it", path, CaseFile)
		}
		for _, folder := range found {
			if key := filepath.Clean(folder); !seen[key] {
				seen[key] = true
				folders = append(folders, folder)
			}
		}
	}
	return folders, nil
}

func findBelow(path string) ([]string, error) {
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if !info.IsDir() {
		if filepath.Base(path) != CaseFile {
			return nil, fmt.Errorf("%s is not a folder and not a %s", path, CaseFile)
		}
		return []string{filepath.Dir(path)}, nil
	}
	var found []string
	// The separator at the end makes the walk follow path itself when it is a link to a folder.
	err := filepath.WalkDir(path+string(filepath.Separator), func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.IsDir() && d.Name() == CaseFile {
			found = append(found, filepath.Dir(p))
		}
		return nil
	})
	sort.Strings(found)
	return found, err
}

// Run judges every case at or below paths, in order, and hands each Row to emit as soon as its case is done. It
// returns the report over all rows. Trouble with one case is a failed row of that case, not an error of Run; an error
// means that there was nothing to run, or that ctx ended.
func Run(ctx context.Context, o Options, emit func(Row), paths ...string) (Report, error) {
	folders, err := Find(paths...)
	if err != nil {
		return Report{}, err
	}
	var report Report
	for _, folder := range folders {
		if err := ctx.Err(); err != nil {
			return report, err
		}
		for _, row := range RunCase(ctx, folder, o) {
			report.Rows = append(report.Rows, row)
			if emit != nil {
				emit(row)
			}
		}
	}
	return report, nil
}

// RunCase judges the case in one folder. It always gives at least one row.
func RunCase(ctx context.Context, folder string, o Options) []Row {
	c, err := Open(folder)
	if err != nil {
		return []Row{failedRow(folder, "", err)}
	}
	runner, ok := runners[c.Kind]
	if !ok {
		return []Row{failedRow(c.Name, c.Kind, fmt.Errorf("unknown kind %q; known kinds: %v", c.Kind, Kinds()))}
	}
	if o.Device == "" {
		o.Device = "cpu"
	}
	o.DType = c.effectiveDType(o.DType)
	outputs, err := guarded(ctx, runner, c, o)
	if err != nil {
		return []Row{failedRow(c.Name, c.Kind, err)}
	}
	return judge(c, outputs, o.DType)
}

// guarded turns a panic of a runner into an error, so that one broken case does not hide the others.
func guarded(ctx context.Context, run Runner, c *Case, o Options) (out *Outputs, err error) {
	defer func() {
		if p := recover(); p != nil {
			out, err = nil, fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	out, err = run(ctx, c, o)
	if err == nil && out == nil {
		err = fmt.Errorf("the runner of kind %s gave nothing", c.Kind)
	}
	return out, err
}

// Kinds lists the kinds that have a runner, sorted.
func Kinds() []string { return sortedKeys(runners) }
