package flux

import (
	"context"
	"fmt"
	"sort"
	"strings"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/graph"
	"github.com/sciflux/sciflux/model/lora"
)

// SessionOptions choose how gradients are computed.
type SessionOptions struct {
	Memory graph.Memory // how much of the forward pass is computed again
	Direct bool         // repeat compiled programs without Gorgonia, to measure what it costs
}

// Session computes velocities and their gradients through graphs: one graph per kind of block, shape and placement of
// adapters, built at first use and replayed for every block. It serves one goroutine at a time.
type Session struct {
	model   *Model
	backend engine.Backend
	SessionOptions
	graphs map[string]*graph.Graph
	pass   *pass // the forward pass that Backward belongs to
}

// NewSession makes a session on a backend.
func (m *Model) NewSession(b engine.Backend, o SessionOptions) *Session {
	return &Session{model: m, backend: b, SessionOptions: o, graphs: map[string]*graph.Graph{}}
}

// stage is one graph in the chain of a pass: the stem, a block or the head.
type stage struct {
	name    string
	prefix  string // of its layers
	binding *engine.Binding
	graph   *graph.Graph
	ins     []*engine.Tensor // the stream first, where the stage has one
	kept    *graph.Kept
}

// pass is a forward pass that waits for its backward pass.
type pass struct {
	call
	stages []*stage
	cond   *engine.Tensor
	owned  []*engine.Tensor // outputs of the stages but the last
	ad     *lora.Adapter
	free   func()
}

// Forward computes the velocity [B, N, out_channels], which the caller frees, and keeps what Backward needs. in and ad
// must stay as they are until then. ad is nil for the base model. A second Forward forgets the first.
func (s *Session) Forward(ctx context.Context, in *Input, ad *lora.Adapter) (*engine.Tensor, error) {
	s.Release()
	if err := checkTrainable(ad); err != nil {
		return nil, err
	}
	c, free, err := s.model.prepare(s.backend, in)
	if err != nil {
		return nil, err
	}
	p := &pass{call: *c, free: free, ad: ad}
	s.pass = p
	v, err := s.forward(ctx, p, in, ad)
	if err != nil {
		s.Release()
		return nil, err
	}
	v.Shape = []int{c.B, c.N, s.model.OutChannels}
	return v, nil
}

// checkTrainable refuses adapters whose gradient would have to flow through the conditioning vector.
func checkTrainable(ad *lora.Adapter) error {
	if ad == nil {
		return nil
	}
	for _, m := range ad.Modules {
		if strings.HasPrefix(m.Name, "time_text_embed.") {
			return fmt.Errorf("train adapter: %s lies before the conditioning vector, to which no gradient flows; leave time_text_embed out of the targets", m.Name)
		}
	}
	return nil
}

func (s *Session) forward(ctx context.Context, p *pass, in *Input, ad *lora.Adapter) (v *engine.Tensor, err error) {
	if p.cond, err = s.condition(p, in, ad); err != nil {
		return nil, err
	}
	if err := s.chain(p, in, ad); err != nil {
		return nil, err
	}
	for i, st := range p.stages {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if i > 0 {
			st.ins = append([]*engine.Tensor{v}, st.ins...)
		}
		if v, st.kept, err = st.graph.Forward(engine.Fused{Backend: s.backend, Binding: st.binding}, st.ins, true); err != nil {
			return nil, fmt.Errorf("forward of %s: %w", st.name, err)
		}
		if i < len(p.stages)-1 {
			p.owned = append(p.owned, v)
		}
	}
	return v, nil
}

// condition computes silu(temb) at once: no gradient flows to it.
func (s *Session) condition(p *pass, in *Input, ad *lora.Adapter) (cond *engine.Tensor, err error) {
	e := engine.NewEager(s.backend)
	defer func() {
		if r := recover(); r != nil {
			e.Release()
			cond, err = nil, fmt.Errorf("conditioning: %v", r)
		}
	}()
	e.Bind(s.model.binding(outside, &p.call, ad))
	cond = condition(e, p.shape, p.times, p.guidance, in.Pooled)
	e.Release(cond)
	return cond, nil
}

