package cpu

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// spins is how often an idle worker looks for a new job before it sleeps: some tens of microseconds, longer than the gaps
// between the kernels of one step, too short to matter to anybody else on the machine.
const spins = 40_000

// team runs the tasks of one job at a time on the calling goroutine and size−1 others. Which goroutine runs a task is left
// to chance, so tasks must not depend on it.
type team struct {
	size    int
	busy    sync.Mutex
	current atomic.Pointer[job]
	asleep  atomic.Int32
	wake    chan struct{}
}

type job struct {
	run     func(task int)
	tasks   int64
	next    atomic.Int64
	done    atomic.Int64
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

// do runs run(0) … run(tasks−1) and returns when all have returned. When the team is busy with another caller's job, the
// caller does its own alone. When a task panics, do does so too once no task is at work.
func (t *team) do(tasks int, run func(task int)) {
	if tasks <= 1 || t.size == 1 || !t.busy.TryLock() {
		for i := range tasks {
			run(i)
		}
		return
	}
	defer t.busy.Unlock()
	j := &job{run: run, tasks: int64(tasks), over: make(chan struct{}, 1)}
	t.current.Store(j)
	for range min(int(t.asleep.Load()), tasks-1) {
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
	j.work()
	j.wait()
	if p := j.failure.Load(); p != nil {
		panic(*p)
	}
}

// work takes tasks until none is left.
func (j *job) work() {
	for {
		i := j.next.Add(1) - 1
		if i >= j.tasks {
			return
		}
		j.one(int(i))
		if j.done.Add(1) == j.tasks && j.waiting.Load() {
			j.over <- struct{}{}
		}
	}
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
	var last *job
	for {
		j := t.await(last)
		j.work()
		last = j
	}
}

// await returns the first job other than last, sleeping when none comes soon.
func (t *team) await(last *job) *job {
	for i := range spins {
		if j := t.current.Load(); j != last {
			return j
		}
		if i%4096 == 4095 {
			runtime.Gosched()
		}
	}
	t.asleep.Add(1)
	defer t.asleep.Add(-1)
	for {
		if j := t.current.Load(); j != last {
			return j
		}
		<-t.wake
	}
}
