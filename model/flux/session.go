package flux

import (
	"context"
	"fmt"
	"strings"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/graph"
	"github.com/sciflux/sciflux/model/lora"
)

// SessionOptions choose how gradients are computed.
type SessionOptions struct {
	Memory  graph.Memory // how much of the forward pass is computed again
	Latents bool         // Backward gives the gradient of the latents, too
	Direct  bool         // repeat compiled programs without Gorgonia, to measure what it costs
}

// Session runs the sections of the forward pass as graphs with kept values, forwards and backwards. Sections that differ in
// their numbers only share one graph, built at first use. A Session serves one goroutine at a time.
type Session struct {
	model *Model
	SessionOptions
	sections []section
	graphs   map[graphKey]*graph.Graph
	pass     *pass // the forward pass that Backward belongs to
}

// graphKey is what makes sections share a graph.
type graphKey struct {
	kind   kind
	layout engine.Layout
	ranks  string // of the block's adapters
}

// pass is a forward pass that waits for its backward pass.
type pass struct {
	batch *Batch
	ad    *lora.Adapter
	cond  *engine.Tensor
	steps []step
	first int // the first step to be differentiated
}

// step is one section of a pass.
type step struct {
	section
	graph   *graph.Graph
	weights *engine.Binding
	stream  *engine.Tensor // that went in; nil for the embedders and when nothing needs it any more
	kept    *graph.Kept
}

// NewSession makes a session of the model.
func (m *Model) NewSession(o SessionOptions) *Session {
	return &Session{model: m, SessionOptions: o, sections: m.sections(), graphs: map[graphKey]*graph.Graph{}}
}

// Forward computes the velocity [B, N, out_channels], which the caller frees, and keeps what Backward needs of it. b and
// ad, which lies in memory of b's backend, must stay as they are until then. ad is nil for the base model. A second
// Forward forgets the first.
func (s *Session) Forward(ctx context.Context, b *Batch, ad *lora.Adapter) (*engine.Tensor, error) {
	s.Release()
	if err := checkTrainable(ad); err != nil {
		return nil, err
	}
	s.pass = &pass{batch: b, ad: ad}
	v, err := s.forward(ctx, s.pass)
	if err != nil {
		s.Release()
		return nil, err
	}
	v.Shape = []int{b.B, b.N, b.OutChannels}
	return v, nil
}

// checkTrainable refuses adapters whose gradient would have to flow through the conditioning vector.
func checkTrainable(ad *lora.Adapter) error {
	if ad == nil {
		return nil
	}
	for _, m := range ad.Modules {
		if strings.HasPrefix(m.Name, "time_text_embed.") {
			return fmt.Errorf("train adapter: %s lies before the conditioning vector, to which no gradient flows; "+
				"leave time_text_embed out of the targets", m.Name)
		}
	}
	return nil
}

// forward runs all sections. Only those from the first that is differentiated on keep values.
func (s *Session) forward(ctx context.Context, p *pass) (v *engine.Tensor, err error) {
	if err := s.plan(p); err != nil {
		return nil, err
	}
	if err := p.condition(); err != nil {
		return nil, err
	}
	for i := range p.steps {
		st := &p.steps[i]
		st.stream = v
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if v, st.kept, err = st.graph.Forward(p.fused(st), p.inputs(st), i >= p.first); err != nil {
			return nil, fmt.Errorf("forward of %s: %w", st.name, err)
		}
		if i < p.first {
			p.retire(st)
		}
	}
	return v, nil
}

// plan finds the graphs of the pass and where its backward pass will end.
func (s *Session) plan(p *pass) error {
	for _, sec := range s.sections {
		st := step{section: sec, weights: p.batch.binding(sec.prefix, s.model.adapters(sec.prefix, p.ad))}
		var err error
		if st.graph, err = s.graph(p.batch, st); err != nil {
			return fmt.Errorf("%s: %w", sec.name, err)
		}
		p.steps = append(p.steps, st)
	}
	for !s.Latents && p.first < len(p.steps) && len(p.steps[p.first].graph.Adapters()) == 0 {
		p.first++
	}
	return nil
}

// graph is the graph of a step, built at first use.
func (s *Session) graph(b *Batch, st step) (*graph.Graph, error) {
	key := graphKey{st.kind, b.Layout, s.model.blocks[st.prefix].ranks(st.weights.Adapters)}
	if g := s.graphs[key]; g != nil {
		return g, nil
	}
	write := func(o engine.Ops[graph.Value], in []graph.Value) graph.Value { return forward(o, st.kind, b.shape, in) }
	g, err := graph.Build(st.weights, s.declare(b.shape, st.kind), s.Memory, write)
	if err != nil {
		return nil, err
	}
	g.Direct = s.Direct
	s.graphs[key] = g
	return g, nil
}

