package configs

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// left is the section of which nothing was given beside model.adapter.
var left = LoRA{Targets: []string{}, Exclude: []string{}, Blocks: []string{}, RankPattern: []string{}, AlphaPattern: []string{}}

// What the user gives of lora stays, the rest is left to the adapter, and the resolved config keeps both.
func TestAdapterBringsWhatIsNotGiven(t *testing.T) {
	from := "model: {adapter: a.safetensors}\n"
	given := left
	given.Rank, given.Targets = 8, []string{"to_q"}
	again := left
	again.Rank = 16
	for _, tc := range []struct {
		name string
		src  Sources
		want LoRA
	}{
		{"defaults", Sources{Name: file(t, from)}, left},
		{"a preset", Sources{Name: file(t, "preset: world\n"+from)}, left},
		{"the authors' preset", Sources{Name: "flux-dev-paper", Set: []string{"model.adapter=a"}}, left},
		{"a file", Sources{Name: file(t, "preset: world\nlora: {rank: 8, targets: [to_q]}\n"+from)}, given},
		{"a flag", Sources{Name: "world", Set: []string{"lora.rank=8", "lora.targets=to_q", "model.adapter=a"}}, given},
		{"a variable", Sources{Name: "world", Environ: []string{"SCIFLUX_LORA_RANK=8", "SCIFLUX_LORA_TARGETS=to_q", "SCIFLUX_MODEL_ADAPTER=a"}}, given},
		{"the preset's value again", Sources{Name: file(t, "preset: world\nlora: {rank: 16}\n"+from)}, again},
	} {
		c, err := Load(tc.src)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if diff := cmp.Diff(tc.want, c.LoRA); diff != "" {
			t.Errorf("%s: %s", tc.name, diff)
		}
		back, err := Parse(c.Resolved())
		if diff := cmp.Diff(c, back); err != nil || diff != "" || back.Hash() != c.Hash() {
			t.Errorf("%s, resolved: %v %s", tc.name, err, diff)
		}
		again, err := Load(Sources{Name: file(t, c.Resolved())})
		if err != nil || again.Hash() != c.Hash() {
			t.Errorf("%s, saved and loaded: %v", tc.name, err)
		}
	}
}

// Without an adapter every key has a value of its own.
func TestFreshAdapterHasItsDefaults(t *testing.T) {
	c, err := Load(Sources{Name: "world"})
	if err != nil || c.LoRA.Rank != 16 || c.LoRA.Alpha != 16 || c.LoRA.Init != "gaussian" || len(c.LoRA.Targets) != 4 {
		t.Errorf("%+v, %v", c.LoRA, err)
	}
}
