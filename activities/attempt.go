package activities

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/sciflux/sciflux/run"
)

// pulse bounds the time between two looks at an attempt. The SDK sends at most one heartbeat per 80 % of the heartbeat
// timeout, whatever the pulse.
const (
	longestPulse  = time.Second
	shortestPulse = 10 * time.Millisecond
)

// attempt runs one attempt of an activity: heartbeats while it works, a request to leave when the worker stops or the run
// is cancelled, classified errors, panics as errors.
func attempt[T any](ctx context.Context, a *Activities, op string, work func(context.Context, Monitor) (T, error)) (T, error) {
	stageCtx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	m := &monitor{stopping: make(chan struct{}), last: time.Now(), sink: a.Sink}
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() { m.watch(ctx, a.Limits, cancel, done) })
	result, err := guarded(stageCtx, op, m, work)
	close(done)
	watching.Wait()
	if err != nil {
		var zero T
		return zero, toTemporal(ctx, stageCtx, op, err)
	}
	return result, nil
}

// guarded turns a panic of the stage into an error with its stack, so that it is classified like any other.
func guarded[T any](ctx context.Context, op string, m Monitor, work func(context.Context, Monitor) (T, error)) (result T, err error) {
	defer func() {
		if p := recover(); p != nil {
			activity.GetLogger(ctx).Error("stage panicked", "op", op, "panic", p, "stack", string(debug.Stack()))
			err = run.Errorf(run.ClassInternal, op, "", "the log holds the stack; please report it", "panic: %v", p)
		}
	}()
	return work(ctx, m)
}

// monitor is the Monitor of one attempt.
type monitor struct {
	mu       sync.Mutex
	progress run.Progress
	reported bool
	last     time.Time // of the last sign of life
	stopping chan struct{}
	sink     func(run.Progress)
}

// Report keeps the newest progress for the next heartbeat.
func (m *monitor) Report(p run.Progress) {
	now := time.Now()
	if p.At.IsZero() {
		p.At = now
	}
	m.mu.Lock()
	m.progress, m.reported, m.last = p, true, now
	m.mu.Unlock()
	if m.sink != nil {
		m.sink(p)
	}
}

// Alive puts off the time at which the attempt is taken for hung.
func (m *monitor) Alive() {
	m.mu.Lock()
	m.last = time.Now()
	m.mu.Unlock()
}

// Stopping is closed when the stage should leave.
func (m *monitor) Stopping() <-chan struct{} { return m.stopping }

func (m *monitor) newest() (p run.Progress, reported bool, silent time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.progress, m.reported, time.Since(m.last)
}

// errHang cancels a stage that reports nothing any more.
var errHang = errors.New("no step finished in time")

// watch sends heartbeats until done. It asks the stage to leave when the worker stops or the activity's context ends,
// and cancels the stage's context when it then takes longer than the grace. When the stage reports nothing for too long
// the heartbeats stop and its context is cancelled: if it does not even leave then, the server gives the activity to
// another worker after the heartbeat timeout.
func (m *monitor) watch(ctx context.Context, limits Limits, cancel context.CancelCauseFunc, done <-chan struct{}) {
	pulse := time.NewTicker(pulseFor(activity.GetInfo(ctx).HeartbeatTimeout))
	defer pulse.Stop()
	stop, ended := activity.GetWorkerStopChannel(ctx), ctx.Done()
	var grace <-chan time.Time
	leave := func() {
		if grace == nil {
			close(m.stopping)
			grace = time.After(limits.StopGrace)
		}
	}
	for {
		select {
		case <-done:
			return
		case <-stop:
			stop = nil
			leave()
		case <-ended:
			ended = nil
			leave()
		case <-grace:
			cancel(fmt.Errorf("stage did not leave in %v", limits.StopGrace))
			return
		case <-pulse.C:
			p, reported, silent := m.newest()
			if limits.HangAfter > 0 && silent > limits.HangAfter {
				cancel(errHang)
				return
			}
			if reported {
				activity.RecordHeartbeat(ctx, p)
			} else {
				activity.RecordHeartbeat(ctx)
			}
		}
	}
}

// pulseFor gives several pulses in a heartbeat timeout.
func pulseFor(timeout time.Duration) time.Duration {
	if timeout <= 0 {
		return longestPulse
	}
	return min(max(timeout/8, shortestPulse), longestPulse)
}