// design is how a stage is made: the kind names the text, of which there is one graph for equal shapes and adapters.
type design struct {
	kind, name, prefix string
	ins                []graph.Input
	values             []*engine.Tensor // of the inputs that are known beforehand, the last ones
	write              writer
}

// chain makes the stages of the pass.
func (s *Session) chain(p *pass, in *Input, ad *lora.Adapter) error {
	for _, d := range s.model.designs(p, in) {
		st := &stage{name: d.name, prefix: d.prefix, binding: s.model.binding(d.prefix, &p.call, ad), ins: d.values}
		var err error
		if st.graph, err = s.compiled(st.binding, p.Layout, d); err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
		p.stages = append(p.stages, st)
	}
	return nil
}

// designs lists the stages in the order of the forward pass.
func (m *Model) designs(p *pass, in *Input) []design {
	shape, width := p.shape, p.Width()
	cond := graph.Input{Name: "cond", Rows: p.B, Cols: width}
	stream := graph.Input{Name: "stream", Rows: p.Layout.Rows(), Cols: width, Grad: true}
	list := []design{m.stemDesign(p, in)}
	add := func(kind, prefix string, write writer) {
		list = append(list, design{kind, strings.TrimSuffix(prefix, "."), prefix, []graph.Input{stream, cond}, []*engine.Tensor{p.cond}, write})
	}
	for i := range m.DoubleBlocks {
		add("double", doubleName(i), func(o engine.Ops[graph.Value], in []graph.Value) graph.Value {
			return doubleBlock(o, shape, in[0], in[1])
		})
	}
	for i := range m.SingleBlocks {
		kind, last := "single", i == m.SingleBlocks-1
		if last {
			kind = "last single"
		}
		add(kind, singleName(i), func(o engine.Ops[graph.Value], in []graph.Value) graph.Value {
			return singleBlock(o, shape, in[0], in[1], last)
		})
	}
	if m.SingleBlocks > 0 {
		stream.Rows = p.B * p.N
	}
	add("head", outside, func(o engine.Ops[graph.Value], in []graph.Value) graph.Value { return head(o, shape, in[0], in[1]) })
	list[len(list)-1].name = "output layers"
	return list
}

func (m *Model) stemDesign(p *pass, in *Input) design {
	shape := p.shape
	d := design{kind: "stem", name: "embedders", prefix: outside}
	if p.T > 0 {
		d.ins, d.values = append(d.ins, graph.Input{Name: "text", Rows: p.B * p.T, Cols: m.TextWidth}), append(d.values, in.Text)
	}
	d.ins = append(d.ins, graph.Input{Name: "latents", Rows: p.B * p.N, Cols: m.InChannels, Grad: true})
	d.values = append(d.values, in.Latents)
	d.write = func(o engine.Ops[graph.Value], in []graph.Value) graph.Value {
		return stem(o, shape, in[0], in[len(in)-1])
	}
	return d
}

type writer = func(o engine.Ops[graph.Value], in []graph.Value) graph.Value

// compiled is the graph of a design for the adapters of a binding, built at first use.
func (s *Session) compiled(b *engine.Binding, l engine.Layout, d design) (*graph.Graph, error) {
	var adapters []string
	for name, low := range b.Adapters {
		adapters = append(adapters, fmt.Sprintf("%s%v", name, low.Ranks))
	}
	sort.Strings(adapters)
	key := fmt.Sprintf("%s %v %s", d.kind, l, strings.Join(adapters, " "))
	if g := s.graphs[key]; g != nil {
		return g, nil
	}
	g, err := graph.Build(b, d.ins, s.Memory, d.write)
	if err != nil {
		return nil, err
	}
	g.Direct = s.Direct
	s.graphs[key] = g
	return g, nil
}

