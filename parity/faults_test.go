package parity

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// fault is one thing wrong with a case.
type fault struct {
	what  string
	spoil func(c *Case)
	must  bool   // it must not pass
	names string // what the error must mention, if there is one
}

// costly kinds run a network for a moment or more; they get the faults of one case and of fewer options.
func costly(kind string) bool {
	return slices.Contains([]string{"generate", "prompt_encode", "vae", "sciscore", "t5_encoder", "clip_text", "oft_step", "sft_step", "flux_lora", "flux_transformer", "lora_merge", "rollout", "rollout_window", "stage2_step"}, kind)
}

// optional inputs change what is computed and may be absent; a case without them fails on its outputs.
var optional = []string{"boxes", "guidance", "noise"}

// inputFaults are every input missing, of another dtype, of other shapes, and with a NaN.
func inputFaults(c *Case) (out []fault) {
	inputs := c.inputs
	put := func(name string, x Tensor) func(c *Case) {
		return func(c *Case) { c.inputs = maps.Clone(inputs); c.inputs[name] = x }
	}
	for _, name := range sortedKeys(inputs) {
		x := inputs[name]
		names := name
		if slices.Contains(optional, name[strings.LastIndex(name, ".")+1:]) || strings.HasPrefix(name, "adapter.") || strings.HasPrefix(name, "reference.") || strings.HasPrefix(name, "old.") {
			names = ""
		}
		out = append(out, fault{"without " + name, func(c *Case) { c.inputs = maps.Clone(inputs); delete(c.inputs, name) }, true, names})
		out = append(out, fault{name + " as integers", put(name, asIntegers(x)), false, ""}, fault{name + " as C64", put(name, asComplex(x)), true, ""})
		for axis := range x.Shape {
			out = append(out, fault{fmt.Sprintf("%s one less in axis %d", name, axis), put(name, cutAxis(x, axis, x.Shape[axis]-1)), false, ""},
				fault{fmt.Sprintf("%s with no axis %d", name, axis), put(name, cutAxis(x, axis, 0)), false, ""})
		}
		out = append(out, fault{name + " flat", put(name, Tensor{x.DType, []int{x.Len()}, x.Data}), false, ""},
			fault{name + " with an axis more", put(name, Tensor{x.DType, append([]int{1}, x.Shape...), x.Data}), false, ""},
			fault{name + " as a scalar", put(name, Tensor{x.DType, nil, x.Data[:min(len(x.Data), elementSize[x.DType])]}), false, ""})
		if x.isFloat() && x.Len() > 0 {
			out = append(out, fault{name + " with NaN", put(name, withNaN(x)), false, ""})
		}
	}
	return out
}

// cutAxis keeps the first n places of an axis.
func cutAxis(x Tensor, axis, n int) Tensor {
	n = max(n, 0)
	shape := slices.Clone(x.Shape)
	shape[axis] = n
	inner := elementSize[x.DType]
	for _, d := range x.Shape[axis+1:] {
		inner *= d
	}
	y := Tensor{DType: x.DType, Shape: shape}
	for at := 0; at < len(x.Data) && inner > 0; at += inner * x.Shape[axis] {
		y.Data = append(y.Data, x.Data[at:at+inner*n]...)
	}
	return y
}

func asIntegers(x Tensor) Tensor {
	o := NewOutputs()
	v := make([]int64, x.Len())
	o.Int64("x", x.Shape, v)
	if !x.isFloat() {
		o.Float32("x", x.Shape, make([]float32, x.Len()))
	}
	return o.tensors["x"]
}

func asComplex(x Tensor) Tensor { return Tensor{"C64", x.Shape, make([]byte, 8*x.Len())} }

func withNaN(x Tensor) Tensor {
	v, err := x.Float32s()
	if err != nil {
		panic(err)
	}
	v[len(v)/2] = float32(math.NaN())
	o := NewOutputs()
	o.Float32("x", x.Shape, v)
	return o.tensors["x"]
}

