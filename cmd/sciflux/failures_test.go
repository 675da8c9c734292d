package main

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// inside runs a command in this process.
func inside(t testing.TB, state string, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	a := &app{in: strings.NewReader(""), out: &out, err: &errs, environ: append(os.Environ(), "SCIFLUX_STATE_DIR="+state), version: "test"}
	code := a.run(t.Context(), args)
	return result{code, out.String(), errs.String()}
}

// fails runs a command that must end with a code and one line of error that holds all words.
func fails(t testing.TB, code int, state string, words []string, args ...string) result {
	t.Helper()
	r := inside(t, state, args...)
	if r.code != code {
		t.Errorf("sciflux %s: want exit code %d, got %s", strings.Join(args, " "), code, r)
	}
	if !strings.HasPrefix(r.err, "sciflux: ") || strings.Count(r.err, "\n") != 1 {
		t.Errorf("sciflux %s: not one line of error: %q", strings.Join(args, " "), r.err)
	}
	for _, word := range words {
		if !strings.Contains(r.err, word) {
			t.Errorf("sciflux %s: no %q in %q", strings.Join(args, " "), word, r.err)
		}
	}
	return r
}

func TestUsageErrors(t *testing.T) {
	state := t.TempDir()
	for _, c := range []struct {
		args  string
		words []string
	}{
		{"frobnicate", []string{"frobnicate", "sciflux --help"}},
		{"resum world", []string{"resum", "Did you mean this? resume"}},
		{"run", []string{"use sciflux run", "usage: sciflux run PRESET|FILE", "sciflux run --help"}},
		{"run world more", []string{"accepts 1 arg(s), received 2"}},
		{"run world --nope", []string{"unknown flag: --nope", "sciflux run --help"}},
		{"run world --set", []string{"needs an argument: --set"}},
		{"ckpt verify", []string{"usage: sciflux ckpt verify RUN"}},
		{"generate --model world", []string{`"prompt" not set`}},
		{"run nosuch", []string{"nosuch", "flux-dev-paper", "world-smoke", "path"}},
		{"run world --set sft.stepz=3", []string{"sft.stepz", "did you mean sft.steps"}},
		{"run world --set sft.learning_rate=3", []string{"did you mean sft.lr"}},
		{"run world --set stepz=3", []string{"stepz", "did you mean"}},
		{"run world --set sft.lr=abc", []string{"sft.lr", "expected number", `"abc"`}},
		{"run world --set sft.lr=-1", []string{"sft.lr"}},
		{"run world --set oft.mask.policy=box", []string{"oft.mask.policy", "detector"}},
		{"run world --set oft.prompts_per_epoch=5 --set oft.accumulate_pairs=2", []string{"accumulate_pairs"}},
		{"run world --set data.resolution=50", []string{"data.resolution", "16"}},
		{"run world --set oft.mask.detector=models/grounding-dino-base", []string{"oft.mask.detector", "no detector model is supported yet", "full or none"}},
		{"run world --set data.source=mine", []string{"oft.mask.policy", "no detector model is supported yet", "full or none"}},
		{"run world --name Upper", []string{"Upper", "a-z"}},
		{"config show world --set name=Upper", []string{"Upper", "a-z"}},
		{"show nosuch", []string{"find run nosuch", state, "sciflux ls"}},
		{"resume nosuch", []string{"find run nosuch"}},
		{"watch nosuch", []string{"find run nosuch"}},
		{"ckpt ls nosuch", []string{"find run nosuch"}},
		{"ckpt verify ../etc", []string{"../etc"}},
		{"logs nosuch", []string{"nosuch", "sciflux ls"}},
		{"bench step --model world --dtype int8", []string{"--dtype int8", "bfloat16"}},
		{"bench step --model world --memory some", []string{"--memory some", "selective"}},
		{"bench step --model world --steps 0", []string{"--steps 0", "at least 1"}},
		{"bench score --model world --images 0", []string{"--images 0"}},
		{"parity nowhere", []string{"nowhere", "case.json"}},
		{"parity --dtype float16 nowhere", []string{"float16", "bfloat16"}},
		{"parity --device tpu nowhere", []string{"--device"}},
		{"up --s3-port 99999", []string{"99999", "65535"}},
		{"bench step --model world --batch 0 --rank 0 --steps 0", []string{"--batch 0"}},
		{"generate --model world --prompt x --size -64", []string{"--size -64", "above 0"}},
		{"generate --model world --prompt x --steps -3", []string{"-3"}},
		{"score --model world --prompt x", []string{"usage: sciflux score --model DIR --prompt TEXT IMAGE"}},
		{"data inspect", []string{"usage: sciflux data inspect DIR"}},
		{"resume world --set oft.epochs=-1", []string{"oft.epochs"}},
		{"run world --set reward.sciscore=https://models.example/sciscore", []string{"reward.sciscore", "is an address", "copy it"}},
		{"data world --out x --side 3", []string{"at least 16"}},
		{"config show nosuch", []string{"nosuch"}},
	} {
		r := fails(t, 2, state, c.words, strings.Fields(c.args)...)
		if r.out != "" {
			t.Errorf("%s: output beside the error: %q", c.args, r.out)
		}
	}
	if entries, err := os.ReadDir(state); err != nil || len(entries) > 0 {
		t.Errorf("a wrong command left %v %v", entries, err)
	}
}

