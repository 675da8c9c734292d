// Package publish writes what a user takes away from a run: the adapter with its card and provenance, and the report page.
package publish

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/model/lora"
	"github.com/sciflux/sciflux/report"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/store/safetensors"
	"github.com/sciflux/sciflux/worker/checkpoint"
	"github.com/sciflux/sciflux/worker/opened"
)

// Export writes the adapter in diffusers', kohya's and peft's naming, a card, and where it came from. See activities.Publisher.
func Export(ctx context.Context, r *opened.Run, c activities.ExportJob, m activities.Monitor) (activities.ExportResult, error) {
	var out activities.ExportResult
	adapter, err := checkpoint.Evaluated(ctx, r, c.Checkpoint)
	if err != nil {
		return out, err
	}
	prefix := run.Keys(c.Job.Run).Export()
	put := func(name string, write func(io.Writer) error) (run.ObjectRef, error) {
		ref, err := store.Write(ctx, r.Objects, prefix+name, write)
		if err == nil {
			out.Files++
		}
		return ref, err
	}
	if out.Adapter, err = put(lora.DiffusersFile, func(w io.Writer) error {
		_, err := adapter.Write(w, safetensors.F32)
		return err
	}); err != nil {
		return out, err
	}
	for _, format := range []string{"kohya", "peft"} {
		files, err := adapter.Files(format, r.Models.Pipeline.Transformer.Layers(), safetensors.F32)
		if err != nil {
			return out, err
		}
		for _, f := range files {
			if _, err := put(format+"/"+f.Name, f.Write); err != nil {
				return out, err
			}
		}
	}
	if _, err = put("README.md", func(w io.Writer) error { return card(w, r, c, adapter) }); err != nil {
		return out, err
	}
	_, manifest, err := r.Checkpoints().Find(ctx, c.Checkpoint.Stage, c.Checkpoint.Step)
	if err != nil && !c.Checkpoint.IsZero() {
		return out, err
	}
	text, err := json.MarshalIndent(provenance(c, out.Adapter, manifest), "", " ")
	if err != nil {
		return out, err
	}
	_, err = put("provenance.json", func(w io.Writer) error { _, err := w.Write(text); return err })
	m.Report(run.Progress{Stage: run.StageExport, Note: "adapter written", At: time.Now()})
	return out, err
}

// provenance says where an adapter came from. m is the manifest of its checkpoint.
func provenance(c activities.ExportJob, adapter run.ObjectRef, m store.Manifest) map[string]any {
	return map[string]any{"adapter": adapter, "checkpoint": c.Checkpoint, "config_hash": c.Job.ConfigHash, "variant": c.Variant,
		"machine": m.Machine, "code_version": m.CodeVersion, "inputs": m.Inputs}
}

// card is the model card.
func card(w io.Writer, r *opened.Run, c activities.ExportJob, a *lora.Adapter) error {
	var b strings.Builder
	cfg := r.Recipe.Config
	fmt.Fprintf(&b, "# %s\n\nLoRA adapter, rank %s, for %s, fine-tuned by sciflux (%s).\n\n", c.Job.Run, ranks(a), cfg.Model.Pipeline, report.VariantName(c.Variant))
	fmt.Fprintf(&b, "- checkpoint: %s\n- config hash: `%s`\n- seed: %d\n\n", c.Checkpoint, c.Job.ConfigHash, c.Job.Seed)
	b.WriteString("| split | variant | IP | EP | RI | IP right |\n|---|---|---|---|---|---|\n")
	for _, e := range c.Results {
		fmt.Fprintf(&b, "| %s | %s | %.2f | %.2f | %.3f | %.3f |\n", e.Split, report.VariantName(e.Variant), e.IP, e.EP, e.RI, e.JudgeIP)
	}
	b.WriteString("\nWith diffusers: `pipe.load_lora_weights(\"" + lora.DiffusersFile + "\")`; `peft/` is for `PeftModel.from_pretrained`, `kohya/` for ComfyUI and kohya's scripts.\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// ranks is the rank of an adapter's modules, or the lowest and the highest.
func ranks(a *lora.Adapter) string {
	low, high := a.Modules[0].Rank, a.Modules[0].Rank
	for _, m := range a.Modules {
		low, high = min(low, m.Rank), max(high, m.Rank)
	}
	if low == high {
		return strconv.Itoa(low)
	}
	return fmt.Sprintf("%d to %d", low, high)
}
