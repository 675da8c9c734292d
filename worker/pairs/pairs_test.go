package pairs

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/reward"
)

// TestRolloutsSurviveTheirFile: what a shard stores is what training and scoring read, bit for bit.
func TestRolloutsSurviveTheirFile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := &Rollouts{Tokens: 2}
		prompts, samples, states := rapid.IntRange(0, 3).Draw(t, "prompts"), rapid.IntRange(1, 3).Draw(t, "samples"), rapid.IntRange(2, 4).Draw(t, "states")
		value := rapid.Float32Range(-9, 9)
		for p := range prompts {
			r.Prompts = append(r.Prompts, Prompt{Number: 40 + p, Text: rapid.String().Draw(t, "text"), Object: "a \"b\"", Row: p - 1})
			paths := make([][][]float32, samples)
			for k := range paths {
				for range states {
					paths[k] = append(paths[k], rapid.SliceOfN(value, 8, 8).Draw(t, "latents"))
				}
			}
			r.Latents = append(r.Latents, paths)
		}
		r.Images = reward.Images{B: prompts * samples, H: 2, W: 3, Data: rapid.SliceOfN(value, prompts*samples*18, prompts*samples*18).Draw(t, "pictures")}
		var b bytes.Buffer
		if err := r.Write(&b); err != nil {
			t.Fatal(err)
		}
		back, err := parse(b.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(back.Prompts, r.Prompts) || fmt.Sprint(back.Latents) != fmt.Sprint(r.Latents) {
			t.Fatal("prompts or latents changed")
		}
		if prompts > 0 && (!slices.Equal(back.Images.Data, r.Images.Data) || back.Images.B != r.Images.B || back.Images.H != 2 || back.Images.W != 3) {
			t.Fatal("pictures changed")
		}
	})
}

func TestForeignRolloutsAreRefused(t *testing.T) {
	var whole bytes.Buffer
	r := &Rollouts{Tokens: 1, Prompts: []Prompt{{Text: "x"}}, Latents: [][][][]float32{{{{1, 2}, {3, 4}}}}, Images: reward.Images{B: 1, H: 1, W: 1, Data: []float32{1, 2, 3}}}
	if err := r.Write(&whole); err != nil {
		t.Fatal(err)
	}
	more := strings.Replace(whole.String(), `[{\"number\":0`, `[{},{\"numb\":0`, 1)
	for name, data := range map[string]string{"empty": "", "cut": whole.String()[:whole.Len()-1], "no prompts": strings.Replace(whole.String(), "prompts", "promptz", 1), "two prompts, one path": more} {
		if back, err := parse([]byte(data)); err == nil {
			t.Errorf("%s: read %d prompts", name, len(back.Prompts))
		}
	}
}
