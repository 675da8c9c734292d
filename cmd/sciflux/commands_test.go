package main

import (
	"bytes"
	"context"
	"image"
	_ "image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/spf13/cobra"
)

// smoke is one completed run that tests share; its services stay up.
var smoke struct {
	once sync.Once
	dir  string
	run  result
}

func smokeRun(t testing.TB) (state string) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs a pipeline")
	}
	smoke.once.Do(func() {
		var err error
		if smoke.dir, err = os.MkdirTemp("", "smoke"); err != nil {
			t.Fatal(err)
		}
		want(t, 0, smoke.dir, "up")
		smoke.run = sciflux(t, smoke.dir, small("compare.same_time_sft=true", "eval.during.every_epochs=2")...)
	})
	if smoke.run.code != 0 {
		t.Fatal(smoke.run)
	}
	return smoke.dir
}

func TestRunEndsWithTableAndReport(t *testing.T) {
	state := smokeRun(t)
	for _, word := range []string{"completed", "test_S", "test_C", "SFT + OFT", "SFT, same extra time", "RI gain over SFT", "outside", "index.html"} {
		if !strings.Contains(smoke.run.out, word) {
			t.Errorf("no %q in\n%s", word, smoke.run.out)
		}
	}
	for _, file := range []string{"report/index.html", "export/pytorch_lora_weights.safetensors", "config.yaml", "metrics.jsonl"} {
		if info, err := os.Stat(filepath.Join(state, "runs", "small", file)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", file, err)
		}
	}
	page, err := os.ReadFile(filepath.Join(state, "runs", "small", "report", "index.html"))
	if err != nil || !bytes.Contains(page, []byte("Time and cost")) || !bytes.Contains(page, []byte("EUR")) {
		t.Errorf("the report does not say what stages cost: %v", err)
	}
}

func TestShowHasWhatItPromises(t *testing.T) {
	s := show(t, smokeRun(t), "small")
	if s.Run != "small" || s.Status != "completed" || s.StepsTotal == 0 || !strings.HasPrefix(s.Adapter.URI, "s3://") || len(s.Checkpoints) == 0 {
		t.Errorf("%+v", s)
	}
	for _, split := range []string{"test_S", "test_C"} {
		for _, variant := range []string{"base", "sft", "oft"} {
			for _, key := range []string{"sp", "ep", "ip", "nd", "ri", "judge_ip", "judge_ep"} {
				if _, ok := s.Metrics[split][variant][key].(float64); !ok {
					t.Errorf("metrics.%s.%s.%s is %v", split, variant, key, s.Metrics[split][variant][key])
				}
			}
		}
	}
	if s.Metrics["test_S"]["base"]["ri"] != 0.0 {
		t.Error("the base has an RI over itself")
	}
}

func TestListKnowsTheRun(t *testing.T) {
	state := smokeRun(t)
	var names []string
	for _, r := range decode[[]struct{ Run, Status string }](t, want(t, 0, state, "ls", "--json").out) {
		names = append(names, r.Run+" "+r.Status)
	}
	if !slices.Contains(names, "small completed") {
		t.Errorf("%q", names)
	}
	if rows := want(t, 0, t.TempDir(), "ls", "--json"); strings.TrimSpace(rows.out) != "[]" {
		t.Errorf("an unused folder has runs: %s", rows)
	}
}

func TestSameRunAgainIsJoinedAndAnotherConfigRefused(t *testing.T) {
	state := smokeRun(t)
	r := want(t, 2, state, small("sft.lr=1e-5")...)
	if !strings.Contains(r.err, "another config") || !strings.Contains(r.err, "--name") {
		t.Error(r)
	}
	before := show(t, state, "small").Adapter
	want(t, 0, state, "resume", "small")
	if after := show(t, state, "small").Adapter; after != before {
		t.Errorf("resuming a completed run changed its adapter: %+v, %+v", before, after)
	}
}

