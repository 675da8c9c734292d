package configs

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// samplesOf is how many samples of a preset one network call takes; the world's text is as long as its tokenizer says.
func samplesOf(t *testing.T, c Config) int {
	t.Helper()
	text := c.Model.TextTokens
	if c.Model.Pipeline == builtin {
		data, err := os.ReadFile("../models/world/tokenizer_2/tokenizer_config.json")
		if err != nil {
			t.Fatal(err)
		}
		var tokenizer struct {
			Length int `json:"model_max_length"`
		}
		if err := json.Unmarshal(data, &tokenizer); err != nil {
			t.Fatal(err)
		}
		text = tokenizer.Length
	}
	side := c.Data.Resolution / 16
	return c.Model.BatchTokens / (side*side + text)
}

// What a preset asks for beside the binary is what its first lines name, and its batches fit its bound: FLUX's presets run
// as soon as their three folders are there.
func TestPresetsNeedWhatTheyName(t *testing.T) {
	world, folders := [3]string{builtin, builtin, builtin}, [3]string{"models/FLUX.1-dev", "data/Science-T2I-", "models/SciScore"}
	for name, want := range map[string]struct {
		samples int
		mask    string
		folders [3]string // how the paths of pipeline, data and scorer begin
	}{
		"world":          {32, "detector", world},
		"world-smoke":    {32, "detector", world},
		"flux-dev":       {4, "full", folders},
		"flux-dev-paper": {4, "full", folders},
	} {
		c, err := Load(Sources{Name: name})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := samplesOf(t, c); got != want.samples || got < c.SFT.Batch || got < c.OFT.ImagesPerPrompt {
			t.Errorf("%s: %d samples in a call, want %d; stage 1 has %d, a prompt %d", name, got, want.samples, c.SFT.Batch, c.OFT.ImagesPerPrompt)
		}
		if c.OFT.Mask.Policy != want.mask || c.OFT.Mask.Detector != builtin {
			t.Errorf("%s: mask %+v", name, c.OFT.Mask)
		}
		for i, path := range []string{c.Model.Pipeline, c.Data.Source, c.Reward.SciScore} {
			if !strings.HasPrefix(path, want.folders[i]) {
				t.Errorf("%s: %s, want %s", name, path, want.folders[i])
			}
		}
		if c.Model.Adapter+c.Data.Prompts != "" {
			t.Errorf("%s: it needs other files too: %s%s", name, c.Model.Adapter, c.Data.Prompts)
		}
	}
}

// One spelling of a number, in files, variables and flags alike.
func TestShiftIsANameOrANumber(t *testing.T) {
	for text, want := range map[string]Shift{"none": "none", "dynamic": "dynamic", "3": "3", "3.0": "3", "0.50": "0.5", "1e1": "10", `"3.0"`: "3"} {
		c, err := Load(Sources{Name: file(t, "sft: {density: {shift: "+text+"}}\n")})
		if err != nil || c.SFT.Density.Shift != want {
			t.Errorf("%s: %q, %v", text, c.SFT.Density.Shift, err)
		}
	}
	a, err := Load(Sources{Environ: []string{"SCIFLUX_SFT_DENSITY_SHIFT=3.0"}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := Load(Sources{Set: []string{"sft.density.shift=3"}})
	if err != nil || a.Hash() != b.Hash() {
		t.Errorf("3.0 and 3 are two configs: %v", err)
	}
	if v := a.Values()["sft"].(map[string]any)["density"].(map[string]any)["shift"]; v != 3.0 {
		t.Errorf("JSON shows %v", v)
	}
	for _, text := range []string{"static", "0", "-1", "true", "[3]", ".inf", "''"} {
		if p := problemsOf(t, Sources{Name: file(t, "sft: {density: {shift: "+text+"}}\n")}); len(p) != 1 || p[0].Path != "sft.density.shift" {
			t.Errorf("%s: %v", text, p)
		}
	}
}
