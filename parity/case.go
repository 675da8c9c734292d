package parity

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
)

// CaseFile is the name of the file that makes a folder a case.
const CaseFile = "case.json"

// Case is one stored comparison, read from its folder.
type Case struct {
	Name   string // folder as it was found, the first column of a report
	Folder string // where the files that args name lie
	Kind   string // key of the registry
	About  string // one sentence on what the case is for

	model             string
	args              json.RawMessage
	values            map[string]json.RawMessage
	tolerance         map[string]float64
	toleranceBFloat16 map[string]float64

	inputs, expected map[string]Tensor
}

// caseJSON mirrors case.json.
type caseJSON struct {
	Kind              string                     `json:"kind"`
	About             string                     `json:"about"`
	Model             string                     `json:"model"`
	Args              json.RawMessage            `json:"args"`
	Expected          map[string]json.RawMessage `json:"expected"`
	Tolerance         map[string]float64         `json:"tolerance"`
	ToleranceBFloat16 map[string]float64         `json:"tolerance_bfloat16"`
}

// Open reads the case in folder: its case.json and, where they exist, inputs.safetensors and expected.safetensors.
func Open(folder string) (*Case, error) {
	data, err := os.ReadFile(filepath.Join(folder, CaseFile))
	if err != nil {
		return nil, fmt.Errorf("open case %s: %w", folder, err)
	}
	var file caseJSON
	if err := decodeStrict(data, &file); err != nil {
		return nil, fmt.Errorf("open case %s: %s: %w", folder, CaseFile, err)
	}
	if file.Kind == "" {
		return nil, fmt.Errorf("open case %s: %s has no kind", folder, CaseFile)
	}
	c := &Case{
		Name: filepath.Clean(folder), Folder: folder, Kind: file.Kind, About: file.About, model: file.Model, args: file.Args,
		values: file.Expected, tolerance: file.Tolerance, toleranceBFloat16: file.ToleranceBFloat16,
	}
	if c.inputs, err = readTensors(filepath.Join(folder, "inputs.safetensors")); err != nil {
		return nil, fmt.Errorf("open case %s: %w", folder, err)
	}
	if c.expected, err = readTensors(filepath.Join(folder, "expected.safetensors")); err != nil {
		return nil, fmt.Errorf("open case %s: %w", folder, err)
	}
	if len(c.expected)+len(c.values) == 0 {
		return nil, fmt.Errorf("open case %s: no expected outputs, neither expected.safetensors nor %q in %s", folder, "expected", CaseFile)
	}
	return c, nil
}

// Args decodes the case's arguments into the struct that into points to. An argument that the struct does not have is
// an error: it would be an option that the runner silently ignores.
func (c *Case) Args(into any) error {
	if len(c.args) == 0 {
		return nil
	}
	if err := decodeStrict(c.args, into); err != nil {
		return fmt.Errorf("args of %s: %w", c.Name, err)
	}
	return nil
}

// ModelPath is the folder or file of the case's model. It fails when the case names none or it is not there.
func (c *Case) ModelPath() (string, error) {
	if c.model == "" {
		return "", fmt.Errorf("case %s: names no model, kind %s needs one", c.Name, c.Kind)
	}
	path := c.File(c.model)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("case %s: model: %w", c.Name, err)
	}
	return path, nil
}

// File is the path of a file of the case, given relative to its folder.
func (c *Case) File(name string) string { return filepath.Join(c.Folder, filepath.FromSlash(name)) }

// Input returns an input tensor by name.
func (c *Case) Input(name string) (Tensor, error) {
	t, ok := c.inputs[name]
	if !ok {
		return Tensor{}, fmt.Errorf("case %s: no input %q, the case has %v", c.Name, name, c.Inputs())
	}
	return t, nil
}

// HasInput tells whether the case has an input tensor of that name.
func (c *Case) HasInput(name string) bool {
	_, ok := c.inputs[name]
	return ok
}

// Inputs lists the names of the input tensors, sorted.
func (c *Case) Inputs() []string { return sortedKeys(c.inputs) }

// Expects tells whether the case judges an output of that name, so that a runner may leave out costly ones that
// nobody looks at. The values themselves stay hidden from runners.
func (c *Case) Expects(name string) bool {
	_, tensor := c.expected[name]
	_, value := c.values[name]
	return tensor || value
}

// effectiveDType is the arithmetic the case is run in. A case without a bfloat16 tolerance is a statement about
// float32 alone and is run in float32 whatever was asked for.
func (c *Case) effectiveDType(asked string) string {
	if asked == BFloat16 && len(c.toleranceBFloat16) > 0 {
		return BFloat16
	}
	return Float32
}

// toleranceFor is the largest allowed error of an output: its own entry, else that of "*", else 0. A bfloat16
// tolerance that does not speak of the output leaves the float32 one standing.
func (c *Case) toleranceFor(name, dtype string) float64 {
	tables := []map[string]float64{c.tolerance}
	if dtype == BFloat16 {
		tables = []map[string]float64{c.toleranceBFloat16, c.tolerance}
	}
	for _, table := range tables {
		for _, key := range []string{name, "*"} {
			if limit, ok := table[key]; ok {
				return limit
			}
		}
	}
	return 0
}

func decodeStrict(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("text after the JSON value")
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
