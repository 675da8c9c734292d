package cpu

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// ran counts how often each task ran.
type ran []atomic.Int32

func (r ran) task(i int) { r[i].Add(1) }

func (r ran) check(t *testing.T, what string, times int32) {
	t.Helper()
	for i := range r {
		if n := r[i].Load(); n != times {
			t.Errorf("%s: task %d ran %d times, want %d", what, i, n, times)
			return
		}
	}
}

var teamSizes = []int{1, 2, 3, 5, 8}

// TestEveryTaskRunsOnce for many numbers of tasks and workers, in quick succession so that sleeping, waking and spinning
// workers all take part.
func TestEveryTaskRunsOnce(t *testing.T) {
	for _, size := range teamSizes {
		team := newTeam(size)
		for _, tasks := range []int{0, 1, 2, 3, 5, 7, 8, 9, 31, 64, 1000} {
			r := make(ran, tasks)
			const rounds = 20
			for range rounds {
				team.do(tasks, r.task)
			}
			r.check(t, fmt.Sprintf("%d workers, %d tasks", size, tasks), rounds)
		}
	}
}

// TestNothingRunsAfterDo: when do returns, every task has returned too.
func TestNothingRunsAfterDo(t *testing.T) {
	team := newTeam(5)
	for range 200 {
		var inside atomic.Int32
		team.do(17, func(int) {
			inside.Add(1)
			defer inside.Add(-1)
			for range 100 {
				_ = inside.Load()
			}
		})
		if n := inside.Load(); n != 0 {
			t.Fatalf("%d tasks are still at work", n)
		}
	}
}

// TestJobsInsideJobs: a task that starts a job of its own on the same team does not wait for itself.
func TestJobsInsideJobs(t *testing.T) {
	for _, size := range teamSizes {
		team := newTeam(size)
		const outer, inner, innermost = 7, 11, 3
		r := make(ran, outer*inner*innermost)
		team.do(outer, func(i int) {
			team.do(inner, func(j int) {
				team.do(innermost, func(k int) { r.task((i*inner+j)*innermost + k) })
			})
		})
		r.check(t, fmt.Sprintf("%d workers, nested", size), 1)
	}
}

// TestCallersShareATeam: jobs of several callers at once do not mix.
func TestCallersShareATeam(t *testing.T) {
	team := newTeam(3)
	var wait sync.WaitGroup
	for c := range 6 {
		wait.Go(func() {
			for tasks := range 60 {
				r := make(ran, tasks)
				team.do(tasks, r.task)
				r.check(t, fmt.Sprintf("caller %d, %d tasks", c, tasks), 1)
			}
		})
	}
	wait.Wait()
}

// TestPanicOfATask reaches the caller, on whichever goroutine the task ran; the other tasks are not lost and the team
// works on.
func TestPanicOfATask(t *testing.T) {
	for _, size := range teamSizes {
		team := newTeam(size)
		for _, bad := range []int{0, 1, 5, 8} {
			what := fmt.Sprintf("%d workers, task %d panics", size, bad)
			func() {
				defer func() {
					if p := fmt.Sprint(recover()); !strings.Contains(p, "out of memory") {
						t.Errorf("%s: the caller sees %q", what, p)
					}
				}()
				team.do(9, func(task int) {
					if task == bad {
						panic("out of memory")
					}
				})
			}()
			r := make(ran, 9)
			team.do(9, r.task)
			r.check(t, what+", then a job", 1)
		}
	}
}

// TestPanicsOfAllTasks: one of them is what the caller sees.
func TestPanicsOfAllTasks(t *testing.T) {
	team := newTeam(3)
	defer func() {
		if p := fmt.Sprint(recover()); !strings.HasPrefix(p, "task ") {
			t.Errorf("the caller sees %q", p)
		}
	}()
	team.do(40, func(task int) { panic(fmt.Sprint("task ", task)) })
}

// TestTeamsAreShared: backends with equal thread counts use one team, so that several never crowd the machine.
func TestTeamsAreShared(t *testing.T) {
	three, again, two := teamOf(3), teamOf(3), teamOf(2)
	if three != again || three == two || two.size != 2 {
		t.Error("teams of equal size differ, or teams of different size are one")
	}
}

func TestThreadsOfOptions(t *testing.T) {
	if n, err := (Options{Threads: 5}).threads(); n != 5 || err != nil {
		t.Errorf("5 asked for: %d, %v", n, err)
	}
	if n, err := (Options{}).threads(); n < 1 || err != nil {
		t.Errorf("the default is %d, %v", n, err)
	}
	t.Setenv("SCIFLUX_ISA", "from the environment")
	if o := (Options{ISA: "asked"}); o.isa() != "asked" || (Options{}).isa() != "from the environment" {
		t.Errorf("the option is %q, the default %q", o.isa(), Options{}.isa())
	}
}

func TestDescriptions(t *testing.T) {
	d := Description{ISA: "avx2", GEMM: "own", Threads: 2}
	if got := d.String(); got != "avx2, 2 threads, gemm own" {
		t.Error(got)
	}
	d.OneDNN = "3.1.0"
	if got := d.String(); !strings.HasSuffix(got, "oneDNN 3.1.0 found") {
		t.Error(got)
	}
}
