package parity

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func floatTensor(dtype string, values ...float64) Tensor {
	o := NewOutputs()
	switch dtype {
	case "F64":
		o.Float64("x", []int{len(values)}, values)
	default:
		o.Float32("x", []int{len(values)}, narrow(values))
	}
	return o.tensors["x"]
}

// TestNumbersThatAreNone: NaN is right only where NaN is expected, an infinity only where that very infinity is; such places
// count neither for the error nor for the scale.
func TestNumbersThatAreNone(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for name, tc := range map[string]struct {
		ours, expected []float64
		want           float64
		ok             bool
		detail         string
	}{
		"the same NaN":        {[]float64{nan, 3}, []float64{nan, 4}, 0.25, true, ""},
		"only NaN":            {[]float64{nan}, []float64{nan}, 0, true, ""},
		"a number for NaN":    {[]float64{1, 4}, []float64{nan, 4}, inf, false, "not finite at [0]: 1, expected NaN"},
		"infinity for NaN":    {[]float64{inf}, []float64{nan}, inf, false, "not finite at [0]: +Inf, expected NaN"},
		"the other infinity":  {[]float64{-inf}, []float64{inf}, inf, false, "not finite at [0]: -Inf, expected +Inf"},
		"NaN last":            {[]float64{1, 2, nan}, []float64{1, 2, 3}, inf, false, "not finite at [2]: NaN, expected 3"},
		"signed zeros":        {[]float64{math.Copysign(0, -1)}, []float64{0}, 0, true, ""},
		"largest numbers":     {[]float64{-math.MaxFloat64}, []float64{math.MaxFloat64}, inf, false, "not finite at [0]"},
		"scale from the rest": {[]float64{inf, 1}, []float64{inf, 2}, 0.5, false, "largest difference at [1]: 1, expected 2"},
	} {
		row := Row{Tolerance: 0.3}
		row.compareTensor(floatTensor("F64", tc.ours...), floatTensor("F64", tc.expected...), false)
		if float64(row.Error) != tc.want || row.OK != tc.ok || !strings.HasPrefix(row.Detail, tc.detail) || row.OK != (row.Detail == "") {
			t.Errorf("%s: error %v ok %v %q", name, row.Error, row.OK, row.Detail)
		}
	}
}

// TestTypesThatAreCompared: what is expected decides the rule. Floats may come in any type, integers must be integers of any
// width, and an exact output its very type.
func TestTypesThatAreCompared(t *testing.T) {
	small := map[string]Tensor{
		"F64": floatTensor("F64", 1), "F32": floatTensor("F32", 1), "F16": {"F16", []int{1}, []byte{0, 0x3c}}, "BF16": {"BF16", []int{1}, []byte{0x80, 0x3f}},
		"I64": {"I64", []int{1}, []byte{1, 0, 0, 0, 0, 0, 0, 0}}, "I32": {"I32", []int{1}, []byte{1, 0, 0, 0}}, "I8": {"I8", []int{1}, []byte{1}}, "U8": {"U8", []int{1}, []byte{1}},
		"BOOL": {"BOOL", []int{1}, []byte{1}}, "U16": {"U16", []int{1}, []byte{1, 0}}, "U64": {"U64", []int{1}, []byte{1, 0, 0, 0, 0, 0, 0, 0}},
	}
	for _, wanted := range sortedKeys(small) {
		for _, given := range sortedKeys(small) {
			var row, exact Row
			row.compareTensor(small[given], small[wanted], false)
			exact.compareTensor(small[given], small[wanted], true)
			if want := small[wanted].isFloat() || !small[given].isFloat(); row.OK != want {
				t.Errorf("%s given for %s: ok %v %s", given, wanted, row.OK, row.Detail)
			}
			if exact.OK != (given == wanted) {
				t.Errorf("%s given for an exact %s: ok %v", given, wanted, exact.OK)
			}
		}
		var row Row
		row.compareTensor(Tensor{"C64", []int{1}, make([]byte, 8)}, small[wanted], false)
		if row.OK || !strings.Contains(row.Detail, "C64") {
			t.Errorf("complex given for %s: ok %v %s", wanted, row.OK, row.Detail)
		}
		row = Row{}
		row.compareTensor(small[wanted], Tensor{"C64", []int{1}, make([]byte, 8)}, false)
		if row.OK || row.Detail == "" {
			t.Errorf("%s given for complex: ok %v", wanted, row.OK)
		}
	}
}