func TestErrorsAsJSON(t *testing.T) {
	for _, args := range [][]string{{"show", "nosuch", "--json"}, {"run", "--json"}, {"run", "world", "--set", "sft.stepz=1", "--json"}} {
		r := inside(t, t.TempDir(), args...)
		f := decode[struct {
			Error, Class, Hint string
			ExitCode           int `json:"exit_code"`
		}](t, r.err)
		if r.code != 2 || f.ExitCode != 2 || f.Class != "config" || f.Error == "" || r.out != "" {
			t.Errorf("%v: %+v from %s", args, f, r)
		}
	}
}

// copied is a folder that holds the tiny model, or its scorer, for a test to damage.
func copied(t *testing.T, inside string) string {
	t.Helper()
	a := &app{environ: []string{"SCIFLUX_STATE_DIR=" + t.TempDir()}}
	from, err := a.modelFolder(builtin, inside)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "model")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// largest is the largest file with an ending below a folder.
func largest(t *testing.T, dir, ending string) string {
	t.Helper()
	best, size := "", int64(-1)
	paths, err := filepath.Glob(filepath.Join(dir, "*"+ending))
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil && info.Size() > size {
			best, size = path, info.Size()
		}
	}
	if best == "" {
		t.Fatalf("no %s in %s: %v", ending, dir, err)
	}
	return best
}

