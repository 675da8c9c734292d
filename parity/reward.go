package parity

import (
	"context"
	"fmt"

	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/reward"
)

func runMaskBox(_ context.Context, c *Case, _ Options) (*Outputs, error) {
	var args struct {
		Form flow.Form `json:"form"`
	}
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	if args.Form != flow.Paper && args.Form != flow.Corrected {
		return nil, fmt.Errorf("form %q: paper or corrected wanted", args.Form)
	}
	t, err := c.Input("boxes")
	if err != nil {
		return nil, err
	}
	if len(t.Shape) != 2 || t.Shape[1] != 4 {
		return nil, fmt.Errorf("case %s: input boxes has shape %v, want [n, 4]", c.Name, t.Shape)
	}
	boxes, err := c.numbers("boxes", t.Shape...)
	if err != nil {
		return nil, err
	}
	var found []flow.Box
	for v := boxes; len(v) >= 4; v = v[4:] {
		found = append(found, flow.Box{CX: v[0], CY: v[1], W: v[2], H: v[3]})
	}
	box := reward.MaskBox(args.Form, found)
	out := NewOutputs()
	out.Float32("box", []int{4}, []float32{box.CX, box.CY, box.W, box.H})
	return out, nil
}