// TestIntegersIgnoreTolerance: one wrong place among many is a failure under any tolerance, and the error counts places.
func TestIntegersIgnoreTolerance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 30).Draw(t, "n")
		a := rapid.SliceOfN(rapid.Int64(), n, n).Draw(t, "values")
		b := append([]int64(nil), a...)
		differ := 0
		for i := range b {
			if rapid.IntRange(0, 4).Draw(t, "change") == 0 {
				b[i]++
				differ++
			}
		}
		ours, expected := NewOutputs(), NewOutputs()
		ours.Int64("x", []int{n}, a)
		expected.Int64("x", []int{n}, b)
		row := Row{Tolerance: 1e9}
		row.compareTensor(ours.tensors["x"], expected.tensors["x"], false)
		if int(row.Error) != differ || row.OK != (differ == 0) || row.Tolerance != 0 {
			t.Fatalf("%+v, %d places differ", row, differ)
		}
	})
}

// TestShapesMustBeEqual: the same numbers in another arrangement are another tensor, scalars and empty tensors included; and
// bytes that do not make the shape are no tensor at all.
func TestShapesMustBeEqual(t *testing.T) {
	x := floatTensor("F32", 1, 2, 3, 4, 5, 6)
	for _, shape := range [][]int{{6}, {2, 3}, {3, 2}, {1, 6}, {6, 1}, {1, 2, 3}} {
		for _, other := range [][]int{{6}, {2, 3}, {3, 2}, {1, 6}, {6, 1}, {1, 2, 3}} {
			var row Row
			row.compareTensor(Tensor{"F32", shape, x.Data}, Tensor{"F32", other, x.Data}, false)
			if same := cmp.Equal(shape, other); row.OK != same || !same && row.Detail != fmt.Sprintf("shape %v, expected %v", shape, other) {
				t.Errorf("%v given for %v: %+v", shape, other, row)
			}
		}
	}
	one := floatTensor("F32", 1)
	for name, ours := range map[string]Tensor{
		"a list for a scalar": one, "no bytes": {"F32", nil, nil}, "too many bytes": {"F32", nil, make([]byte, 8)}, "no such type": {"F7", nil, make([]byte, 4)},
	} {
		var row Row
		row.compareTensor(ours, Tensor{"F32", nil, one.Data}, false)
		if row.OK || !math.IsInf(float64(row.Error), 1) {
			t.Errorf("%s: %+v", name, row)
		}
	}
	var row Row
	row.compareTensor(Tensor{"F32", []int{0, 4}, nil}, Tensor{"F32", []int{0, 4}, nil}, false)
	if !row.OK {
		t.Errorf("two empty tensors: %+v", row)
	}
}

// TestPlaces: a flat index and its coordinates name the same element.
func TestPlaces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shape := rapid.SliceOfN(rapid.IntRange(1, 5), 1, 4).Draw(t, "shape")
		n := 1
		for _, d := range shape {
			n *= d
		}
		flat := rapid.IntRange(0, n-1).Draw(t, "flat")
		back := 0
		for i, at := range place(flat, shape) {
			if at < 0 || at >= shape[i] {
				t.Fatalf("%v outside %v", place(flat, shape), shape)
			}
			back = back*shape[i] + at
		}
		if back != flat {
			t.Fatalf("%d of %v is at %v", flat, shape, place(flat, shape))
		}
	})
}

