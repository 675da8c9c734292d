package parity

import (
	"context"
	"encoding/json"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// goldenRoot holds the cases of the repository.
var goldenRoot = filepath.Join("..", "testdata", "golden")

// goldenCases opens every case of the repository.
func goldenCases(t *testing.T) (cases []*Case) {
	folders, err := Find(goldenRoot)
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range folders {
		c, err := Open(folder)
		if err != nil {
			t.Fatal(err)
		}
		cases = append(cases, c)
	}
	return cases
}

// eachCase runs every case of the repository right once.
func eachCase(t *testing.T, test func(t *testing.T, c *Case, right *Outputs, o Options)) {
	for _, c := range goldenCases(t) {
		name, err := filepath.Rel(goldenRoot, c.Folder)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			o := Options{Device: "cpu", DType: Float32}
			right, err := guarded(context.Background(), runners[c.Kind], c, o)
			if err != nil {
				t.Fatal(err)
			}
			test(t, c, right, o)
		})
	}
}

// failed counts the rows that are not right.
func failed(rows []Row) (n int) {
	for _, r := range rows {
		if !r.OK {
			n++
		}
	}
	return n
}

// TestEveryCaseCanFail: each expected tensor of each case, with its largest number moved a little beyond the tolerance, is
// a failure of that output and of no other. A case that cannot fail proves nothing.
func TestEveryCaseCanFail(t *testing.T) {
	eachCase(t, func(t *testing.T, c *Case, right *Outputs, _ Options) {
		expected := c.expected
		for name, tensor := range expected {
			if tensor.Len() == 0 {
				continue
			}
			c.expected = maps.Clone(expected)
			c.expected[name] = moved(t, tensor, c.toleranceFor(name, Float32))
			if n := failed(judge(c, right, Float32)); n != 1 {
				t.Errorf("%s moved: %d outputs fail, want this one", name, n)
			}
		}
		c.expected = expected
		for name := range c.values {
			values := c.values
			c.values = maps.Clone(values)
			c.values[name] = json.RawMessage(`["something else"]`)
			if n := failed(judge(c, right, Float32)); n != 1 {
				t.Errorf("value %s changed: %d outputs fail, want this one", name, n)
			}
			c.values = values
		}
	})
}

// moved is the tensor with its largest number changed by twice the tolerance and at least a little, or another integer.
func moved(t *testing.T, x Tensor, tolerance float64) Tensor {
	t.Helper()
	out := NewOutputs()
	if !x.isFloat() {
		v, err := x.Int64s()
		if err != nil {
			t.Fatal(err)
		}
		v[len(v)/2] ^= 1
		out.Int64("x", x.Shape, v)
		return out.tensors["x"]
	}
	v, err := x.Float64s()
	if err != nil {
		t.Fatal(err)
	}
	at, top := 0, 0.0
	for i, f := range v {
		if a := math.Abs(f); a > top && !math.IsInf(a, 0) {
			at, top = i, a
		}
	}
	v[at] -= math.Copysign(max(2.5*tolerance*top, 2.5*tolerance, 1e-300), v[at])
	if tolerance == 0 {
		v[at] += 1
	}
	out.Float64("x", x.Shape, v)
	return out.tensors["x"]
}

// cheap skips what takes more than a moment to run many times over.
func cheap(c *Case) bool {
	return !slices.Contains([]string{"generate", "prompt_encode", "vae", "sciscore", "t5_encoder", "clip_text", "oft_step", "sft_step", "stage2_step"}, c.Kind)
}

// TestUnknownArgumentsAreRefused: an option that the runner does not have is an error of every kind, never ignored.
func TestUnknownArgumentsAreRefused(t *testing.T) {
	seen := map[string]bool{}
	eachCase(t, func(t *testing.T, c *Case, _ *Outputs, o Options) {
		if seen[c.Kind] {
			return
		}
		seen[c.Kind] = true
		args := map[string]json.RawMessage{}
		if len(c.args) > 0 {
			if err := json.Unmarshal(c.args, &args); err != nil {
				t.Fatal(err)
			}
		}
		args["no_such_option"] = json.RawMessage("1")
		text, err := json.Marshal(args)
		if err != nil {
			t.Fatal(err)
		}
		c.args = text
		if _, err := guarded(context.Background(), runners[c.Kind], c, o); err == nil || !strings.Contains(err.Error(), "no_such_option") {
			t.Errorf("kind %s: error %v", c.Kind, err)
		}
	})
}

// TestMissingAndMisshapenInputs: a case without one of its inputs, or with one that is a number short, is an error or a failed
// output, never a case that passes.
func TestMissingAndMisshapenInputs(t *testing.T) {
	seen := map[string]bool{}
	eachCase(t, func(t *testing.T, c *Case, _ *Outputs, o Options) {
		if seen[c.Kind] || !cheap(c) {
			return
		}
		seen[c.Kind] = true
		inputs := c.inputs
		try := func(what, name string) {
			out, err := guarded(context.Background(), runners[c.Kind], c, o)
			if err == nil && failed(judge(c, out, Float32)) == 0 {
				t.Errorf("kind %s, %s %s: the case passes", c.Kind, what, name)
			}
		}
		for _, name := range sortedKeys(inputs) {
			c.inputs = maps.Clone(inputs)
			delete(c.inputs, name)
			try("without", name)
			if x := inputs[name]; len(x.Shape) > 0 && x.Len() > 0 {
				c.inputs = maps.Clone(inputs)
				c.inputs[name] = shorter(x)
				try("one less in the last axis of", name)
			}
		}
		c.inputs = inputs
	})
}

// shorter is the tensor without the last number of its last axis, the others moved together.
func shorter(x Tensor) Tensor {
	last := len(x.Shape) - 1
	shape := slices.Clone(x.Shape)
	shape[last]--
	y := Tensor{DType: x.DType, Shape: shape}
	y.Data = x.Data[:y.Len()*elementSize[x.DType]]
	return y
}
