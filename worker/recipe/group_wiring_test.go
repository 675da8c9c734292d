package recipe

import (
	"fmt"
	"testing"

	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/reward"
	"github.com/sciflux/sciflux/trainer"
)

// TestSamplesOfAGroupStayTogether: each sample that is left of a group has its own latents, reward and mask, in every method.
func TestSamplesOfAGroupStayTogether(t *testing.T) {
	for _, method := range []string{"dgpo", "nft", "awm", "dpo_flow"} {
		r, _, _ := bare(2, "oft.method="+method, "oft.images_per_prompt=4", "oft.mask.policy=full")
		s := Scored{Number: 3, Rewards: []float64{2, 9, 5, 1}, Conditioning: trainer.Conditioning{Text: []float32{7}, Pooled: []float32{8}}}
		for i := range 4 {
			box := flow.Box{CX: 0.5, CY: 0.5, W: 0.25 * float32(i+1), H: 1}
			s.Latents = append(s.Latents, []float32{float32(i)})
			s.Subjects = append(s.Subjects, reward.Subject{Box: box, Masked: true, Skip: i == 1})
		}
		g := r.Groups([]Scored{s})[0]
		var got []string
		for i, x := range g.Latents {
			got = append(got, fmt.Sprintf("%g: %g in %.2f", x[0], g.Rewards[i], g.Masks[i].Kept()))
		}
		want := "[0: 2 in 0.17 2: 5 in 0.83 3: 1 in 1.00]" // boxes of one, five and six columns of six
		if method == "dpo_flow" {
			want = "[2: 5 in 0.83 3: 1 in 1.00]"
		}
		if fmt.Sprint(got) != want || g.Text[0] != 7 || g.Pooled[0] != 8 || len(g.Advantages) != len(got) {
			t.Errorf("%s trains %v, want %s; %+v", method, got, want, g.Conditioning)
		}
	}
}
