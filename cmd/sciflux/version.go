package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"slices"

	"github.com/spf13/cobra"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version of the program and of what it is built on",
		Example: "  sciflux version --json",
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return a.runVersion() },
	}
}

// built are the modules whose versions matter to a run.
var built = []string{"go.temporal.io/server", "go.temporal.io/sdk", "github.com/versity/versitygw", "gorgonia.org/gorgonia", "github.com/aws/aws-sdk-go-v2/service/s3"}

func (a *app) runVersion() error {
	type versions struct {
		Version string            `json:"version"`
		Go      string            `json:"go"`
		Target  string            `json:"target"`
		Modules map[string]string `json:"modules"`
	}
	v := versions{a.version, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH, map[string]string{}}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			v.Modules[m.Path] = m.Version
		}
	}
	for path := range v.Modules {
		if !slices.Contains(built, path) {
			delete(v.Modules, path)
		}
	}
	return a.print.Value(v, func(w io.Writer) {
		fmt.Fprintf(w, "sciflux %s, %s, %s\n", v.Version, v.Go, v.Target)
		for _, path := range built {
			if v.Modules[path] != "" {
				fmt.Fprintf(w, "  %s %s\n", path, v.Modules[path])
			}
		}
	})
}