func TestVerifyFindsOneFlippedBit(t *testing.T) {
	state := smokeRun(t)
	want(t, 0, state, "ckpt", "verify", "small")
	parts, err := filepath.Glob(filepath.Join(state, "services", "s3", "*", "*", "runs", "small", "checkpoints", "sft", "parts", "*", "*.safetensors"))
	if len(parts) == 0 {
		t.Fatal("no parts on disk", err)
	}
	data, err := os.ReadFile(parts[0])
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(data)
	flipped[len(flipped)/2] ^= 1
	overwrite := func(data []byte) {
		if err := os.WriteFile(parts[0], data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	overwrite(flipped)
	defer overwrite(data)
	r := want(t, 3, state, "ckpt", "verify", "small", "--json")
	if !strings.Contains(r.out, `"ok": false`) && !strings.Contains(r.out, `"ok":false`) || !strings.Contains(r.err, "damaged") {
		t.Error(r)
	}
}

func TestWatchAndLogsOfACompletedRun(t *testing.T) {
	state := smokeRun(t)
	if r := want(t, 0, state, "watch", "small"); !strings.Contains(r.out, "completed") {
		t.Error(r)
	}
	if r := want(t, 0, state, "logs", "small"); r.out == "" {
		t.Error("no logs")
	}
}

func TestSecretsStayOutOfWhatIsStored(t *testing.T) {
	state := smokeRun(t)
	path := filepath.Join(state, "services", "credentials.json")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", info, err)
	}
	text, _ := os.ReadFile(path)
	var secrets []string
	for key, value := range decode[map[string]any](t, string(text)) {
		if s, ok := value.(string); ok && strings.Contains(strings.ToLower(key), "secret") {
			secrets = append(secrets, s)
		}
	}
	if len(secrets) == 0 {
		t.Fatalf("no secret in %s", path)
	}
	err = filepath.WalkDir(state, func(file string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || file == path {
			return nil //nolint:nilerr // services come and go with files while this looks
		}
		data, _ := os.ReadFile(file)
		for _, s := range secrets {
			if bytes.Contains(data, []byte(s)) && !strings.HasSuffix(file, "services.json") {
				t.Errorf("%s holds a secret", file)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestGenerateAndScore(t *testing.T) {
	state, out := smokeRun(t), t.TempDir()
	adapter := filepath.Join(state, "runs", "small", "export")
	draw := func(into string, more ...string) []string {
		r := want(t, 0, state, append([]string{"generate", "--model", "world", "--prompt", "an unripe apple on a table", "--prompt", "a red apple",
			"--seed", "3", "--steps", "4", "--out", filepath.Join(out, into), "--json"}, more...)...)
		var paths []string
		for _, p := range decode[[]struct{ Path string }](t, r.out) {
			paths = append(paths, p.Path)
		}
		return paths
	}
	plain, again, tuned := draw("a"), draw("b"), draw("c", "--adapter", adapter)
	read := func(path string) []byte {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	if len(plain) != 2 || !bytes.Equal(read(plain[0]), read(again[0])) || bytes.Equal(read(plain[0]), read(tuned[0])) {
		t.Error("equal seeds must give equal pictures, an adapter others")
	}
	if c, _, err := image.DecodeConfig(bytes.NewReader(read(plain[1]))); err != nil || c.Width != 64 || c.Height != 64 {
		t.Errorf("%+v %v", c, err)
	}
	r := want(t, 0, state, "score", "--model", "world", "--prompt", "an unripe apple on a table", "--prompt", "a red apple", "--json", plain[0], plain[1])
	scores := decode[[]struct {
		Image, Prompt string
		Score         float64
	}](t, r.out)
	if len(scores) != 4 || scores[0].Image != plain[0] || scores[0].Score == scores[1].Score {
		t.Errorf("%+v", scores)
	}
	broken := filepath.Join(out, "broken.png")
	if err := os.WriteFile(broken, read(plain[0])[:100], 0o600); err != nil {
		t.Fatal(err)
	}
	r = want(t, 3, state, "score", "--model", "world", "--prompt", "x", broken)
	if !strings.Contains(r.err, "broken.png") {
		t.Error(r)
	}
}

func TestDataIsDrawnAndInspected(t *testing.T) {
	dir := t.TempDir()
	r := want(t, 0, dir, "data", "world", "--out", filepath.Join(dir, "w"), "--train", "32", "--json")
	if rows := decode[struct{ Rows map[string]int }](t, r.out).Rows; rows["train"] != 32 || rows["test_S"] < 136 || rows["test_C"] < 136 {
		t.Errorf("%v", rows)
	}
	r = want(t, 0, dir, "data", "inspect", filepath.Join(dir, "w"), "--split", "train")
	if !strings.Contains(r.out, "train: 32 rows") {
		t.Error(r)
	}
	want(t, 3, dir, "data", "inspect", filepath.Join(dir, "nowhere"))
}

func TestParityCommand(t *testing.T) {
	dir := t.TempDir()
	if r := want(t, 0, dir, "parity", "../../testdata/golden"); r.out == "" {
		t.Error("no rows")
	}
	want(t, 2, dir, "parity", dir)
}

func TestBenchJSON(t *testing.T) {
	dir := t.TempDir()
	step := decode[map[string]any](t, want(t, 0, dir, "bench", "step", "--model", "world", "--batch", "2", "--image-tokens", "16", "--text-tokens", "8",
		"--steps", "2", "--rank", "4", "--memory", "full", "--json").out)
	for _, key := range []string{"step_seconds", "min_seconds", "peak_rss_bytes", "batch", "image_tokens", "text_tokens", "dtype", "loss"} {
		if step[key] == nil {
			t.Errorf("bench step has no %s: %v", key, step)
		}
	}
	if step["batch"] != 2.0 || step["text_tokens"] != 8.0 {
		t.Errorf("%v", step)
	}
	score := decode[map[string]any](t, want(t, 0, dir, "bench", "score", "--model", "world", "--json").out)
	for _, key := range []string{"images_per_second", "peak_rss_bytes"} {
		if v, ok := score[key].(float64); !ok || v <= 0 {
			t.Errorf("bench score: %s is %v", key, score[key])
		}
	}
}

func TestSmallCommands(t *testing.T) {
	dir := t.TempDir()
	for _, key := range []string{"cores", "isa", "onednn", "gpu", "ports", "free_disk_bytes"} {
		if _, ok := decode[map[string]any](t, want(t, 0, dir, "doctor", "--json").out)[key]; !ok {
			t.Errorf("doctor has no %s", key)
		}
	}
	if r := want(t, 0, dir, "version", "--json"); !strings.Contains(r.out, "version") {
		t.Error(r)
	}
	if r := want(t, 0, dir, "config", "show", "flux-dev-paper"); !strings.Contains(r.out, `step: "paper"`) {
		t.Error(r)
	}
	decode[map[string]any](t, want(t, 0, dir, "config", "schema").out)
	want(t, 0, dir, "down")
}

// every command has an example that its own flags and arguments accept.
func TestExamplesParse(t *testing.T) {
	a := &app{}
	var check func(c *cobra.Command)
	check = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			if sub.Name() != "help" && sub.Name() != "completion" {
				check(sub)
			}
		}
		if c.Runnable() && c.Example == "" {
			t.Errorf("%s has no example", c.CommandPath())
		}
		for line := range strings.Lines(c.Example) {
			line, _, _ = strings.Cut(strings.TrimSpace(line), " >")
			words := splitWords(line)
			if len(words) == 0 || words[0] != "sciflux" {
				t.Errorf("%s: example %q", c.CommandPath(), line)
				continue
			}
			found, rest, err := a.root().Find(words[1:])
			if err == nil {
				err = found.ParseFlags(rest)
			}
			if err == nil {
				err = found.ValidateArgs(found.Flags().Args())
			}
			if err == nil {
				err = found.ValidateRequiredFlags()
			}
			if err != nil || found.Name() == "sciflux" {
				t.Errorf("%s: %q: %v", c.CommandPath(), line, err)
			}
		}
	}
	check(a.root())
}

// splitWords splits at spaces outside double quotes.
func splitWords(line string) []string {
	quoted := false
	words := strings.FieldsFunc(line, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return r == ' ' && !quoted
	})
	for i := range words {
		words[i] = strings.ReplaceAll(words[i], `"`, "")
	}
	return slices.DeleteFunc(words, func(s string) bool { return s == "" })
}

func TestHelpNamesExitCodes(t *testing.T) {
	var out bytes.Buffer
	a := &app{out: &out, err: &out, in: strings.NewReader("")}
	if code := a.run(context.Background(), []string{"--help"}); code != 0 || !strings.Contains(out.String(), "4  interrupted but resumable") {
		t.Errorf("%d %s", code, out.String())
	}
}
