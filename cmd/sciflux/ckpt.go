package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sciflux/sciflux/cmd/sciflux/internal/console"
	"github.com/sciflux/sciflux/report"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
)

func (a *app) checkpointCommand() *cobra.Command {
	c := &cobra.Command{Use: "ckpt", Short: "List or verify the checkpoints of a run", Example: "  sciflux ckpt verify world", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	for _, v := range []struct {
		use, short string
		verify     bool
	}{{"ls RUN", "List the checkpoints of a run", false}, {"verify RUN", "Read every part of every checkpoint and compare its hash", true}} {
		var config string
		one := &cobra.Command{
			Use: v.use, Short: v.short, Example: "  sciflux ckpt " + v.use[:len(v.use)-3] + "world", Args: cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				return a.runCheckpoints(c.Context(), args[0], config, v.verify)
			},
		}
		one.Flags().StringVar(&config, "config", "", "preset or file that says where the run is, when this state folder does not know it")
		c.AddCommand(one)
	}
	return c
}

// listed is a checkpoint as JSON.
type listed struct {
	Stage    run.Stage `json:"stage"`
	Step     int       `json:"step"`
	Epoch    int       `json:"epoch"`
	Bytes    int64     `json:"bytes"`
	Created  string    `json:"created,omitempty"`
	Manifest string    `json:"manifest"` // key
	SHA256   string    `json:"sha256"`   // of the manifest
	Adapter  string    `json:"adapter_sha256"`
	StageEnd bool      `json:"stage_end"`
	OK       bool      `json:"ok"` // readable; of verify: all parts are what was written
	Error    string    `json:"error,omitempty"`
	Damaged  []badPart `json:"damaged,omitempty"` // of verify
}

// badPart is a part of a checkpoint that is not what was written.
type badPart struct {
	Part   string `json:"part"`
	Key    string `json:"key"`
	SHA256 string `json:"sha256"` // it should have
	Error  string `json:"error"`
}

func (a *app) runCheckpoints(ctx context.Context, name, config string, verify bool) error {
	cfg, err := a.configOf(ctx, name, config, nil)
	if err != nil {
		return err
	}
	s, err := a.connect(ctx, cfg, nil)
	if err != nil {
		return err
	}
	defer s.close()
	points := store.Checkpoints{Objects: s.objects, Run: name}
	list, damaged := []listed{}, 0
	for _, stage := range run.Stages() {
		entries, err := points.List(ctx, stage)
		if err != nil {
			return err
		}
		for _, e := range entries {
			one := listedOf(ctx, points, e, verify)
			if !one.OK {
				damaged++
			}
			list = append(list, one)
		}
	}
	if err := a.print.Value(list, func(w io.Writer) { checkpointTable(w, list) }); err != nil {
		return err
	}
	if damaged > 0 {
		return run.Errorf(run.ClassModel, "verify checkpoints of run", name, "a resumed run goes on from the newest whole one", "%d of %d are damaged", damaged, len(list))
	}
	return nil
}

func listedOf(ctx context.Context, points store.Checkpoints, e store.Entry, verify bool) listed {
	c := e.Checkpoint
	l := listed{Stage: c.Stage, Step: c.Step, Epoch: c.Epoch, Bytes: e.Manifest.Bytes(), Manifest: c.Manifest.Key, SHA256: c.Manifest.SHA256,
		Adapter: c.Adapter.SHA256, StageEnd: e.Manifest.StageEnd}
	if !e.Manifest.Created.IsZero() {
		l.Created = e.Manifest.Created.Format("2006-01-02T15:04:05Z")
	}
	err := e.Err
	if err == nil && verify {
		err = points.Verify(ctx, c)
	}
	if l.OK = err == nil; err != nil {
		l.Error = err.Error()
	}
	if e.Err == nil && err != nil {
		l.Damaged = badParts(ctx, points.Objects, e.Manifest.Parts)
	}
	return l
}

// badParts finds every part that differs from what its manifest says.
func badParts(ctx context.Context, objects store.Objects, parts []store.PartInfo) (bad []badPart) {
	for _, p := range parts {
		if err := store.Check(ctx, objects, p.Object); err != nil {
			bad = append(bad, badPart{p.Name, p.Object.Key, p.Object.SHA256, err.Error()})
		}
	}
	return bad
}

// verdict is what a person has to know of a checkpoint.
func (l listed) verdict() string {
	if l.OK {
		return "ok"
	}
	if len(l.Damaged) == 0 {
		return l.Error
	}
	var parts []string
	for _, p := range l.Damaged {
		parts = append(parts, fmt.Sprintf("part %s, SHA-256 %s: %s", p.Part, p.SHA256, p.Error))
	}
	return strings.Join(parts, "; ")
}

func checkpointTable(w io.Writer, list []listed) {
	var rows [][]string
	for _, l := range list {
		rows = append(rows, []string{string(l.Stage), fmt.Sprint(l.Step), fmt.Sprint(l.Epoch), report.Bytes(l.Bytes), l.Created, l.SHA256, l.verdict()})
	}
	console.Table(w, []string{"stage", "step", "epoch", "size", "created", "manifest sha256", "verdict"}, rows)
}
