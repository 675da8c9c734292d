package worker

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
)

// TestMoreBadInputs: further things that Prepare finds, each with its class, the name of what is wrong and the cure.
func TestMoreBadInputs(t *testing.T) {
	file := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		name  string
		set   []string
		class run.Class
		says  []string
	}{
		{"no such test split", []string{"eval.splits=[test_Q]"}, run.ClassData, []string{"test_Q"}},
		{"no such second scorer", []string{"reward.sciscore=" + t.TempDir()}, run.ClassModel, nil},
		{"folder without a pipeline", []string{"model.pipeline=" + t.TempDir()}, run.ClassModel, []string{"model_index.json"}},
		{"adapter that is no file of tensors", []string{"model.adapter=" + file("a.safetensors", "hello")}, run.ClassModel, []string{"a.safetensors"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := newWorker(t, &store.Mem{}).Prepare(t.Context(), testSpec(t, c.set...), newWatcher(0))
			if run.ClassOf(err) != c.class || err == nil {
				t.Fatalf("class %q, error %v", run.ClassOf(err), err)
			}
			for _, say := range c.says {
				if !strings.Contains(err.Error(), say) {
					t.Errorf("error %q does not say %q", err, say)
				}
			}
		})
	}
	broken := testSpec(t)
	broken.Config = "sft: {stepz: 4}"
	if _, err := newWorker(t, &store.Mem{}).Prepare(t.Context(), broken, newWatcher(0)); run.ClassOf(err) != run.ClassConfig || !strings.Contains(err.Error(), "stepz") {
		t.Errorf("a config with an unknown key: %v", err)
	}
}
