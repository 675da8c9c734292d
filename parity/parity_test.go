package parity

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// writeCase makes a case folder of kind "probe" with the given expected tensors.
func writeCase(t *testing.T, folder, caseJSON string, expected map[string]Tensor) string {
	t.Helper()
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, CaseFile), []byte(caseJSON), 0o644); err != nil {
		t.Fatal(err)
	}
	if expected != nil {
		if err := os.WriteFile(filepath.Join(folder, "expected.safetensors"), encodeTensors(t, expected), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func encodeTensors(t *testing.T, tensors map[string]Tensor) []byte {
	t.Helper()
	header, body := map[string]any{}, []byte{}
	for _, name := range sortedKeys(tensors) {
		x := tensors[name]
		shape := x.Shape
		if shape == nil {
			shape = []int{}
		}
		header[name] = map[string]any{"dtype": x.DType, "shape": shape, "data_offsets": []int{len(body), len(body) + len(x.Data)}}
		body = append(body, x.Data...)
	}
	text, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	return append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...), body...)
}

func float32Tensor(shape []int, values ...float32) Tensor {
	o := NewOutputs()
	o.Float32("x", shape, values)
	return o.tensors["x"]
}

// withRunner puts a runner into the registry for one test.
func withRunner(t *testing.T, kind string, r Runner) {
	t.Helper()
	runners[kind] = r
	t.Cleanup(func() { delete(runners, kind) })
}

func TestErrorOfFloatTensors(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for name, tc := range map[string]struct {
		ours, expected []float32
		tolerance      float64
		want           float64
		ok             bool
	}{
		"equal":                  {[]float32{1, 2}, []float32{1, 2}, 0, 0, true},
		"scaled by the largest":  {[]float32{1, 4}, []float32{2, 8}, 0.5, 0.5, true},
		"just over":              {[]float32{1, 4}, []float32{2, 8}, 0.499, 0.5, false},
		"largest is negative":    {[]float32{-6, 0}, []float32{-8, 1}, 0.25, 0.25, true},
		"all expected zero":      {[]float32{0, -0.25}, []float32{0, 0}, 0.25, 0.25, true},
		"zero asked, not given":  {[]float32{0, 0.5}, []float32{0, 0}, 0.25, 0.5, false},
		"ours not finite":        {[]float32{nan, 8}, []float32{2, 8}, 1e9, math.Inf(1), false},
		"infinity instead":       {[]float32{inf, 8}, []float32{2, 8}, 1e9, math.Inf(1), false},
		"the same infinity":      {[]float32{inf, 6}, []float32{inf, 8}, 0.25, 0.25, true},
		"finite for an infinity": {[]float32{3, 8}, []float32{inf, 8}, 1e9, math.Inf(1), false},
		"empty":                  {nil, nil, 0, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			row := Row{Tolerance: Number(tc.tolerance)}
			row.compareTensor(float32Tensor([]int{len(tc.ours)}, tc.ours...), float32Tensor([]int{len(tc.expected)}, tc.expected...), false)
			if float64(row.Error) != tc.want || row.OK != tc.ok {
				t.Errorf("error %v ok %v, want %v %v", row.Error, row.OK, tc.want, tc.ok)
			}
		})
	}
}

// Scaling both sides does not change a relative error, and the error is what the definition says.
func TestErrorIsRelative(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 20).Draw(t, "n")
		values := rapid.SliceOfN(rapid.Float64Range(-1e3, 1e3), n, n)
		a, b := values.Draw(t, "ours"), values.Draw(t, "expected")
		scale := math.Ldexp(1, rapid.IntRange(-20, 20).Draw(t, "exponent"))
		errorOf := func(by float64) float64 {
			x, y := NewOutputs(), NewOutputs()
			sa, sb := make([]float64, n), make([]float64, n)
			for i := range a {
				sa[i], sb[i] = by*a[i], by*b[i]
			}
			x.Float64("v", []int{n}, sa)
			y.Float64("v", []int{n}, sb)
			var row Row
			row.compareTensor(x.tensors["v"], y.tensors["v"], false)
			return float64(row.Error)
		}
		var worst, largest float64
		for i := range a {
			worst, largest = max(worst, math.Abs(a[i]-b[i])), max(largest, math.Abs(b[i]))
		}
		if largest == 0 {
			t.Skip("nothing to be relative to")
		}
		if got := errorOf(1); got != worst/largest {
			t.Fatalf("error %v, want %v", got, worst/largest)
		}
		if got := errorOf(scale); got != worst/largest {
			t.Fatalf("scaled by %v the error is %v, want %v", scale, got, worst/largest)
		}
	})
}

