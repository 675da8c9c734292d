package parity

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

// TestCasesThatLieFail: what a case says of its adapters and files is compared with what was loaded, and a case that says
// another thing than it holds is refused with the names of both.
func TestCasesThatLieFail(t *testing.T) {
	for _, lie := range []struct {
		folder, arg string
		value       any
		says        string
	}{
		{"rollout_paper_dev", "rank", 5, "has 4, not 5"},
		{"rollout_paper_dev", "rank", 0, "rank is 0"},
		{"rollout_paper_dev", "alpha", 0, "alpha 0"},
		{"stage2/rollout_cps_window", "rank", 3, "has 2, not 3"},
		{"sft_constant", "rank", 3, "has 4, not 3"},
		{"oft_corrected", "rank", 8, "has 4, not 8"},
		{"stage2/nft_step", "rank", 2, "has 4, not 2"},
		{"lora_attention", "rank", 5, "has 4, not 5"},
		{"lora_attention", "alpha", 8, "has 4, not 8"},
		{"lora_attention", "target_modules", []string{"to_k", "to_q", "to_v"}, "to_out.0"},
		{"lora_attention", "target_modules", []string{"to_k", "to_q", "to_v", "to_out.0", "proj_mlp"}, "proj_mlp"},
		{"lora_attention", "target_modules", []string{}, "target_modules is 0"},
		{"vae_encode_bfl", "layout", "diffusers", "not in the layout diffusers"},
		{"vae_encode_diffusers", "layout", "bfl", "not in the layout bfl"},
		{"vae_decode_bfl", "layout", "", "layout \"\" is unknown"},
		{"tokenize_small_bert", "tokenizer", "clip", "tokenizer \"clip\" is not of class"},
	} {
		c, err := Open(filepath.Join(goldenRoot, filepath.FromSlash(lie.folder)))
		if err != nil {
			t.Fatal(err)
		}
		var args map[string]any
		if err := json.Unmarshal(c.args, &args); err != nil {
			t.Fatal(err)
		}
		c.args = mustJSON(changed(args, []string{lie.arg}, lie.value, false))
		_, err = runners[c.Kind](context.Background(), c, Options{Device: "cpu", DType: Float32})
		if err == nil || !strings.Contains(err.Error(), lie.says) || !strings.Contains(err.Error(), c.Name) {
			t.Errorf("%s with %s = %v: %v, want %q", lie.folder, lie.arg, lie.value, err, lie.says)
		}
	}
}
