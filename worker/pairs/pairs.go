// Package pairs is what stage 2 stores between sampling and training: the prompts of an epoch with their trajectories and
// pictures (Rollouts), and what was found in the pictures (Scores). It reads and writes objects of the store.
package pairs

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/sciflux/sciflux/reward"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/store/safetensors"
)

// Prompt is one prompt of an epoch. Number counts prompts from the start of stage 2; random numbers are keyed by it.
type Prompt struct {
	Number int    `json:"number"`
	Text   string `json:"text"`
	Object string `json:"object"`
	Row    int    `json:"row"` // of the training rows; -1 for a prompt of a file
}

// Rollouts is one shard of an epoch's trajectories, cut to the states that the method of stage 2 trains on.
type Rollouts struct {
	Prompts []Prompt
	Tokens  int             // N of every latent
	Latents [][][][]float32 // [prompt][sample][state] of [N, C]: k+1 states around k noisy steps, or the picture's latents alone
	Images  reward.Images   // prompts × samples, prompt-major
}

// Write stores the shard: latents [P, S, states, N, C], pictures [P·S, 3, h, w] in 0…1, prompts as JSON in the header.
func (r *Rollouts) Write(w io.Writer) error {
	text, err := json.Marshal(r.Prompts)
	if err != nil {
		return err
	}
	var flat []float32
	for _, p := range r.Latents {
		for _, s := range p {
			for _, x := range s {
				flat = append(flat, x...)
			}
		}
	}
	tensors := []safetensors.Tensor{}
	if len(r.Latents) > 0 {
		first := r.Latents[0]
		tensors = append(tensors,
			safetensors.Float32s("latents", safetensors.F32, []int{len(r.Latents), len(first), len(first[0]), r.Tokens, len(first[0][0]) / r.Tokens}, flat),
			safetensors.Float32s("pictures", safetensors.F32, []int{r.Images.B, 3, r.Images.H, r.Images.W}, r.Images.Data))
	}
	_, err = safetensors.Write(w, tensors, map[string]string{"prompts": string(text)})
	return err
}

// ReadRollouts reads a stored shard.
func ReadRollouts(ctx context.Context, o store.Objects, ref run.ObjectRef) (*Rollouts, error) {
	data, err := store.Read(ctx, o, ref)
	if err != nil {
		return nil, err
	}
	r, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("read rollouts %s: %w", ref.Key, err)
	}
	return r, nil
}

func parse(data []byte) (*Rollouts, error) {
	f, err := safetensors.Parse("rollouts", data)
	if err != nil {
		return nil, err
	}
	r := &Rollouts{}
	if err := json.Unmarshal([]byte(f.Metadata()["prompts"]), &r.Prompts); err != nil {
		return nil, fmt.Errorf("prompts of rollouts: %w", err)
	}
	if len(r.Prompts) == 0 {
		return r, nil
	}
	info, ok := f.Info("latents")
	pictures, okay := f.Info("pictures")
	if !ok || !okay || len(info.Shape) != 5 || len(pictures.Shape) != 4 || info.Shape[0] != len(r.Prompts) {
		return nil, fmt.Errorf("rollouts: latents %v and pictures %v do not belong to %d prompts", info.Shape, pictures.Shape, len(r.Prompts))
	}
	flat, err := f.Float32("latents", info.Shape...)
	if err != nil {
		return nil, err
	}
	r.Tokens = info.Shape[3]
	r.Latents = split(flat, info.Shape)
	pixels, err := f.Float32("pictures", pictures.Shape...)
	r.Images = reward.Images{B: pictures.Shape[0], H: pictures.Shape[2], W: pictures.Shape[3], Data: pixels}
	return r, err
}

// split cuts values [P, S, states, N, C] into states.
func split(flat []float32, shape []int) [][][][]float32 {
	samples, states, size := shape[1], shape[2], shape[3]*shape[4]
	out := make([][][][]float32, shape[0])
	for p := range out {
		out[p] = make([][][]float32, samples)
		for k := range samples {
			for i := range states {
				at := ((p*samples+k)*states + i) * size
				out[p][k] = append(out[p][k], flat[at:at+size])
			}
		}
	}
	return out
}

// Scores is what training needs to know about each picture of a shard.
type Scores struct {
	Rewards  [][]float64        `json:"rewards"`  // per prompt and sample
	Subjects [][]reward.Subject `json:"subjects"` // as Rewards
	Summary  run.PairSummary    `json:"summary"`
}

// ReadScores reads stored scores.
func ReadScores(ctx context.Context, o store.Objects, ref run.ObjectRef) (Scores, error) {
	var sc Scores
	data, err := store.Read(ctx, o, ref)
	if err != nil {
		return sc, err
	}
	if err := json.Unmarshal(data, &sc); err != nil {
		return sc, fmt.Errorf("read scores %s: %w", ref.Key, err)
	}
	return sc, nil
}
