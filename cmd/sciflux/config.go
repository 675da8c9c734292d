package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/sciflux/sciflux/configs"
)

func (a *app) configCommand() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Print the schema of the config, or what a config amounts to", Example: "  sciflux config show world", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(a.configSchemaCommand(), a.configShowCommand())
	return c
}

func (a *app) configSchemaCommand() *cobra.Command {
	var markdown bool
	c := &cobra.Command{
		Use:     "schema",
		Short:   "Print the JSON schema of config files, or their reference",
		Example: "  sciflux config schema --markdown > docs/config.md",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if !markdown {
				_, err := a.out.Write(configs.Schema())
				return err
			}
			text, err := configs.Manual()
			if err == nil {
				_, err = io.WriteString(a.out, text)
			}
			return err
		},
	}
	c.Flags().BoolVar(&markdown, "markdown", false, "print the reference of all keys as Markdown")
	return c
}

func (a *app) configShowCommand() *cobra.Command {
	var set []string
	c := &cobra.Command{
		Use:     "show [PRESET|FILE]",
		Short:   "Print the config that a preset or file resolves to, with every key",
		Example: "  sciflux config show world --set seed=2",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			source := ""
			if len(args) > 0 {
				source = args[0]
			}
			cfg, err := configs.Load(configs.Sources{Name: source, Environ: a.environ, Set: set})
			if err != nil {
				return err
			}
			type shown struct {
				Hash   string         `json:"hash"`
				Config map[string]any `json:"config"` // by the keys of the schema
			}
			return a.print.Value(shown{cfg.Hash(), cfg.Values()}, func(w io.Writer) { fmt.Fprintf(w, "# hash %s\n%s", cfg.Hash(), cfg.Resolved()) })
		},
	}
	c.Flags().StringArrayVar(&set, "set", nil, "set a key, as sft.lr=1e-4; may be repeated")
	return c
}
