package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/sciflux/sciflux/picture"
)

// written is a file of a test.
func written(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A config file that is wrong is refused before anything is made: one line that names file and line, key and cure.
func TestBadConfigFiles(t *testing.T) {
	const secret = "hunter2/hunter3"
	state := t.TempDir()
	for name, c := range map[string]struct {
		text  string
		words []string
	}{
		"unknown key":          {"preset: world\nsft:\n  learnrate: 1e-4\n", []string{"my.yaml:3", "sft.learnrate", "did you mean sft.lr?"}},
		"unknown section":      {"oftt: {epochs: 1}\n", []string{"my.yaml:1", "oftt", "did you mean oft?"}},
		"wrong type":           {"preset: world\nsft:\n  lr: fast\n", []string{"my.yaml:3", "sft.lr", "expected number", `"fast"`}},
		"list for a number":    {"sft:\n  steps: [1, 2]\n", []string{"my.yaml:2", "sft.steps", "expected integer", "a list of 2"}},
		"YAML syntax":          {"preset: world\nsft:\n  lr: 1e-4\n bad\n", []string{"my.yaml:4", "fix the YAML"}},
		"tab":                  {"sft:\n\tlr: 1e-4\n", []string{"my.yaml:2", "fix the YAML"}},
		"no YAML at all":       {"\x89PNG\r\n\x1a\n\x00\x00", []string{"my.yaml:1", "fix the YAML"}},
		"a list":               {"- preset\n- world\n", []string{"my.yaml:1", "expected a section"}},
		"noisy above steps":    {"preset: world\noft:\n  steps: 4\n  noisy_steps: 9\n", []string{"my.yaml:4", "oft.noisy_steps", "9 of oft.steps 4", "0 means all"}},
		"warm-up above steps":  {"preset: world\nsft:\n  steps: 20\n  warmup_steps: 30\n", []string{"my.yaml:4", "sft.warmup_steps", "30 steps of warm-up in a stage of 20"}},
		"nothing to train":     {"sft: {steps: 0}\noft: {epochs: 0}\n", []string{"nothing to train", "sft.steps or oft.epochs"}},
		"above its bound":      {"sft: {betas: [0.9, 1.5]}\n", []string{"my.yaml:1", "sft.betas", "1.5 is not allowed", "below 1"}},
		"training on the test": {"preset: world\neval: {splits: [train]}\n", []string{"my.yaml:2", "eval.splits", "held-out"}},
		"hang before beat":     {"worker: {hang_after: 2s, heartbeat_timeout: 9s}\n", []string{"worker.hang_after", "2s is shorter than worker.heartbeat_timeout 9s"}},
		"disk without a path":  {"preset: world\nstore: {kind: disk}\n", []string{"store.path", "store.kind"}},
		"endpoint without s3":  {"store: {endpoint: 'http://127.0.0.1:9'}\n", []string{"store.endpoint", "set store.kind to s3"}},
		"address for a path":   {"reward: {sciscore: 's3://models/sciscore'}\n", []string{"my.yaml:1", "reward.sciscore", "s3://models/sciscore", "copy it"}},
		"secret in the file":   {"store:\n  kind: s3\n  secret_key: " + secret + "\n", []string{"my.yaml:3", "store.secret_key", "never written", ".env"}},
		"secret as a variable": {"store:\n  kind: s3\n  secret_key: {env: " + secret + "}\n", []string{"my.yaml:3", "store.secret_key.env", "name of the variable"}},
		"unknown preset":       {"preset: wold\n", []string{"preset", "did you mean world?"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := fails(t, 2, state, c.words, "run", written(t, "my.yaml", c.text))
			if strings.Contains(r.err, "hunter") {
				t.Errorf("the secret is printed: %s", r.err)
			}
			if r.out != "" {
				t.Errorf("output beside the error: %q", r.out)
			}
		})
	}
	fails(t, 2, state, []string{"neither a preset nor a file", "is a directory"}, "run", t.TempDir())
	if entries, err := os.ReadDir(state); err != nil || len(entries) > 0 {
		t.Errorf("a wrong config left %v %v", entries, err)
	}
}

// Several faults are told together, so that one try finds them all.
func TestAllFaultsOfAConfigAtOnce(t *testing.T) {
	path := written(t, "my.yaml", "sft: {stepz: 1, lr: fast}\noft: {s_churn: 0}\n")
	r := inside(t, t.TempDir(), "run", path, "--set", "data.resolution=50")
	if r.code != 2 || strings.Count(r.err, "\n") != 5 {
		t.Errorf("%s", r)
	}
	for _, word := range []string{"4 problems", "sft.stepz", "sft.lr", "oft.s_churn", "data.resolution"} {
		if !strings.Contains(r.err, word) {
			t.Errorf("no %q in %s", word, r.err)
		}
	}
}

// damaged undoes each damage before the next, so that one copy of a model serves all.
type damage struct {
	name  string
	file  string // in the model; its contents are replaced by what spoil makes of them, nil removes the file
	spoil func([]byte) []byte
	words []string
}

func (d damage) apply(t *testing.T, model string) (undo func()) {
	t.Helper()
	path := filepath.Join(model, filepath.FromSlash(d.file))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	put := func(data []byte) {
		_ = os.Remove(path) // it may be read-only
		if data == nil {
			return
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(d.spoil(append([]byte(nil), whole...)))
	return func() { put(whole) }
}

func removed([]byte) []byte  { return nil }
func emptied([]byte) []byte  { return []byte{} }
func cut(b []byte) []byte    { return b[:len(b)/2] }
func noJSON(b []byte) []byte { return append([]byte("]"), b...) }

// swap replaces a text that must be there.
func swap(t *testing.T, old, with string) func([]byte) []byte {
	return func(b []byte) []byte {
		if !strings.Contains(string(b), old) {
			t.Errorf("no %s in the file", old)
		}
		return []byte(strings.Replace(string(b), old, with, 1))
	}
}

func TestDamagedPartsOfAPipeline(t *testing.T) {
	state, model, out := t.TempDir(), copied(t, "world"), t.TempDir()
	for _, d := range []damage{
		{"empty weights", "transformer/diffusion_pytorch_model.safetensors", emptied, []string{"diffusion_pytorch_model.safetensors"}},
		{"half the weights", "text_encoder_2/model.safetensors", cut, []string{"text_encoder_2", "model.safetensors"}},
		{"a broken header", "vae/diffusion_pytorch_model.safetensors", func(b []byte) []byte { b[8] = ']'; return b }, []string{"vae", "diffusion_pytorch_model.safetensors"}},
		{"missing weights of a text tower", "text_encoder/model.safetensors", removed, []string{"text_encoder"}},
		{"a vocabulary of T5 cut off", "tokenizer_2/spiece.model", cut, []string{"tokenizer_2", "spiece.model"}},
		{"no merges", "tokenizer/merges.txt", removed, []string{"merges.txt"}},
		{"a vocabulary cut off", "tokenizer/vocab.json", cut, []string{"vocab.json"}},
		{"no scheduler", "scheduler/scheduler_config.json", removed, []string{"scheduler_config.json"}},
		{"a broken scheduler", "scheduler/scheduler_config.json", noJSON, []string{"scheduler_config.json"}},
		{"an index that is no JSON", "model_index.json", cut, []string{"model_index.json"}},
		{"another width", "text_encoder/config.json", swap(t, `"hidden_size": `, `"hidden_size": 1`), []string{"text_encoder"}},
	} {
		t.Run(d.name, func(t *testing.T) {
			defer d.apply(t, model)()
			r := fails(t, 3, state, append(d.words, "; "), "generate", "--model", model, "--prompt", "x", "--steps", "1", "--out", out)
			if strings.Contains(r.err, "panic") || strings.Contains(r.err, "goroutine") {
				t.Errorf("%s", r.err)
			}
		})
	}
	if left, _ := os.ReadDir(out); len(left) > 0 {
		t.Errorf("pictures of a damaged model: %v", left)
	}
	if r := inside(t, state, "generate", "--model", model, "--prompt", "x", "--steps", "1", "--out", out); r.code != 0 {
		t.Errorf("every damage is undone: %s", r)
	}
}

func TestDamagedPartsOfAScorer(t *testing.T) {
	state, model := t.TempDir(), copied(t, "world-sciscore")
	p, err := picture.New(8, 8).PNG()
	if err != nil {
		t.Fatal(err)
	}
	image := written(t, "p.png", string(p))
	for _, d := range []damage{
		{"no config", "config.json", removed, []string{"config.json"}},
		{"empty weights", "model.safetensors", emptied, []string{"model.safetensors"}},
		{"half the weights", "model.safetensors", cut, []string{"model.safetensors"}},
		{"no preprocessor", "preprocessor_config.json", removed, []string{"preprocessor_config.json"}},
		{"another size of pictures", "config.json", swap(t, `"image_size": `, `"image_size": 2`), nil},
		{"a vocabulary cut off", "tokenizer.json", cut, []string{"tokenizer.json"}},
	} {
		t.Run(d.name, func(t *testing.T) {
			defer d.apply(t, model)()
			fails(t, 3, state, append(d.words, "open sciscore "+model, "; give a CLIP model folder"), "score", "--model", model, "--prompt", "x", image)
		})
	}
	for name, data := range map[string]string{"empty.png": "", "cut.png": string(p[:len(p)/2]), "header.png": string(p[:8])} {
		fails(t, 3, state, []string{"read picture", name, "PNG, JPEG and WebP"}, "score", "--model", model, "--prompt", "x", image, written(t, name, data))
	}
}

// storedPicture and storedRow are the columns of a data set of somebody's own.
type storedPicture struct {
	Bytes []byte `parquet:"bytes"`
	Path  string `parquet:"path"`
}

type storedRow struct {
	Implicit    string          `parquet:"implicit_prompt"`
	Explicit    string          `parquet:"explicit_prompt"`
	Superficial string          `parquet:"superficial_prompt"`
	Right       []storedPicture `parquet:"explicit_image,list"`
	Wrong       []storedPicture `parquet:"superficial_image,list"`
	Object      string          `parquet:"object"`
	Law         string          `parquet:"law"`
}

// ownData writes splits train and test of n rows; change may alter a row.
func ownData(t *testing.T, n int, change func(i int, r *storedRow)) string {
	t.Helper()
	dir := t.TempDir()
	rows := []storedRow{}
	for i := range n {
		p := picture.New(64, 64)
		for k := range p.Pix {
			p.Pix[k] = byte(i + 3*k)
		}
		data, err := p.PNG()
		if err != nil {
			t.Fatal(err)
		}
		r := storedRow{fmt.Sprintf("an apple in spring %d", i), "a green apple", "a red apple", []storedPicture{{data, "a.png"}}, []storedPicture{{data, "b.png"}}, "apple", fmt.Sprintf("law %d", i%2)}
		change(i, &r)
		rows = append(rows, r)
	}
	for _, split := range []string{"train", "test"} {
		if err := parquet.WriteFile(filepath.Join(dir, split+"-00000-of-00001.parquet"), rows); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestDataInspectJSON(t *testing.T) {
	dir := ownData(t, 5, func(i int, r *storedRow) {
		switch i {
		case 1:
			r.Right[0].Bytes = r.Right[0].Bytes[:60]
		case 2:
			r.Object = ""
		case 3:
			r.Object = "pear"
		}
	})
	shape := map[string]string{"0.dir": jsonText, "0.split": jsonText, "0.rows": jsonWhole, "0.bytes": jsonWhole, "0.row_groups": jsonList, "0.columns.0.name": jsonText, "0.columns.0.kind": jsonText,
		"0.categories": jsonList, "0.laws.0.value": jsonText, "0.laws.0.rows": jsonWhole, "0.implicit_prompts": jsonWhole, "0.explicit_pictures": jsonWhole, "0.superficial_pictures": jsonWhole,
		"0.picture_sizes.0.value": jsonText, "0.problems": jsonList}
	v := hasShape(t, inside(t, t.TempDir(), "data", "inspect", dir, "--json").out, shape)
	if len(v.([]any)) != 2 || at(v, "0.rows") != 5.0 || at(v, "0.picture_sizes.0.value") != "64x64" || at(v, "0.laws.0.rows") != 3.0 {
		t.Errorf("%v", v)
	}
	problems := fmt.Sprint(at(v, "1.problems"))
	for _, word := range []string{"row 1: explicit picture", "row 2: no object noun", `row 3: object noun "pear"`} {
		if !strings.Contains(problems, word) {
			t.Errorf("no %q in %s", word, problems)
		}
	}
	text := inside(t, t.TempDir(), "data", "inspect", dir, "--split", "test")
	for _, word := range []string{"test: 5 rows", "explicit_image (list<image>)", "law 0", "problem: row 1: "} {
		if !strings.Contains(text.out, word) {
			t.Errorf("no %q in %s", word, text)
		}
	}
	fails(t, 3, t.TempDir(), []string{dir, "train", "test"}, "data", "inspect", dir, "--split", "tset")
	broken := written(t, "train-00000-of-00001.parquet", "PAR1 and no more")
	fails(t, 3, t.TempDir(), []string{filepath.Dir(broken)}, "data", "inspect", filepath.Dir(broken))
}

// promptFile writes the prompt file of stage 2.
func promptFile(t *testing.T, list ...map[string]string) string {
	t.Helper()
	text, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	return written(t, "prompts.json", string(text))
}
