package worker

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/models"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/worker/opened"
)

// openedWith is the run that an activity of a config is handed.
func openedWith(t *testing.T, set ...string) *opened.Run {
	t.Helper()
	objects, spec := &store.Mem{}, testSpec(t, set...)
	s := newWorker(t, objects)
	if _, err := objects.PutIfAbsent(t.Context(), spec.Job().ConfigKey, strings.NewReader(spec.Config)); err != nil {
		t.Fatal(err)
	}
	r, done, err := s.open(t.Context(), spec.Job(), newWatcher(0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(done)
	return r
}

// otherPipeline is the world's pipeline with another last weight in one of its parts.
func otherPipeline(t *testing.T, part string) string {
	t.Helper()
	from, err := models.Unpack(models.Files, "world", filepath.Join(cacheDir, "models"))
	if err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(to, part, "*.safetensors"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-3] ^= 1 // of the mantissa
	if err := os.WriteFile(files[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	return to
}

// TestARunIsOpenedAsItsConfigSays: seed, size and lengths reach the recipe, and its inputs are named.
func TestARunIsOpenedAsItsConfigSays(t *testing.T) {
	r := openedWith(t, "seed=41", "data.train_tuples=5", "model.text_tokens=7")
	if r.Recipe.Seed != 41 || r.Recipe.TextTokens() != 7 || r.Recipe.Grid.Tokens() != 16 || r.Recipe.LatentSize() != 16*64 || len(r.Data.Rows) != 5 {
		t.Errorf("recipe %+v of %d rows", r.Recipe.Facts, len(r.Data.Rows))
	}
	if r.CodeVersion != "test" || r.Machine == "" || r.Latents.Cache == nil || r.Latents.Data != r.Data {
		t.Errorf("program %q, machine %q", r.CodeVersion, r.Machine)
	}
	for _, key := range []string{"model.pipeline", "reward.sciscore", "data.source"} {
		if r.Inputs[key] == "" {
			t.Errorf("%s has no identity: %v", key, r.Inputs)
		}
	}
	if openedWith(t, "data.train_tuples=5", "data.cache_latents=false").Latents.Cache != nil {
		t.Error("pictures are cached against data.cache_latents")
	}
}

// TestEncodedPicturesNameTheirAutoencoder: what one autoencoder, or one storage of its weights, made of pictures is not taken
// for another's.
func TestEncodedPicturesNameTheirAutoencoder(t *testing.T) {
	names := map[string]string{}
	for what, set := range map[string]string{"as it is": "model.pipeline=world", "in bfloat16": "model.dtype=bf16", "with another weight": "model.pipeline=" + otherPipeline(t, "vae")} {
		r := openedWith(t, "data.train_tuples=2", set)
		if other, there := names[r.Latents.Name]; there {
			t.Errorf("the autoencoder %s and %s have one name", what, other)
		}
		names[r.Latents.Name] = what
	}
	if again := openedWith(t, "data.train_tuples=3", "sft.lr=0.5"); names[again.Latents.Name] != "as it is" {
		t.Error("runs that differ in other things do not share what was encoded")
	}
}

// TestTheMachineIsNamed: with the type that products are computed in, and in every checkpoint.
func TestTheMachineIsNamed(t *testing.T) {
	plain, rounded := openedWith(t, "model.compute=f32", "data.train_tuples=2"), openedWith(t, "model.compute=bf16", "data.train_tuples=2")
	if plain.Machine == rounded.Machine {
		t.Errorf("products in f32 and bf16 are both of %q", plain.Machine)
	}
	objects, spec := &store.Mem{}, testSpec(t, "sft.batch=1", "data.train_tuples=2", "model.compute=f32")
	s := newWorker(t, objects)
	must[activities.PrepareResult](t)(s.Prepare(t.Context(), spec, newWatcher(0)))
	at := must[activities.ChunkResult](t)(s.TrainSFT(t.Context(), activities.SFTChunk{Job: spec.Job(), Stage: run.StageSFT, To: 1}, newWatcher(0)))
	_, m, err := (store.Checkpoints{Objects: objects, Run: "test"}).Find(t.Context(), run.StageSFT, at.Checkpoint.Step)
	if err != nil || m.Machine != plain.Machine || m.CodeVersion != "test" || m.ConfigHash != spec.ConfigHash || m.Inputs["data.source"] == "" {
		t.Errorf("%v, manifest %+v", err, m)
	}
}