func TestIntegersMustBeEqual(t *testing.T) {
	expected := NewOutputs()
	expected.Int32("ids", []int{2, 2}, []int32{1, -2, 3, 4})
	wide, off, floats, shape := NewOutputs(), NewOutputs(), NewOutputs(), NewOutputs()
	wide.Int64("ids", []int{2, 2}, []int64{1, -2, 3, 4})
	off.Int32("ids", []int{2, 2}, []int32{1, -2, 9, 5})
	floats.Float32("ids", []int{2, 2}, []float32{1, -2, 3, 4})
	shape.Int32("ids", []int{4}, []int32{1, -2, 3, 4})
	for name, tc := range map[string]struct {
		ours   *Outputs
		ok     bool
		detail string
	}{
		"another width":  {wide, true, ""},
		"two places off": {off, false, "2 of 4 places differ, first at [1 0]: 9, expected 3"},
		"floats":         {floats, false, "F32 given where integers are expected"},
		"another shape":  {shape, false, "shape [4], expected [2 2]"},
	} {
		row := Row{Tolerance: 100}
		row.compareTensor(tc.ours.tensors["ids"], expected.tensors["ids"], false)
		if row.OK != tc.ok || row.Detail != tc.detail {
			t.Errorf("%s: ok %v %q, want %v %q", name, row.OK, row.Detail, tc.ok, tc.detail)
		}
	}
}

func TestExactOutputs(t *testing.T) {
	stored := Tensor{DType: "BF16", Shape: []int{1}, Data: []byte{0xc0, 0x7f}} // a NaN
	for name, tc := range map[string]struct {
		ours Tensor
		ok   bool
	}{
		"same bytes":    {stored, true},
		"other bytes":   {Tensor{DType: "BF16", Shape: []int{1}, Data: []byte{0xc1, 0x7f}}, false},
		"other dtype":   {Tensor{DType: "F16", Shape: []int{1}, Data: stored.Data}, false},
		"too few bytes": {Tensor{DType: "BF16", Shape: []int{1}, Data: nil}, false},
	} {
		var row Row
		row.compareTensor(tc.ours, stored, true)
		if row.OK != tc.ok {
			t.Errorf("%s: ok %v, want %v (%s)", name, row.OK, tc.ok, row.Detail)
		}
	}
}

func TestValues(t *testing.T) {
	for name, tc := range map[string]struct {
		ours     any
		expected string
		where    string
	}{
		"number forms":    {map[string]any{"a": 1, "b": 0.5}, `{"b":5e-1,"a":1.0}`, ""},
		"text for number": {"1", `1`, `at "": "1", expected 1`},
		"nested":          {[]any{1, map[string][]int{"x": {1, 2}}}, `[1,{"x":[1,3]}]`, `at "[1].x[1]": 2, expected 3`},
		"length":          {[]int{1}, `[1,2]`, `at "": [1], expected [1,2]`},
		"missing key":     {map[string]int{"a": 1}, `{"a":1,"b":null}`, `at "": {"a":1}, expected {"a":1,"b":null}`},
		"null":            {nil, `null`, ""},
		"null for empty":  {[]int(nil), `[]`, `at "": null, expected []`},
		"large integers":  {int64(9007199254740993), `9007199254740992`, `at "": 9007199254740993, expected 9007199254740992`},
		"unicode":         {"é\u2028", `"é\u2028"`, ""},
	} {
		var row Row
		row.compareValue(tc.ours, json.RawMessage(tc.expected))
		if row.OK != (tc.where == "") || row.Detail != tc.where {
			t.Errorf("%s: ok %v %q, want %q", name, row.OK, row.Detail, tc.where)
		}
	}
}

func TestToleranceLookup(t *testing.T) {
	c := &Case{tolerance: map[string]float64{"a": 1, "*": 2}, toleranceBFloat16: map[string]float64{"b": 3}}
	for _, tc := range []struct {
		name, dtype string
		want        float64
	}{{"a", Float32, 1}, {"b", Float32, 2}, {"b", BFloat16, 3}, {"a", BFloat16, 1}, {"c", BFloat16, 2}} {
		if got := c.toleranceFor(tc.name, tc.dtype); got != tc.want {
			t.Errorf("%s in %s: %v, want %v", tc.name, tc.dtype, got, tc.want)
		}
	}
	if got := (&Case{tolerance: map[string]float64{"a": 1}}).toleranceFor("b", Float32); got != 0 {
		t.Errorf("an output that no entry covers gets %v, want 0", got)
	}
	if got := (&Case{}).effectiveDType(BFloat16); got != Float32 {
		t.Errorf("a case without bfloat16 tolerances is run in %s", got)
	}
	if got := c.effectiveDType(BFloat16); got != BFloat16 {
		t.Errorf("a case with bfloat16 tolerances is run in %s", got)
	}
}

