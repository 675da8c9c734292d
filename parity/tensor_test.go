package parity

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTensorValues(t *testing.T) {
	for name, tc := range map[string]struct {
		tensor Tensor
		floats []float64
		ints   []int64 // nil for floats
	}{
		"F16":  {Tensor{"F16", []int{3}, []byte{0, 0x3c, 1, 0, 0, 0xfc}}, []float64{1, math.Ldexp(1, -24), math.Inf(-1)}, nil},
		"BF16": {Tensor{"BF16", []int{2}, []byte{0x80, 0x3f, 0x20, 0xc1}}, []float64{1, -10}, nil},
		"F32":  {float32Tensor([]int{1}, 1.5), []float64{1.5}, nil},
		"F64":  {Tensor{"F64", nil, []byte{0, 0, 0, 0, 0, 0, 0xf8, 0x3f}}, []float64{1.5}, nil},
		"I8":   {Tensor{"I8", []int{2}, []byte{0xff, 7}}, []float64{-1, 7}, []int64{-1, 7}},
		"U8":   {Tensor{"U8", []int{2}, []byte{0xff, 7}}, []float64{255, 7}, []int64{255, 7}},
		"BOOL": {Tensor{"BOOL", []int{2}, []byte{1, 0}}, []float64{1, 0}, []int64{1, 0}},
		"I16":  {Tensor{"I16", []int{1}, []byte{0xfe, 0xff}}, []float64{-2}, []int64{-2}},
		"U16":  {Tensor{"U16", []int{1}, []byte{0xfe, 0xff}}, []float64{65534}, []int64{65534}},
		"I32":  {Tensor{"I32", []int{1}, []byte{0xfe, 0xff, 0xff, 0xff}}, []float64{-2}, []int64{-2}},
		"U32":  {Tensor{"U32", []int{1}, []byte{0xfe, 0xff, 0xff, 0xff}}, []float64{4294967294}, []int64{4294967294}},
		"I64":  {Tensor{"I64", []int{1, 1}, []byte{0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}, []float64{-2}, []int64{-2}},
	} {
		floats, err := tc.tensor.Float64s()
		if diff := cmp.Diff(tc.floats, floats); err != nil || diff != "" {
			t.Errorf("%s: %v %s", name, err, diff)
		}
		narrow, err := tc.tensor.Float32s()
		if err != nil || narrow[0] != float32(tc.floats[0]) {
			t.Errorf("%s: float32 %v %v", name, narrow, err)
		}
		ints, err := tc.tensor.Int64s()
		if diff := cmp.Diff(tc.ints, ints); (err != nil) != (tc.ints == nil) || diff != "" {
			t.Errorf("%s: integers %v %s", name, err, diff)
		}
	}
	if _, err := (Tensor{"C64", []int{1}, make([]byte, 8)}).Float64s(); err == nil {
		t.Error("complex numbers are taken for floats")
	}
}

func TestOpenReadsInputs(t *testing.T) {
	folder := writeCase(t, t.TempDir(), `{"kind":"probe","model":"../elsewhere"}`, map[string]Tensor{"y": float32Tensor(nil, 1)})
	in := NewOutputs()
	in.Int32("b", []int{2}, []int32{3, 4})
	in.Float64("a", []int{1}, []float64{5})
	if err := os.WriteFile(filepath.Join(folder, "inputs.safetensors"), encodeTensors(t, in.tensors), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "b"}, c.Inputs()); diff != "" || !c.HasInput("a") || c.HasInput("c") || c.model == "" {
		t.Error(diff)
	}
	b, err := c.Input("b")
	if err != nil {
		t.Fatal(err)
	}
	if ints, err := b.Ints(); err != nil || !cmp.Equal(ints, []int{3, 4}) {
		t.Errorf("%v %v", ints, err)
	}
	if diff := cmp.Diff([]string{"y"}, sortedKeys(c.expected)); diff != "" {
		t.Error(diff)
	}
}

func TestDamagedTensorsAreRefused(t *testing.T) {
	folder := writeCase(t, t.TempDir(), `{"kind":"probe"}`, map[string]Tensor{"y": float32Tensor([]int{4}, 1, 2, 3, 4)})
	path := filepath.Join(folder, "expected.safetensors")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{4, 20, len(data) - 1} {
		if err := os.WriteFile(path, data[:n], 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(folder); err == nil || !strings.Contains(err.Error(), "expected.safetensors") {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
}
