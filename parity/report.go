package parity

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Number is a float64 that may be infinite or NaN in JSON, written as a string there.
type Number float64

// MarshalJSON writes finite numbers as numbers and the others as "inf", "-inf" or "nan".
func (n Number) MarshalJSON() ([]byte, error) {
	v := float64(n)
	switch {
	case math.IsNaN(v):
		return []byte(`"nan"`), nil
	case math.IsInf(v, 1):
		return []byte(`"inf"`), nil
	case math.IsInf(v, -1):
		return []byte(`"-inf"`), nil
	}
	return strconv.AppendFloat(nil, v, 'g', -1, 64), nil
}

// Row is the verdict on one output of one case. Output is empty when the case failed before it gave any.
type Row struct {
	Case      string `json:"case"`
	Kind      string `json:"kind,omitempty"`
	Output    string `json:"output"`
	Error     Number `json:"error"`     // relative for floats, places that differ for integers, "inf" for no usable output
	Tolerance Number `json:"tolerance"` // largest error that passes
	OK        bool   `json:"ok"`
	Detail    string `json:"detail,omitempty"` // what is wrong, empty when OK
}

func failedRow(name, kind string, err error) Row {
	row := Row{Case: name, Kind: kind}
	row.fail("%v", err)
	return row
}

// String is the row as one line of text: case, output, error, tolerance, verdict and what is wrong.
func (r Row) String() string {
	verdict := "ok"
	if !r.OK {
		verdict = "FAILED"
	}
	output := r.Output
	if output == "" {
		output = "-"
	}
	line := fmt.Sprintf("%-48s %-24s %10.3g %10.3g  %s", r.Case, output, float64(r.Error), float64(r.Tolerance), verdict)
	if r.Detail != "" {
		line += "  " + strings.ReplaceAll(r.Detail, "\n", "\n    ")
	}
	return line
}

// Report is every row of a run, in order.
type Report struct {
	Rows []Row
}

// Failed counts the rows that are not ok.
func (r Report) Failed() int {
	n := 0
	for _, row := range r.Rows {
		if !row.OK {
			n++
		}
	}
	return n
}

// OK tells whether there are rows and all of them are ok.
func (r Report) OK() bool { return len(r.Rows) > 0 && r.Failed() == 0 }

// Summary is one sentence on the whole run.
func (r Report) Summary() string {
	cases := map[string]bool{}
	for _, row := range r.Rows {
		cases[row.Case] = true
	}
	return fmt.Sprintf("%d cases, %d outputs, %d failed", len(cases), len(r.Rows), r.Failed())
}