func TestDamagedModels(t *testing.T) {
	state, out := t.TempDir(), t.TempDir()
	rewrite := func(path string, change func([]byte) []byte) {
		t.Helper()
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_ = os.Remove(path) // the file may be read-only
		if err := os.WriteFile(path, change(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		damage func(model string)
		words  []string
	}{
		"truncated weights": {func(m string) {
			rewrite(largest(t, filepath.Join(m, "transformer"), ".safetensors"), func(b []byte) []byte { return b[:len(b)-1000] })
		}, []string{"transformer", ".safetensors"}},
		"missing weights": {func(m string) { _ = os.Remove(largest(t, filepath.Join(m, "vae"), ".safetensors")) }, []string{"vae"}},
		"another shape": {func(m string) {
			rewrite(filepath.Join(m, "transformer", "config.json"), func(b []byte) []byte {
				return bytes.Replace(b, []byte(`"in_channels": 64`), []byte(`"in_channels": 32`), 1)
			})
		}, []string{"transformer"}},
		"no vocabulary":     {func(m string) { _ = os.Remove(filepath.Join(m, "tokenizer", "vocab.json")) }, []string{"vocab.json"}},
		"no pipeline index": {func(m string) { _ = os.Remove(filepath.Join(m, "model_index.json")) }, []string{"model_index.json"}},
		"broken config": {func(m string) {
			rewrite(filepath.Join(m, "text_encoder_2", "config.json"), func([]byte) []byte { return []byte("{") })
		}, []string{"text_encoder_2"}},
	} {
		t.Run(name, func(t *testing.T) {
			model := copied(t, "world")
			c.damage(model)
			fails(t, 3, state, c.words, "generate", "--model", model, "--prompt", "x", "--steps", "1", "--out", out)
		})
	}
	fails(t, 3, state, []string{"/nonexistent", "model_index.json"}, "generate", "--model", "/nonexistent", "--prompt", "x", "--out", out)
	fails(t, 3, state, []string{"/nonexistent"}, "bench", "step", "--model", "/nonexistent")
	fails(t, 3, state, []string{"/nonexistent"}, "bench", "score", "--model", "/nonexistent")
}

func TestBadAdaptersAndPictures(t *testing.T) {
	state, dir := t.TempDir(), t.TempDir()
	text := filepath.Join(dir, "text.png")
	if err := os.WriteFile(text, []byte("no picture"), 0o600); err != nil {
		t.Fatal(err)
	}
	adapter := filepath.Join(dir, "a.safetensors")
	if err := os.WriteFile(adapter, []byte("no adapter"), 0o600); err != nil {
		t.Fatal(err)
	}
	fails(t, 3, state, []string{"read picture", "text.png", "PNG"}, "score", "--model", "world", "--prompt", "x", text)
	fails(t, 3, state, []string{"nowhere.png"}, "score", "--model", "world", "--prompt", "x", filepath.Join(dir, "nowhere.png"))
	fails(t, 3, state, []string{"a.safetensors"}, "generate", "--model", "world", "--adapter", adapter, "--prompt", "x", "--out", dir)
	fails(t, 3, state, []string{"nowhere"}, "generate", "--model", "world", "--adapter", filepath.Join(dir, "nowhere"), "--prompt", "x", "--out", dir)
	fails(t, 3, state, []string{"scorer"}, "score", "--model", filepath.Join(dir, "scorer"), "--prompt", "x", text)
	empty := filepath.Join(dir, "empty")
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	fails(t, 3, state, []string{empty}, "data", "inspect", empty)
	fails(t, 3, state, []string{empty, "train"}, "data", "inspect", empty, "--split", "train")
}

// closedPort is a port of this machine at which nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestServicesOutOfReach(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	state, start := t.TempDir(), time.Now()
	address := closedPort(t)
	fails(t, 1, state, []string{"reach temporal", address, "temporal.address"}, "run", "world-smoke", "--set", "temporal.address="+address,
		"--set", "store.kind=disk", "--set", "store.path="+t.TempDir())
	fails(t, 1, state, []string{address, "sciflux", "store.endpoint"}, "run", "world-smoke", "--name", "b", "--set", "store.kind=s3", "--set", "store.endpoint=http://"+address)
	if _, err := os.Stat(servicesDir(state)); err == nil {
		t.Error("services were started although the store cannot be reached")
	}
	fails(t, 2, state, []string{"store"}, "run", "world-smoke", "--name", "c", "--set", "store.kind=disk")
	if took := time.Since(start); took > 2*time.Minute {
		t.Errorf("took %v", took)
	}
}

func TestPortTakenAndFolderThatCannotBeWritten(t *testing.T) {
	state := stateDir(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	fails(t, 2, state, []string{"start services", "port " + port, "S3", "choose another port"}, "up", "--s3-port", port)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	below := filepath.Join(file, "state")
	fails(t, 2, below, []string{below, "choose a state folder that can be written"}, "run", "world-smoke")
	fails(t, 2, below, []string{below, "choose a state folder that can be written"}, "up")
}

// What can be known before training is said before it, and the run is then there to be looked at.
func TestRunsThatCannotStart(t *testing.T) {
	if testing.Short() {
		t.Skip("starts services")
	}
	state := stateDir(t)
	up := decode[struct {
		Ready float64 `json:"ready_seconds"`
		PID   int
	}](t, want(t, 0, state, "up", "--json").out)
	if up.Ready <= 0 || up.PID == 0 {
		t.Errorf("%+v", up)
	}
	t.Logf("services ready after %.1f s", up.Ready)
	model, empty, prompts := copied(t, "world"), t.TempDir(), filepath.Join(t.TempDir(), "prompts.json")
	_ = os.Remove(largest(t, filepath.Join(model, "vae"), ".safetensors"))
	if err := os.WriteFile(prompts, []byte(`[{"prompt": "an unripe`), 0o600); err != nil {
		t.Fatal(err)
	}
	drawn := filepath.Join(t.TempDir(), "drawn")
	want(t, 0, state, "data", "world", "--train", "32", "--out", drawn)
	wordless, scorer := copied(t, "world"), copied(t, "world-sciscore")
	damage{file: "tokenizer_2/tokenizer.json", spoil: removed}.apply(t, wordless)
	damage{file: "tokenizer_2/spiece.model", spoil: removed}.apply(t, wordless)
	damage{file: "model.safetensors", spoil: cut}.apply(t, scorer)
	whole := func(int, *storedRow) {}
	own, rowless := ownData(t, 3, whole), ownData(t, 0, whole)
	torn := ownData(t, 3, func(_ int, r *storedRow) { r.Right[0].Bytes = cut(r.Right[0].Bytes) })
	const unmasked = " oft.mask.policy=full eval.splits=test"
	for i, c := range []struct {
		set   string
		words []string
	}{
		{"model.pipeline=" + wordless, []string{"tokenizer_2"}},
		{"reward.sciscore=" + scorer, []string{"open reward.sciscore " + scorer, "model.safetensors", "name a CLIP model folder"}},
		{"reward.sciscore=" + filepath.Join(empty, "none"), []string{"open reward.sciscore " + empty, "no such file", "name a CLIP model folder"}},
		{"data.source=" + rowless + unmasked, []string{rowless, "split train: no rows", "choose another split"}},
		{"data.source=" + torn + unmasked, []string{torn, "split train row 0: explicit picture", "sciflux data inspect"}},
		{"data.source=" + own + " data.train_split=trian" + unmasked, []string{own, "trian"}},
		{"data.source=" + own + " data.prompts=" + promptFile(t) + unmasked, []string{"prompts.json", "not a list of prompts"}},
		{"model.pipeline=" + model, []string{"vae"}},
		{"data.source=" + empty + " oft.mask.policy=none", []string{empty}},
		{"data.source=" + drawn + " oft.mask.policy=none data.prompts=" + prompts, []string{prompts}},
		{"reward.sciscore=" + empty, []string{empty}},
		{"model.adapter=" + prompts, []string{prompts}},
	} {
		name := "r" + strconv.Itoa(i)
		start := time.Now()
		r := fails(t, 3, state, c.words, append([]string{"run", "world-smoke", "--name", name}, sets(strings.Fields(c.set)...)...)...)
		if strings.Contains(r.out, "loss") {
			t.Errorf("%s: it trained first: %s", c.set, r.out)
		}
		t.Logf("%s: said after %v", c.set, time.Since(start).Round(time.Millisecond))
		if s := show(t, state, name); s.Status != "failed" {
			t.Errorf("%s: status %s", c.set, s.Status)
		}
	}
}

// Services that answer but do not let this user in: the key to correct is named, the secret is not, and nothing is started.
func TestServicesThatRefuse(t *testing.T) {
	up := decode[struct {
		Temporal string `json:"temporal_address"`
		S3       string `json:"s3_endpoint"`
		Bucket   string
	}](t, inside(t, smokeRun(t), "up", "--json").out)
	const secret = "b4dK3yb4dK3yb4dK3y"
	text, err := os.ReadFile(filepath.Join(smokeRun(t), "services", "credentials.json"))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("UNKNOWN_ACCESS_KEY", "somebody")
	t.Setenv("AWS_ACCESS_KEY_ID", decode[map[string]string](t, string(text))["access_key"])
	t.Setenv("AWS_SECRET_ACCESS_KEY", secret)
	state, disk := t.TempDir(), "store.kind=disk store.path="+t.TempDir()+" "
	external := "store.kind=s3 store.endpoint=" + up.S3 + " "
	for name, c := range map[string]struct {
		set   string
		words []string
	}{
		"wrong secret":       {external + "store.bucket=" + up.Bucket, []string{up.Bucket, "credentials"}},
		"unknown access key": {external + "store.access_key.env=UNKNOWN_ACCESS_KEY store.bucket=" + up.Bucket, []string{up.Bucket + " at " + up.S3, "store.access_key"}},
		"no such bucket":     {external + "store.bucket=nosuch", []string{"nosuch", "bucket name"}},
		"unset variable":     {external + "store.secret_key.env=NOT_SET_ANYWHERE", []string{"store.secret_key", "NOT_SET_ANYWHERE is not set", "export it"}},
		"no secret file":     {external + "store.secret_key.file=/nowhere/secret", []string{"store.secret_key.file /nowhere/secret", "no such file"}},
		"empty secret file":  {external + "store.access_key.file=" + written(t, "key", "\n"), []string{"store.access_key.file", "empty"}},
		"no such namespace":  {disk + "temporal.namespace=nosuch temporal.address=" + up.Temporal, []string{"temporal namespace nosuch", "temporal.namespace"}},
		"no certificate":     {disk + "temporal.tls.ca_file=" + written(t, "ca.pem", "none") + " temporal.address=" + up.Temporal, []string{"ca.pem", "no certificate", "temporal.tls"}},
		"a key without file": {disk + "temporal.api_key.env=NOT_SET_ANYWHERE temporal.address=" + up.Temporal, []string{"temporal.api_key", "NOT_SET_ANYWHERE"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := fails(t, 2, state, c.words, append([]string{"run", "world-smoke", "--name", strings.ReplaceAll(name, " ", "-")}, sets(strings.Fields(c.set)...)...)...)
			if strings.Contains(r.err+r.out, secret) {
				t.Errorf("the secret is printed: %s", r)
			}
		})
	}
	if _, err := os.Stat(servicesDir(state)); err == nil {
		t.Error("services were started all the same")
	}
	err = filepath.WalkDir(state, func(file string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if text, _ := os.ReadFile(file); bytes.Contains(text, []byte(secret)) {
			t.Errorf("%s holds the secret", file)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A disk that is nearly full is told before the services make their database on it.
func TestNoSpaceOnTheDisk(t *testing.T) {
	dir := smallDisk(t, "32m")
	for _, args := range [][]string{{"up"}, {"run", "world-smoke"}} {
		fails(t, 1, dir, []string{"start services " + servicesDir(dir), "MiB left on the disk", "free some space or choose another state folder"}, args...)
	}
	v := decode[machine](t, inside(t, dir, "doctor", "--json").out)
	if v.FreeDisk > 32<<20 || !slices.ContainsFunc(v.Warnings, func(w string) bool { return strings.Contains(w, "disk of the state folder") }) {
		t.Errorf("doctor sees %d bytes free and warns of %q", v.FreeDisk, v.Warnings)
	}
}

// A run that failed on its input goes on when that is mended, under its own name.
func TestMendedInputIsResumed(t *testing.T) {
	state, scorer := smokeRun(t), t.TempDir()
	fails(t, 3, state, []string{"reward.sciscore " + scorer, "config.json"}, tiny("mended", "reward.sciscore="+scorer)...)
	if s := show(t, state, "mended"); s.Status != "failed" || s.Step != 0 {
		t.Errorf("%+v", s)
	}
	if err := os.CopyFS(scorer, os.DirFS(copied(t, "world-sciscore"))); err != nil {
		t.Fatal(err)
	}
	want(t, 0, state, "resume", "mended")
	if s := show(t, state, "mended"); s.Status != "completed" || len(s.Adapter.SHA256) != 64 {
		t.Errorf("%+v", s)
	}
}

// A name is free as long as nothing has come of its config: who mends a wrong path need not find another name.
func TestMendedConfigKeepsItsName(t *testing.T) {
	state, nowhere := smokeRun(t), filepath.Join(t.TempDir(), "nowhere")
	fails(t, 3, state, []string{"reward.sciscore", nowhere}, tiny("typo", "reward.sciscore="+nowhere)...)
	want(t, 0, state, tiny("typo")...)
	if s := show(t, state, "typo"); s.Status != "completed" {
		t.Errorf("%+v", s)
	}
	fails(t, 2, state, []string{"another config", "--name"}, tiny("typo", "sft.lr=1e-5")...)
}

// sets are the flags of keys with values.
func sets(keys ...string) (flags []string) {
	for _, key := range keys {
		flags = append(flags, "--set", key)
	}
	return flags
}

// The run's own record says how much time orchestration and storage took.
func TestShowSaysWhereTimeWent(t *testing.T) {
	r := want(t, 0, smokeRun(t), "show", "small", "--json")
	at := decode[struct {
		Timing struct {
			Wall     float64 `json:"wall_seconds"`
			Activity float64 `json:"activity_seconds"`
			Outside  float64 `json:"outside_share"`
			Train    float64 `json:"train_seconds"`
			Save     float64 `json:"save_seconds"`
			Share    float64 `json:"save_share"`
		}
	}](t, r.out).Timing
	if at.Wall <= 0 || at.Activity <= 0 || at.Activity > at.Wall || at.Train <= 0 || at.Train > at.Activity || at.Save <= 0 || at.Save > at.Train {
		t.Errorf("%+v", at)
	}
	if at.Outside < 0 || at.Outside > 0.5 || at.Share <= 0 || at.Share > 0.9 {
		t.Errorf("shares are out of all proportion: %+v", at)
	}
	t.Logf("%.1f %% outside activities, %.1f %% of training waits for checkpoints", 100*at.Outside, 100*at.Share)
}