// TestTolerancesByCase: the limits of a case.json decide, for each output by its name, else by "*", else nothing may differ; and
// those of bfloat16 only in that arithmetic.
func TestTolerancesByCase(t *testing.T) {
	withRunner(t, "off", func(_ context.Context, _ *Case, o Options) (*Outputs, error) {
		out := NewOutputs()
		by := map[string]float32{Float32: 1.001, BFloat16: 1.1}[o.DType]
		out.Float32("a", []int{1}, []float32{by})
		out.Float32("b", []int{1}, []float32{by})
		return out, nil
	})
	expected := map[string]Tensor{"a": floatTensor("F32", 1), "b": floatTensor("F32", 1)}
	for name, tc := range map[string]struct {
		text, dtype string
		ok          []bool
	}{
		"one for all":        {`"tolerance":{"*":0.01}`, Float32, []bool{true, true}},
		"by name":            {`"tolerance":{"a":0.01}`, Float32, []bool{true, false}},
		"name before star":   {`"tolerance":{"*":0.01,"b":0}`, Float32, []bool{true, false}},
		"none":               {`"about":"no tolerance"`, Float32, []bool{false, false}},
		"negative":           {`"tolerance":{"*":-1}`, Float32, []bool{false, false}},
		"bfloat16":           {`"tolerance":{"*":0.01},"tolerance_bfloat16":{"a":0.2}`, BFloat16, []bool{true, false}},
		"bfloat16 star":      {`"tolerance":{"*":0},"tolerance_bfloat16":{"*":0.2}`, BFloat16, []bool{true, true}},
		"float32 as ever":    {`"tolerance":{"*":0.01},"tolerance_bfloat16":{"*":0}`, Float32, []bool{true, true}},
		"no bfloat16 limits": {`"tolerance":{"*":0.01}`, BFloat16, []bool{true, true}},
	} {
		rows := RunCase(context.Background(), writeCase(t, filepath.Join(t.TempDir(), "c"), `{"kind":"off",`+tc.text+`}`, expected), Options{DType: tc.dtype})
		if len(rows) != 2 || rows[0].OK != tc.ok[0] || rows[1].OK != tc.ok[1] || rows[0].Output != "a" {
			t.Errorf("%s: %v", name, rows)
		}
	}
}

// TestReportsAsJSON: a run writes one object a line with the promised names, that any reader of JSON takes, also where numbers are
// infinite; and its text has the verdict in words.
func TestReportsAsJSON(t *testing.T) {
	withRunner(t, "mixed", func(context.Context, *Case, Options) (*Outputs, error) {
		out := NewOutputs()
		out.Float32("good", nil, []float32{1})
		out.Float32("none", nil, []float32{float32(math.NaN())})
		return out, nil
	})
	root := t.TempDir()
	writeCase(t, filepath.Join(root, "a"), `{"kind":"mixed"}`, map[string]Tensor{"good": float32Tensor(nil, 1), "none": float32Tensor(nil, 1), "gone": float32Tensor(nil, 1)})
	writeCase(t, filepath.Join(root, "b"), `{"kind":`, nil)
	var lines, text bytes.Buffer
	enc := json.NewEncoder(&lines)
	report, err := Run(context.Background(), Options{}, func(r Row) {
		if err := enc.Encode(r); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&text, r)
	}, root)
	if err != nil {
		t.Fatal(err)
	}
	var got []map[string]any
	for _, line := range strings.Split(strings.TrimSpace(lines.String()), "\n") {
		var row map[string]any
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		row["case"] = filepath.Base(row["case"].(string))
		if detail, ok := row["detail"].(string); ok {
			row["detail"], _, _ = strings.Cut(detail, ":")
		}
		got = append(got, row)
	}
	broken := got[3]["detail"].(string)
	if !strings.HasPrefix(broken, "open case") {
		t.Errorf("the broken case says %q", broken)
	}
	delete(got[3], "detail")
	want := []map[string]any{
		{"case": "a", "kind": "mixed", "output": "gone", "error": "inf", "tolerance": 0.0, "ok": false, "detail": "the runner gave no such output"},
		{"case": "a", "kind": "mixed", "output": "good", "error": 0.0, "tolerance": 0.0, "ok": true},
		{"case": "a", "kind": "mixed", "output": "none", "error": "inf", "tolerance": 0.0, "ok": false, "detail": "not finite at []"},
		{"case": "b", "output": "", "error": "inf", "tolerance": 0.0, "ok": false},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if report.Summary() != "2 cases, 4 outputs, 3 failed" || report.OK() || (Report{}).OK() {
		t.Errorf("%s", report.Summary())
	}
	words := strings.Split(strings.TrimSpace(text.String()), "\n")
	if len(words) < 4 || strings.Count(text.String(), "FAILED") != 3 || !strings.HasSuffix(words[1], "  ok") || !strings.Contains(words[3], " - ") {
		t.Errorf("%s", text.String())
	}
}