// Backward adds the gradients of the adapter's numbers to grads, for the gradient dv [B, N, out_channels] of the velocity
// that Forward gave. grads is nil for the base model. With wantInput the result is the gradient of the latents
// [B, N, in_channels], which the caller frees; without, only as much is computed as the adapters need. Each Forward
// serves one Backward. Sums are made in one order whatever the options.
func (s *Session) Backward(ctx context.Context, dv *engine.Tensor, grads *lora.Gradients, wantInput bool) (*engine.Tensor, error) {
	p := s.pass
	if p == nil {
		return nil, fmt.Errorf("backward: no forward pass waits for it; call Forward first")
	}
	defer s.Release()
	if dv == nil || dv.Len() != p.B*p.N*s.model.OutChannels {
		return nil, fmt.Errorf("backward: gradient of shape %v, want [%d %d %d]", dims(dv), p.B, p.N, s.model.OutChannels)
	}
	if grads != nil && (p.ad == nil || !grads.Adapter().Same(p.ad)) {
		return nil, fmt.Errorf("backward: the gradients belong to another adapter than the forward pass")
	}
	d, err := s.backward(ctx, p, dv, grads, wantInput)
	if err != nil || !wantInput {
		return nil, err
	}
	d.Shape = []int{p.B, p.N, s.model.InChannels}
	return d, nil
}

func (s *Session) backward(ctx context.Context, p *pass, dv *engine.Tensor, grads *lora.Gradients, wantInput bool) (*engine.Tensor, error) {
	first := p.firstTrained()
	if wantInput {
		first = 0
	}
	d := dv
	drop := func() {
		if d != dv && d != nil {
			s.backend.Free(d)
		}
	}
	for i := len(p.stages) - 1; i >= first; i-- {
		if err := ctx.Err(); err != nil {
			drop()
			return nil, err
		}
		st := p.stages[i]
		sums, err := s.sums(st, grads)
		if err != nil {
			drop()
			return nil, err
		}
		dins, err := st.graph.Backward(engine.Fused{Backend: s.backend, Binding: st.binding}, st.ins, st.kept, d, sums, wantInput || i > first)
		drop()
		d = nil
		if err != nil {
			return nil, fmt.Errorf("backward of %s: %w", st.name, err)
		}
		p.retire(s.backend, i)
		if len(dins) > 0 {
			d = dins[0]
		}
	}
	if !wantInput {
		drop()
		return nil, nil
	}
	return d, nil
}

// firstTrained is the first stage that has an adapter, or the number of stages.
func (p *pass) firstTrained() int {
	for i, st := range p.stages {
		if len(st.graph.Adapters()) > 0 {
			return i
		}
	}
	return len(p.stages)
}

// sums are the places where the gradients of a stage's adapters are added.
func (s *Session) sums(st *stage, grads *lora.Gradients) (map[string]*engine.LowRank, error) {
	sums := map[string]*engine.LowRank{}
	if len(st.graph.Adapters()) == 0 {
		return sums, nil
	}
	if grads == nil {
		return nil, fmt.Errorf("backward of %s: its adapters need gradients to add to", st.name)
	}
	blk := s.model.blocks[st.prefix]
	for _, group := range blk.groups {
		if low := grads.Group(group); low != nil {
			sums[blk.local(group[0])] = low
		}
	}
	return sums, nil
}

// retire frees the stream that went into stage i.
func (p *pass) retire(b engine.Backend, i int) {
	if i > 0 && i-1 < len(p.owned) && p.owned[i-1] != nil {
		b.Free(p.owned[i-1])
		p.owned[i-1] = nil
	}
}

// Release forgets a forward pass that will have no backward pass, and frees what it kept.
func (s *Session) Release() {
	p := s.pass
	if p == nil {
		return
	}
	s.pass = nil
	for _, st := range p.stages {
		if st.kept != nil {
			st.kept.Free()
		}
	}
	for _, t := range p.owned {
		if t != nil {
			s.backend.Free(t)
		}
	}
	if p.cond != nil {
		s.backend.Free(p.cond)
	}
	p.free()
}
