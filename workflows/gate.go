package workflows

import (
	"go.temporal.io/sdk/workflow"

	"github.com/sciflux/sciflux/run"
)

// gate holds a workflow back between two activities while it is paused.
type gate struct {
	state *run.State // its status and reason are kept
	held  bool
}

// listen follows the pause and resume signals of the parent.
func (g *gate) listen(ctx workflow.Context) {
	pause, resume := workflow.GetSignalChannel(ctx, signalPause), workflow.GetSignalChannel(ctx, signalResume)
	workflow.Go(ctx, func(ctx workflow.Context) {
		for {
			s := workflow.NewSelector(ctx)
			s.AddReceive(pause, func(c workflow.ReceiveChannel, _ bool) {
				var reason string
				c.Receive(ctx, &reason)
				g.pause(reason)
			})
			s.AddReceive(resume, func(c workflow.ReceiveChannel, _ bool) {
				c.Receive(ctx, nil)
				g.resume()
			})
			s.Select(ctx)
		}
	})
}

func (g *gate) pause(reason string) {
	g.held, g.state.Status, g.state.Reason = true, run.StatusPaused, reason
}

func (g *gate) resume() {
	if g.held {
		g.held, g.state.Status, g.state.Reason = false, run.StatusRunning, ""
	}
}

// wait returns when the gate is open, or with the cancellation.
func (g *gate) wait(ctx workflow.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return workflow.Await(ctx, func() bool { return !g.held })
}
