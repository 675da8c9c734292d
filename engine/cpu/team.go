package cpu

import (
	"runtime"
	"sync/atomic"
)

// spins is how often an idle worker looks for a job before it sleeps: some tens of microseconds, longer than the gaps
// between the kernels of one step, too short to matter to anybody else on the machine.
const spins = 40_000

// team runs jobs on the goroutines of their callers and on workers, together never more than size at once for long. A
// caller always works on its own job; workers go to the job that has the fewest of them, so that callers who come at the
// same time share the cores evenly, and where as many callers as cores are at work, each is alone. Which goroutine runs a
// task is left to chance, so tasks must not depend on it.
type team struct {
	size    int
	jobs    [8]atomic.Pointer[job] // under way; callers beyond these work alone
	callers atomic.Int32
	helping atomic.Int32 // workers at a job
	asleep  atomic.Int32
	wake    chan struct{}
}

type job struct {
	run     func(task int)
	tasks   int64
	next    atomic.Int64
	done    atomic.Int64
	workers atomic.Int32 // beside the caller
	waiting atomic.Bool
	over    chan struct{}
	failure atomic.Pointer[any] // what the first task to panic panicked with
}

func newTeam(size int) *team {
	t := &team{size: size, wake: make(chan struct{}, size)}
	for range size - 1 {
		go t.serve()
	}
	return t
}

// do runs run(0) … run(tasks−1) and returns when all have returned. When a task panics, do does so too once no task is at
// work. Tasks should not start jobs on the team that runs them: nothing breaks, but they count as more callers.
func (t *team) do(tasks int, run func(task int)) {
	if tasks <= 1 || t.size == 1 {
		for i := range tasks {
			run(i)
		}
		return
	}
	j := &job{run: run, tasks: int64(tasks), over: make(chan struct{}, 1)}
	t.callers.Add(1)
	defer t.callers.Add(-1)
	if slot := t.offer(j); slot != nil {
		defer slot.Store(nil)
		t.rouse(tasks - 1)
	}
	for j.step() {
	}
	j.wait()
	if p := j.failure.Load(); p != nil {
		panic(*p)
	}
}

// offer puts a job where workers find it, nil when there are too many.
func (t *team) offer(j *job) *atomic.Pointer[job] {
	for i := range t.jobs {
		if t.jobs[i].CompareAndSwap(nil, j) {
			return &t.jobs[i]
		}
	}
	return nil
}

// rouse wakes up to n sleeping workers, as many as may help.
func (t *team) rouse(n int) {
	for range min(n, int(t.asleep.Load()), t.size-int(t.callers.Load()+t.helping.Load())) {
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
}

// step runs the next task and tells whether there was one.
func (j *job) step() bool {
	i := j.next.Add(1) - 1
	if i >= j.tasks {
		return false
	}
	j.one(int(i))
	if j.done.Add(1) == j.tasks && j.waiting.Load() {
		j.over <- struct{}{}
	}
	return true
}

// one runs a task. Its panic is kept for the caller of do, who may have an answer to it: on a goroutine of the team it
// would end the process.
func (j *job) one(task int) {
	defer func() {
		if p := recover(); p != nil {
			j.failure.CompareAndSwap(nil, &p)
		}
	}()
	j.run(task)
}

// wait returns when the tasks taken by others are done. The last one done sends a word if it sees somebody waiting; both
// sides write before they read, so one of them sees the other.
func (j *job) wait() {
	for range spins {
		if j.done.Load() == j.tasks {
			return
		}
	}
	j.waiting.Store(true)
	if j.done.Load() != j.tasks {
		<-j.over
	}
}

func (t *team) serve() {
	for {
		t.help(t.await())
	}
}

// help works on a job as long as it has tasks and the callers leave a core for it.
func (t *team) help(j *job) {
	j.workers.Add(1)
	if t.helping.Add(1)+t.callers.Load() <= int32(t.size) {
		for j.step() && t.helping.Load()+t.callers.Load() <= int32(t.size) {
		}
	}
	t.helping.Add(-1)
	j.workers.Add(-1)
}

// await returns a job to help with, sleeping when none comes soon.
func (t *team) await() *job {
	const look = 24 // going through the jobs takes as long as so many looks at whether there are callers
	for i, yield := 0, 4096; i < spins; i++ {
		if t.callers.Load() > 0 {
			if j := t.pick(); j != nil {
				return j
			}
			i += look
		}
		if i > yield {
			yield += 4096
			runtime.Gosched()
		}
	}
	t.asleep.Add(1)
	defer t.asleep.Add(-1)
	for {
		if j := t.pick(); j != nil {
			return j
		}
		<-t.wake
	}
}

// pick is the job with tasks left that has the fewest workers, nil when there is none or no core for it.
func (t *team) pick() (best *job) {
	if t.helping.Load()+t.callers.Load() >= int32(t.size) {
		return nil
	}
	for i := range t.jobs {
		if j := t.jobs[i].Load(); j != nil && j.next.Load() < j.tasks && (best == nil || j.workers.Load() < best.workers.Load()) {
			best = j
		}
	}
	return best
}