// declare lists what a section reads, in the order of Batch.inputs.
func (s *Session) declare(sh shape, k kind) []graph.Input {
	if k == embedders {
		latents := graph.Input{Name: "latents", Rows: sh.B * sh.N, Cols: sh.InChannels, Grad: s.Latents}
		if sh.T == 0 {
			return []graph.Input{latents}
		}
		return []graph.Input{{Name: "text", Rows: sh.B * sh.T, Cols: sh.TextWidth}, latents}
	}
	stream := graph.Input{Name: "stream", Rows: sh.Rows(), Cols: sh.Width(), Grad: true}
	if k == output && sh.SingleBlocks > 0 {
		stream.Rows = sh.B * sh.N
	}
	return []graph.Input{stream, {Name: "cond", Rows: sh.B, Cols: sh.Width()}}
}

// condition computes silu(temb) at once: no gradient flows to it.
func (p *pass) condition() (err error) {
	e := engine.NewEager(p.batch.backend)
	defer func() {
		if r := recover(); r != nil {
			e.Release()
			err = fmt.Errorf("conditioning: %w", engine.Recovered(r))
		}
	}()
	p.cond = p.batch.condition(e, p.ad)
	return nil
}

func (p *pass) fused(st *step) engine.Fused {
	return engine.Fused{Backend: p.batch.backend, Binding: st.weights}
}

func (p *pass) inputs(st *step) []*engine.Tensor { return p.batch.inputs(st.kind, st.stream, p.cond) }

// retire frees the stream that went into a step.
func (p *pass) retire(st *step) {
	if st.stream != nil {
		p.batch.backend.Free(st.stream)
		st.stream = nil
	}
}

// Backward adds the gradients of the adapter's numbers to grads, for the gradient dv [B, N, out_channels] of the velocity
// that Forward gave. grads is nil for the base model. With SessionOptions.Latents the result is the gradient of the
// latents [B, N, in_channels], which the caller frees; without it is nil, and only as much is computed as the adapters
// need. Each Forward serves one Backward. Sums are made in one order whatever the options.
func (s *Session) Backward(ctx context.Context, dv *engine.Tensor, grads *lora.Gradients) (*engine.Tensor, error) {
	p := s.pass
	if p == nil {
		return nil, fmt.Errorf("backward: no forward pass waits for it; call Forward first")
	}
	defer s.Release()
	b := p.batch
	if dv == nil || dv.Len() != b.B*b.N*b.OutChannels {
		return nil, fmt.Errorf("backward: gradient of shape %v, want [%d %d %d]", dims(dv), b.B, b.N, b.OutChannels)
	}
	if grads != nil && (p.ad == nil || !grads.Adapter().Same(p.ad)) {
		return nil, fmt.Errorf("backward: the gradients belong to another adapter than the forward pass")
	}
	d, err := s.backward(ctx, p, dv, grads)
	if err != nil || !s.Latents {
		return nil, err
	}
	d.Shape = []int{b.B, b.N, b.InChannels}
	return d, nil
}

// backward walks from the output to the first step that is differentiated; d is the gradient of the stream between.
func (s *Session) backward(ctx context.Context, p *pass, dv *engine.Tensor, grads *lora.Gradients) (d *engine.Tensor, err error) {
	d = dv
	for i := len(p.steps) - 1; i >= p.first; i-- {
		st := &p.steps[i]
		next, err := s.back(ctx, p, st, d, grads, i > p.first || s.Latents)
		if d != dv {
			p.batch.backend.Free(d)
		}
		if err != nil {
			return nil, err
		}
		p.retire(st)
		d = next
	}
	return d, nil
}

// back adds a step's gradients to grads and gives the gradient of its stream, or of the latents, when that is wanted.
func (s *Session) back(ctx context.Context, p *pass, st *step, d *engine.Tensor, grads *lora.Gradients, wanted bool) (
	*engine.Tensor, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var sums map[string]*engine.LowRank
	if len(st.graph.Adapters()) > 0 {
		if grads == nil {
			return nil, fmt.Errorf("backward of %s: its adapters need gradients to add to", st.name)
		}
		sums = s.model.blocks[st.prefix].lowRanks(grads.Group)
	}
	ds, err := st.graph.Backward(p.fused(st), p.inputs(st), st.kept, d, sums, wanted)
	if err != nil {
		return nil, fmt.Errorf("backward of %s: %w", st.name, err)
	}
	if !wanted {
		return nil, nil
	}
	return ds[0], nil
}

// Release forgets a forward pass that will have no backward pass, and frees what it kept.
func (s *Session) Release() {
	p := s.pass
	if p == nil {
		return
	}
	s.pass = nil
	for i := range p.steps {
		if st := &p.steps[i]; st.kept != nil {
			st.kept.Free()
		}
		p.retire(&p.steps[i])
	}
	if p.cond != nil {
		p.batch.backend.Free(p.cond)
	}
}