// argFaults are every option missing, and of values and types that it cannot have, nested ones too.
func argFaults(c *Case, few bool) (out []fault) {
	args := map[string]any{}
	if len(c.args) > 0 && json.Unmarshal(c.args, &args) != nil {
		return nil
	}
	values := []any{nil, -1, 0, "", "no such thing", []any{}, map[string]any{}, 0.5}
	if few {
		values = []any{-1, "no such thing", []any{}}
	}
	with := func(path []string, value any, drop bool) func(c *Case) {
		return func(c *Case) { c.args = mustJSON(changed(args, path, value, drop)) }
	}
	var walk func(path []string, at map[string]any)
	walk = func(path []string, at map[string]any) {
		for _, name := range sortedKeys(at) {
			here := append(slices.Clone(path), name)
			label := strings.Join(here, ".")
			out = append(out, fault{"without " + label, with(here, nil, true), false, ""})
			for _, v := range values {
				out = append(out, fault{fmt.Sprintf("%s = %s", label, mustJSON(v)), with(here, v, false), false, ""})
			}
			if inner, ok := at[name].(map[string]any); ok && !few {
				walk(here, inner)
			}
		}
	}
	walk(nil, args)
	for _, text := range []string{`[]`, `"x"`, `7`} {
		out = append(out, fault{"args = " + text, func(c *Case) { c.args = json.RawMessage(text) }, true, "args"})
	}
	return out
}

// changed is a copy of args with one value replaced or left out.
func changed(args map[string]any, path []string, value any, drop bool) map[string]any {
	args = maps.Clone(args)
	if len(path) > 1 {
		args[path[0]] = changed(args[path[0]].(map[string]any), path[1:], value, drop)
	} else if drop {
		delete(args, path[0])
	} else {
		args[path[0]] = value
	}
	return args
}

func mustJSON(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}

// modelFaults are a model that is not named, not there, and of another kind.
func modelFaults(c *Case) []fault {
	if c.model == "" {
		return nil
	}
	return []fault{
		{"no model", func(c *Case) { c.model = "" }, true, "names no model"},
		{"absent model", func(c *Case) { c.model = "no_such_model" }, true, "no_such_model"},
		{"a file for a model", func(c *Case) { c.model = CaseFile }, c.Kind != "bad_file", ""},
	}
}

// TestFaultsAreErrors: whatever is wrong with a case of any kind, the runner says so or gives wrong numbers; it never panics,
// and what cannot be right never passes.
func TestFaultsAreErrors(t *testing.T) {
	seen := map[string]int{}
	tried := 0
	for _, c := range goldenCases(t) {
		seen[c.Kind]++
		if n := seen[c.Kind]; costly(c.Kind) && n > 1 || n > 3 {
			continue
		}
		t.Run(filepath.Base(c.Folder), func(t *testing.T) {
			faults := append(append(modelFaults(c), inputFaults(c)...), argFaults(c, costly(c.Kind))...)
			for _, f := range thinned(c.Kind, faults) {
				tried++
				spoilt := *c
				f.spoil(&spoilt)
				report(t, &spoilt, f, Options{Device: "cpu", DType: Float32})
			}
		})
	}
	if tried < 1000 {
		t.Errorf("only %d faults were tried", tried)
	}
}

// thinned keeps every fault of a cheap kind; of a costly one the inputs of further steps, pairs and layers repeat the first, and
// what may be right would run the whole network.
func thinned(kind string, faults []fault) []fault {
	if !costly(kind) {
		return faults
	}
	return slices.DeleteFunc(faults, func(f fault) bool {
		for _, more := range []string{"step1", "step2", "micro1", "pair1", "pair2", "pair3", "group1", "adapter.", "reference.", "old.", "as integers", "with NaN"} {
			if strings.Contains(f.what, more) {
				return true
			}
		}
		for _, number := range []string{"guidance", "s_churn", "beta", "eps", "alpha", "rank", "eta", "kl"} { // any number is allowed
			if f.what == "without "+number || strings.HasPrefix(f.what, number+" = -") {
				return true
			}
		}
		return false
	})
}

func report(t *testing.T, c *Case, f fault, o Options) {
	t.Helper()
	out, err := guarded(context.Background(), runners[c.Kind], c, o)
	switch {
	case err == nil:
		if f.must && failed(judge(c, out, Float32)) == 0 {
			t.Errorf("%s: the case passes", f.what)
		}
	case strings.HasPrefix(err.Error(), "panic: "):
		t.Errorf("%s: %s", f.what, firstLines(err.Error()))
	case f.names != "" && !strings.Contains(err.Error(), f.names):
		t.Errorf("%s: the error does not name %s: %v", f.what, f.names, err)
	}
}

// firstLines is the message of a panic and the place of this program where it happened.
func firstLines(text string) string {
	lines := strings.Split(text, "\n")
	out := lines[0]
	for i, l := range lines {
		if strings.HasPrefix(l, "github.com/sciflux/sciflux/") && i+1 < len(lines) && !strings.Contains(l, "guarded") {
			return out + " in " + strings.TrimSpace(lines[i+1])
		}
	}
	return out
}
