package parity

import (
	"context"
	"fmt"
	"strings"

	"github.com/sciflux/sciflux/tokenizer"
)

// runTokenize is kind "tokenize": texts to ids [P, max_length].
func runTokenize(_ context.Context, c *Case, _ Options) (*Outputs, error) {
	var args struct {
		Tokenizer string   `json:"tokenizer"` // clip, t5 or bert: how class begins
		Class     string   `json:"class"`
		Texts     []string `json:"texts"`
		MaxLength int      `json:"max_length"`
		Padding   string   `json:"padding"`
	}
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	if args.Padding != "max_length" || args.MaxLength <= 0 {
		return nil, fmt.Errorf("tokenize: padding %q to length %d: only padding to a positive max_length is defined", args.Padding,
			args.MaxLength)
	}
	if args.Tokenizer == "" || !strings.HasPrefix(strings.ToLower(args.Class), args.Tokenizer) {
		return nil, fmt.Errorf("case %s: tokenizer %q is not of class %q", c.Name, args.Tokenizer, args.Class)
	}
	folder, err := c.ModelPath()
	if err != nil {
		return nil, err
	}
	t, err := tokenizer.Load(folder, args.Class)
	if err != nil {
		return nil, err
	}
	out := NewOutputs()
	out.Int32("ids", []int{len(args.Texts), args.MaxLength}, tokenizer.Batch(t, args.Texts, args.MaxLength))
	return out, nil
}
