package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sciflux/sciflux/cmd/sciflux/internal/console"
	"github.com/sciflux/sciflux/dataset"
	"github.com/sciflux/sciflux/dataset/world"
	"github.com/sciflux/sciflux/report"
	"github.com/sciflux/sciflux/run"
)

func (a *app) dataCommand() *cobra.Command {
	c := &cobra.Command{Use: "data", Short: "Draw the procedural world, or look into a data set",
		Example: "  sciflux data inspect my-data", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(a.dataWorldCommand(), a.dataInspectCommand())
	return c
}

func (a *app) dataWorldCommand() *cobra.Command {
	var out string
	var o world.ExportOptions
	c := &cobra.Command{
		Use:     "world --out DIR",
		Short:   "Draw the procedural Science-T2I world as parquet files",
		Example: "  sciflux data world --out world-data",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return a.runDataWorld(c.Context(), out, o) },
	}
	c.Flags().StringVar(&out, "out", "", "folder for the files")
	c.Flags().IntVar(&o.Pretrain, "pretrain", 0, "pictures of a further split for pretraining (0: no such split)")
	c.Flags().Uint64Var(&o.Seed, "seed", 1, "seed of poses and order")
	c.Flags().IntVar(&o.Side, "side", 64, "side of the pictures in pixels")
	c.Flags().IntVar(&o.Train, "train", 0, "rows of the training split (0: every combination once)")
	_ = c.MarkFlagRequired("out")
	return c
}

func (a *app) runDataWorld(ctx context.Context, out string, o world.ExportOptions) error {
	if o.Side < 16 || o.Pretrain < 0 || o.Train < 0 {
		return run.Errorf(run.ClassConfig, "draw the world", "", "give a side of at least 16 and no negative numbers",
			"side %d, pretrain %d, train %d", o.Side, o.Pretrain, o.Train)
	}
	rows := map[string]int{}
	o.Progress = func(split string, done, total int) {
		rows[split] = total
		if a.print.Terminal() {
			a.print.Update(fmt.Sprintf("%s %d/%d", split, done, total))
		}
	}
	if err := world.Export(ctx, out, o); err != nil {
		return err
	}
	type exported struct {
		Dir  string         `json:"dir"`
		Rows map[string]int `json:"rows"`
	}
	return a.print.Value(exported{out, rows}, func(w io.Writer) {
		for _, split := range []string{world.Pretrain, world.Train, world.Validation, world.TestS, world.TestC} {
			if rows[split] > 0 {
				fmt.Fprintf(w, "%-10s %d rows\n", split, rows[split])
			}
		}
		fmt.Fprintf(w, "in %s\n", out)
	})
}

func (a *app) dataInspectCommand() *cobra.Command {
	var split string
	var o dataset.OpenOptions
	c := &cobra.Command{
		Use:     "inspect DIR",
		Short:   "Describe a data set and name the rows that cannot be trained on",
		Example: "  sciflux data inspect world-data --split train",
		Args:    cobra.ExactArgs(1),
		RunE:    func(c *cobra.Command, args []string) error { return a.runDataInspect(c.Context(), args[0], split, o) },
	}
	c.Flags().StringVar(&split, "split", "", "only this split (default: all)")
	c.Flags().BoolVar(&o.Outside, "allow-outside", false, "paths of pictures may lead out of the data folder, as with data.allow_outside")
	return c
}

func (a *app) runDataInspect(ctx context.Context, dir, split string, o dataset.OpenOptions) error {
	splits := []string{split}
	if split == "" {
		var err error
		if splits, err = dataset.Splits(dir); err != nil {
			return run.Errorf(run.ClassData, "inspect", dir, "", "%w", err)
		}
		if len(splits) == 0 {
			return run.Errorf(run.ClassData, "inspect", dir,
				"point to a folder with train-00000-of-00001.parquet, train.parquet, train-0000.tar, or pictures with captions",
				"no split in it")
		}
	}
	summaries := []*dataset.Summary{}
	for _, one := range splits {
		sum, err := o.Inspect(ctx, dir, one)
		if err != nil {
			return run.Errorf(run.ClassData, "inspect", dir, "", "%w", err)
		}
		summaries = append(summaries, sum)
	}
	return a.print.Value(summaries, func(w io.Writer) {
		for _, s := range summaries {
			describeSplit(w, s)
		}
	})
}

// mostLaws are shown of a split; --json has them all.
const mostLaws = 40

// describeSplit says what a split holds. Names and texts of the files are shown plain: they may come from anywhere.
func describeSplit(w io.Writer, s *dataset.Summary) {
	fmt.Fprintf(w, "%s: %d rows, %s, %s, %d implicit prompts, %d right and %d superficial pictures\n",
		oneLine(s.Split), s.Rows, s.Layout, report.Bytes(s.Bytes), s.ImplicitPrompts, s.ExplicitPictures, s.SuperficialPictures)
	var names []string
	for _, c := range s.Columns {
		names = append(names, oneLine(c.Name)+" ("+c.Kind+")")
	}
	if len(names) > 0 {
		fmt.Fprintf(w, "columns: %s\n", strings.Join(names, ", "))
	}
	if s.OneCaption > 0 {
		fmt.Fprintf(w, "captions: %d rows have one caption for all three kinds of prompts: "+
			"right for SFT and as prompts of OFT; evaluate on a split that has all three\n", s.OneCaption)
	}
	for _, t := range s.Traits {
		fmt.Fprintf(w, "pictures: %d of %d are %s\n", t.Rows, s.ExplicitPictures+s.SuperficialPictures, t.Value)
	}
	if len(s.Laws) > 1 || len(s.Laws) == 1 && s.Laws[0].Value != "" {
		var rows [][]string
		for _, t := range s.Laws[:min(len(s.Laws), mostLaws)] {
			rows = append(rows, []string{oneLine(t.Value), fmt.Sprint(t.Rows)})
		}
		console.Table(w, []string{"law", "rows"}, rows)
		if more := len(s.Laws) - mostLaws; more > 0 {
			fmt.Fprintf(w, "and %d more laws\n", more)
		}
	}
	for _, p := range s.Problems {
		fmt.Fprintf(w, "problem: %s\n", oneLine(p))
	}
	if more := s.ProblemRows - len(s.Problems); more > 0 {
		fmt.Fprintf(w, "and %d more rows with problems\n", more)
	}
	fmt.Fprintln(w)
}

// oneLine is text of a file in one line of a terminal.
func oneLine(text string) string { return strings.ReplaceAll(console.Plain(text), "\n", `\n`) }
