package parity

import (
	"context"
	"fmt"

	"github.com/sciflux/sciflux/store/safetensors"
)

// loads says how a file or model folder of kind "bad_file" is loaded, by the case's "load".
var loads = map[string]func(path string) error{
	"safetensors":      loadTensors,
	"flux_transformer": loadTransformer,
}

// runTensorFile is kind "safetensors_file": every tensor of a file with its dtype and bytes, and its metadata.
func runTensorFile(_ context.Context, c *Case, _ Options) (*Outputs, error) {
	if err := c.Args(&struct{}{}); err != nil {
		return nil, err
	}
	path, err := c.ModelPath()
	if err != nil {
		return nil, err
	}
	file, err := safetensors.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	out := NewOutputs()
	for _, info := range file.Tensors() {
		data, err := file.Bytes(info.Name)
		if err != nil {
			return nil, err
		}
		// Outputs are judged after the file is closed, so they need bytes of their own.
		out.Exact(info.Name, Tensor{DType: string(info.DType), Shape: info.Shape, Data: append([]byte(nil), data...)})
	}
	out.Value("metadata", file.Metadata())
	return out, nil
}

// runBadFile is kind "bad_file": the class of the refusal, "none" if the file is good.
func runBadFile(_ context.Context, c *Case, _ Options) (*Outputs, error) {
	var args struct {
		Load string `json:"load"`
	}
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	load, ok := loads[args.Load]
	if !ok {
		return nil, fmt.Errorf("case %s: unknown load %q; known: %v", c.Name, args.Load, sortedKeys(loads))
	}
	path, err := c.ModelPath()
	if err != nil {
		return nil, err
	}
	class := safetensors.Class("none")
	if err := load(path); err != nil {
		if class = safetensors.ClassOf(err); class == "" {
			return nil, fmt.Errorf("case %s: refused without a class: %w", c.Name, err)
		}
	}
	out := NewOutputs()
	out.Value("error", string(class))
	return out, nil
}

// loadTensors opens a file and reads all of its tensors.
func loadTensors(path string) error {
	file, err := safetensors.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	for _, name := range file.Names() {
		if _, err := file.Bytes(name); err != nil {
			return err
		}
	}
	return nil
}
