package cpu

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
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

// gather is a job whose tasks wait until want of them are at work at once, or for so long that they never will be.
func gather(t *team, tasks, want int) (most int) {
	var mu sync.Mutex
	inside, met := 0, make(chan struct{})
	t.do(tasks, func(int) {
		mu.Lock()
		inside++
		most = max(most, inside)
		if inside == want {
			select {
			case <-met:
			default:
				close(met)
			}
		}
		mu.Unlock()
		select {
		case <-met:
		case <-time.After(10 * time.Second):
		}
		mu.Lock()
		inside--
		mu.Unlock()
	})
	return most
}

// TestCallersShareTheCores: of two callers who come at the same time neither works alone while the other has the whole
// team, and a caller who is the only one has it all.
func TestCallersShareTheCores(t *testing.T) {
	for range 5 {
		team := newTeam(4)
		if n := gather(team, 8, 4); n != 4 {
			t.Fatalf("%d tasks at work at once for one caller of a team of 4", n)
		}
		first, second := make(chan struct{}), make(chan struct{})
		var wait sync.WaitGroup
		join := func(mine, other chan struct{}) func(int) {
			return func(task int) {
				if task == 0 { // both jobs are under way before either goes on
					close(mine)
					<-other
				}
			}
		}
		for _, c := range [][2]chan struct{}{{first, second}, {second, first}} {
			wait.Go(func() {
				team.do(3, join(c[0], c[1]))
				if n := gather(team, 6, 2); n < 2 {
					t.Errorf("%d task at work at once for one of two callers of a team of 4", n)
				}
			})
		}
		wait.Wait()
	}
}

// TestWorkersLeaveCoresToCallers: a worker goes where the fewest are, begins nothing when callers and workers are as many
// as the team, and stops after its task when another caller comes.
func TestWorkersLeaveCoresToCallers(t *testing.T) {
	team := &team{size: 3}
	ran := 0
	crowded := &job{tasks: 100, run: func(int) { ran++ }}
	crowded.workers.Store(1)
	quiet := &job{tasks: 100, run: func(task int) {
		if ran++; task == 5 {
			team.callers.Store(3)
		}
	}}
	team.jobs[1].Store(crowded)
	team.jobs[4].Store(quiet)
	for _, c := range []struct {
		callers, helping int32
		want             *job
	}{{1, 0, quiet}, {2, 0, quiet}, {1, 2, nil}, {2, 1, nil}, {3, 0, nil}} {
		team.callers.Store(c.callers)
		team.helping.Store(c.helping)
		if got := team.pick(); got != c.want {
			t.Errorf("%d callers, %d workers: picks %p, want %p", c.callers, c.helping, got, c.want)
		}
	}
	team.help(quiet)
	if ran != 0 {
		t.Errorf("%d tasks begun beside three callers", ran)
	}
	team.callers.Store(2)
	if team.help(quiet); ran != 6 || quiet.workers.Load() != 0 || team.helping.Load() != 0 {
		t.Errorf("%d tasks run by a worker whom a third caller sends away after the sixth", ran)
	}
	quiet.next.Store(100)
	team.callers.Store(1)
	if got := team.pick(); got != crowded {
		t.Error("a job without tasks is picked")
	}
}

// TestMoreCallersThanPlaces: those that workers cannot be told of work alone.
func TestMoreCallersThanPlaces(t *testing.T) {
	team := newTeam(2)
	var wait sync.WaitGroup
	for c := range 3 * len(team.jobs) {
		wait.Go(func() {
			r := make(ran, 100)
			team.do(100, func(i int) {
				time.Sleep(10 * time.Microsecond)
				r.task(i)
			})
			r.check(t, fmt.Sprint("caller ", c), 1)
		})
	}
	wait.Wait()
	for i := range team.jobs {
		if team.jobs[i].Load() != nil {
			t.Error("a job that is over is still offered")
		}
	}
	if team.callers.Load() != 0 {
		t.Errorf("%d callers after the last", team.callers.Load())
	}
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
