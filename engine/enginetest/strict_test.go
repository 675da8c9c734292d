package enginetest_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/enginetest"
	"github.com/sciflux/sciflux/engine/reference"
)

// refusal is what a call panics with, "" for nothing.
func refusal(call func()) (why string) {
	defer func() {
		if p := recover(); p != nil {
			why = fmt.Sprint(p)
		}
	}()
	call()
	return ""
}

// TestStrictRefuses: each kind of wrong operand is refused by the name of kernel and operand.
func TestStrictRefuses(t *testing.T) {
	be := enginetest.Strict(reference.New())
	fresh := func() *engine.Tensor { return be.Alloc(4, 6) }
	foreign := func() *engine.Tensor { return engine.Wrap(make([]float32, 24), 4, 6) }
	gone := fresh()
	be.Free(gone)
	all := func(t *engine.Tensor) engine.View { return engine.All(t) }
	x := fresh()
	a := &engine.Attention{Layout: engine.Layout{B: 2, T: 2}, Heads: 1, Dim: 6, Scale: 1, Cos: foreign(), Sin: fresh()}
	for says, call := range map[string]func(){
		"Add: b, 4×6 of a tensor [4 6], was not allocated":    func() { be.Add(all(fresh()), all(fresh()), all(foreign())) },
		"Zero: dst, 4×6 of a tensor [4 6], was not allocated": func() { be.Zero(all(foreign())) },
		"Copy: src, 4×6 of a tensor [4 6], was freed":         func() { be.Copy(all(fresh()), all(gone)) },
		"Attend: cos":                         func() { be.Attend(all(fresh()), all(x), all(x), all(x), a) },
		"Update: g":                           func() { be.Update(fresh(), fresh(), fresh(), foreign(), 1, engine.AdamW{}) },
		"Upload: dst":                         func() { be.Upload(foreign(), make([]float32, 24)) },
		"Download: src":                       func() { be.Download(make([]float32, 24), gone) },
		"reaches outside":                     func() { be.Zero(engine.View{T: x, Offset: 1, Rows: 4, Cols: 6, Stride: 6}) },
		"Copy: output dst overlaps src":       func() { be.Copy(all(x).RowRange(0, 3), all(x).RowRange(1, 3)) },
		"Mul: output y overlaps a":            func() { be.Mul(all(x).ColRange(0, 3), all(x).ColRange(2, 3), all(x).ColRange(3, 3)) },
		"Update: output m overlaps v":         func() { be.Update(fresh(), x, x, fresh(), 1, engine.AdamW{}) },
		"Activate: output y overlaps x":       func() { be.Activate(all(x), all(x), engine.SiLU) },
		"part [6] of a tensor [4 6] is freed": func() { be.Free(engine.Slice(x, 0, 6)) },
		"a tensor [4 6] is freed twice":       func() { be.Free(gone) },
		"Linear: x, 2×3 of a tensor [6], was no": func() {
			be.Linear(engine.View{T: x, Rows: 2, Cols: 2, Stride: 2}, engine.View{T: engine.Wrap(make([]float32, 6), 6), Rows: 2, Cols: 3,
				Stride: 3}, nil, nil, 0)
		},
	} {
		if why := refusal(call); !strings.Contains(why, says) {
			t.Errorf("refused with %q, want %q", why, says)
		}
	}
	for name, call := range map[string]func(){
		"in place":          func() { be.Add(all(x), all(x), all(fresh())) },
		"halves beside":     func() { be.Copy(all(x).ColRange(0, 3), all(x).ColRange(3, 3)) },
		"gate in place":     func() { be.GateAdd(all(x), all(x), all(fresh()), all(fresh()), 1) },
		"a slice":           func() { be.Zero(all(engine.Slice(x, 6, 2, 6))) },
		"nothing":           func() { be.Zero(engine.View{}) },
		"free of another's": func() { be.Free(foreign()) },
		"weights from files": func() {
			be.Linear(all(fresh()), all(x), &engine.Weight{Out: 6, In: 6, Stride: 6, F32: make([]float32, 36)}, make([]float32, 6), 0)
		},
	} {
		if why := refusal(call); why != "" {
			t.Errorf("%s is refused: %s", name, why)
		}
	}
}

// TestStrictGuardsEveryKernel: every method of the contract that takes a tensor or view is guarded; one that is added and
// forgotten here would run on anything.
func TestStrictGuardsEveryKernel(t *testing.T) {
	be := enginetest.Strict(reference.New())
	contract := reflect.TypeFor[engine.Backend]()
	foreign := engine.Wrap(make([]float32, 36), 1, 1, 6, 6)
	operands := map[reflect.Type]reflect.Value{
		reflect.TypeFor[engine.View]():       reflect.ValueOf(engine.View{T: foreign, Rows: 6, Cols: 6, Stride: 6}),
		reflect.TypeFor[*engine.Tensor]():    reflect.ValueOf(foreign),
		reflect.TypeFor[*engine.Attention](): reflect.ValueOf(&engine.Attention{}),
	}
	for i := range contract.NumMethod() {
		m := contract.Method(i)
		var args []reflect.Value
		guarded := false
		for j := range m.Type.NumIn() {
			in := m.Type.In(j)
			arg, ok := operands[in]
			if !ok {
				arg = reflect.Zero(in)
			}
			guarded = guarded || ok
			args = append(args, arg)
		}
		if !guarded || m.Name == "Free" {
			continue
		}
		if why := refusal(func() { reflect.ValueOf(be).MethodByName(m.Name).Call(args) }); !strings.Contains(why, "strict: "+m.Name) {
			t.Errorf("%s of tensors of another backend: %q", m.Name, why)
		}
	}
}