func TestRunGivesOneRowPerOutput(t *testing.T) {
	root := t.TempDir()
	writeCase(t, filepath.Join(root, "b"), `{"kind":"probe","args":{"n":2},"expected":{"words":["x"]},"tolerance":{"*":0.1}}`,
		map[string]Tensor{"y": float32Tensor([]int{1}, 2), "x": float32Tensor(nil, 1)})
	writeCase(t, filepath.Join(root, "a", "deep"), `{"kind":"mystery","expected":{"v":1}}`, nil)
	withRunner(t, "probe", func(_ context.Context, c *Case, o Options) (*Outputs, error) {
		var args struct {
			N float32 `json:"n"`
		}
		if err := c.Args(&args); err != nil {
			return nil, err
		}
		out := NewOutputs()
		out.Float32("x", nil, []float32{1})
		out.Float32("extra", []int{1}, []float32{1})
		out.Value("words", []string{"x"})
		if o.Device != "cpu" || o.DType != Float32 || !c.Expects("y") || c.Expects("z") {
			return nil, errors.New("options or expectations are wrong")
		}
		return out, nil
	})
	var lines bytes.Buffer
	report, err := Run(context.Background(), Options{DType: BFloat16}, func(r Row) { lines.WriteString(r.String() + "\n") }, root)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, row := range report.Rows {
		got = append(got, strings.Join([]string{strings.TrimPrefix(row.Case, root+"/"), row.Output, map[bool]string{true: "ok", false: "no"}[row.OK]}, " "))
	}
	if diff := cmp.Diff([]string{"a/deep  no", "b x ok", "b y no", "b words ok"}, got); diff != "" {
		t.Error(diff)
	}
	if report.OK() || report.Failed() != 2 || report.Summary() != "2 cases, 4 outputs, 2 failed" {
		t.Errorf("report: %s", report.Summary())
	}
	if n := strings.Count(lines.String(), "FAILED"); n != 2 {
		t.Errorf("%d failed lines in\n%s", n, lines.String())
	}
}

func TestBrokenCasesAreFailedRows(t *testing.T) {
	withRunner(t, "panics", func(context.Context, *Case, Options) (*Outputs, error) { panic("boom") })
	withRunner(t, "nothing", func(context.Context, *Case, Options) (*Outputs, error) { return nil, nil })
	withRunner(t, "strict", func(_ context.Context, c *Case, _ Options) (*Outputs, error) {
		return NewOutputs(), c.Args(&struct{ A int }{})
	})
	withRunner(t, "files", func(_ context.Context, c *Case, _ Options) (*Outputs, error) {
		if _, err := c.Input("q"); err == nil || !strings.Contains(err.Error(), `"q"`) {
			return nil, errors.New("a missing input is no error")
		}
		_, err := c.ModelPath()
		return NewOutputs(), err
	})
	for name, tc := range map[string]struct{ text, want string }{
		"unknown kind":   {`{"kind":"x","expected":{"v":1}}`, `unknown kind "x"`},
		"panic":          {`{"kind":"panics","expected":{"v":1}}`, "boom"},
		"no outputs":     {`{"kind":"nothing","expected":{"v":1}}`, "gave nothing"},
		"unknown arg":    {`{"kind":"strict","args":{"b":1},"expected":{"v":1}}`, `unknown field "b"`},
		"missing model":  {`{"kind":"files","model":"m","expected":{"v":1}}`, "no such file"},
		"no model named": {`{"kind":"files","expected":{"v":1}}`, "names no model"},
		"bad json":       {`{"kind":`, "unexpected EOF"},
		"two values":     {`{"kind":"strict","expected":{"v":1}} {}`, "after the JSON value"},
		"unknown field":  {`{"kind":"strict","expectd":{}}`, "expectd"},
		"no kind":        {`{"expected":{"v":1}}`, "has no kind"},
		"no expectation": {`{"kind":"strict"}`, "no expected outputs"},
	} {
		rows := RunCase(context.Background(), writeCase(t, filepath.Join(t.TempDir(), "c"), tc.text, nil), Options{})
		if len(rows) != 1 || rows[0].OK || !strings.Contains(rows[0].Detail, tc.want) {
			t.Errorf("%s: %v, want %q", name, rows, tc.want)
		}
	}
}

func TestFind(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"z", "m/inner", "a"} {
		writeCase(t, filepath.Join(root, name), `{}`, nil)
	}
	found, err := Find(filepath.Join(root, "z", CaseFile), root)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range found {
		rel, _ := filepath.Rel(root, f)
		names = append(names, rel)
	}
	if diff := cmp.Diff([]string{"z", "a", "m/inner"}, names); diff != "" {
		t.Error(diff)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(root, link); err != nil {
		t.Skip(err)
	}
	if found, err := Find(link); err != nil || len(found) != 3 {
		t.Errorf("through a link: %v %v", found, err)
	}
	for _, bad := range []string{filepath.Join(root, "none"), t.TempDir()} {
		if found, err := Find(bad); err == nil {
			t.Errorf("%s: %v, want an error", bad, found)
		}
	}
}

func TestRunStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	folder := writeCase(t, t.TempDir(), `{"kind":"x","expected":{"v":1}}`, nil)
	if report, err := Run(ctx, Options{}, nil, folder); !errors.Is(err, context.Canceled) || len(report.Rows) != 0 {
		t.Errorf("%v, %v", report, err)
	}
}

func TestRowJSON(t *testing.T) {
	row := Row{Case: "c", Output: "o", Error: Number(math.Inf(1)), Tolerance: 1e-4, Detail: "why"}
	got, err := json.Marshal(row)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"case":"c","output":"o","error":"inf","tolerance":0.0001,"ok":false,"detail":"why"}`; string(got) != want {
		t.Errorf("%s want %s", got, want)
	}
}