// TestNumbersInJSON: finite numbers survive exactly; the others have names.
func TestNumbersInJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.Float64().Draw(t, "v")
		text, err := json.Marshal(Number(v))
		if err != nil {
			t.Fatal(err)
		}
		var back float64
		if err := json.Unmarshal(text, &back); err != nil || back != v {
			t.Fatalf("%v became %s", v, text)
		}
	})
	for v, want := range map[Number]string{Number(math.Inf(1)): `"inf"`, Number(math.Inf(-1)): `"-inf"`, 0: "0", 1e-300: "1e-300"} {
		if text, err := json.Marshal(v); err != nil || string(text) != want {
			t.Errorf("%v: %s %v", float64(v), text, err)
		}
	}
	if text, err := json.Marshal(Number(math.NaN())); err != nil || string(text) != `"nan"` {
		t.Errorf("%s %v", text, err)
	}
}

// TestNumbersByValue: two spellings of a number are the same value, near ones are not, however many digits they have.
func TestNumbersByValue(t *testing.T) {
	for _, pair := range [][2]string{{"1", "1.0"}, {"1e2", "100"}, {"-0", "0"}, {"0.1", "1e-1"}, {"12345678901234567890", "1.234567890123456789e19"}} {
		if !sameNumber(json.Number(pair[0]), json.Number(pair[1])) {
			t.Errorf("%s and %s differ", pair[0], pair[1])
		}
	}
	for _, pair := range [][2]string{{"1", "1.0000000000000002"}, {"0", "1e-300"}, {"12345678901234567890", "12345678901234567891"}, {"1", "x"}} {
		if sameNumber(json.Number(pair[0]), json.Number(pair[1])) {
			t.Errorf("%s and %s are the same", pair[0], pair[1])
		}
	}
}

// TestCasesAreFoundOnce: by folder, by file, below each other and through several paths; other files are no cases.
func TestCasesAreFoundOnce(t *testing.T) {
	root := t.TempDir()
	writeCase(t, root, `{}`, nil)
	writeCase(t, filepath.Join(root, "inner"), `{}`, nil)
	if err := os.Mkdir(filepath.Join(root, "case.json.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	found, err := Find(root, filepath.Join(root, "inner"), filepath.Join(root, "inner", CaseFile), root+"/./inner/")
	if err != nil || len(found) != 2 || filepath.Clean(found[0]) != root {
		t.Errorf("%v %v", found, err)
	}
	other := filepath.Join(root, "notes.txt")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Find(other); err == nil || !strings.Contains(err.Error(), "is not a folder and not a case.json") {
		t.Errorf("%v", err)
	}
	if _, err := Run(context.Background(), Options{}, nil, filepath.Join(root, "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// TestDevicesAreNamed: a device that this build does not compute on is an error of the case, with its name.
func TestDevicesAreNamed(t *testing.T) {
	golden := filepath.Join("..", "testdata", "golden", "rollout_euler_dev")
	rows := RunCase(context.Background(), golden, Options{Device: "abacus"})
	if len(rows) != 1 || rows[0].OK || !strings.Contains(rows[0].Detail, `device "abacus"`) {
		t.Errorf("%v", rows)
	}
	for _, device := range []string{"", "cpu"} {
		if _, err := (Options{Device: device}).Backend(); err != nil {
			t.Errorf("%q: %v", device, err)
		}
	}
}

// TestOutputsAreTensors: each recorder writes its type, shape and values; a later value of the same name replaces an earlier.
func TestOutputsAreTensors(t *testing.T) {
	o := NewOutputs()
	o.Float32("f", []int{2}, []float32{1.5, -2})
	o.Float64("d", []int{1, 1}, []float64{math.Pi})
	o.Int32("i", []int{2}, []int32{-1, math.MaxInt32})
	o.Int64("l", nil, []int64{math.MinInt64})
	o.Uint8("u", []int{3}, []byte{0, 7, 255})
	for name, want := range map[string][]float64{"f": {1.5, -2}, "d": {math.Pi}, "i": {-1, math.MaxInt32}, "l": {math.MinInt64}, "u": {0, 7, 255}} {
		x := o.tensors[name]
		got, err := x.Float64s()
		if diff := cmp.Diff(want, got); err != nil || diff != "" || x.Len() != len(want) || len(x.Data) != len(want)*elementSize[x.DType] {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
	o.Exact("f", Tensor{"BF16", nil, []byte{1, 2}})
	if o.tensors["f"].DType != "BF16" || !o.exact["f"] || o.exact["d"] {
		t.Errorf("%+v", o.tensors["f"])
	}
}
