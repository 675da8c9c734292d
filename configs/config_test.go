package configs

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "rewrite schema.json and docs/config.md from the field comments")

func TestPresetsHold(t *testing.T) {
	want := []string{"flux-dev", "flux-dev-paper", "world", "world-smoke"}
	if diff := cmp.Diff(want, Presets()); diff != "" {
		t.Fatal(diff)
	}
	for _, name := range want {
		c, err := Load(Sources{Name: name})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c.Preset != name || c.Name != name {
			t.Errorf("%s: preset %q name %q", name, c.Preset, c.Name)
		}
	}
}

// The authors' settings, from their code.
func TestPaperPresetHasTheAuthorsSettings(t *testing.T) {
	c, err := Load(Sources{Name: "flux-dev-paper"})
	if err != nil {
		t.Fatal(err)
	}
	if f := (Forms{"paper", "paper", "paper", "paper", "paper"}); c.OFT.Forms != f {
		t.Errorf("forms %+v", c.OFT.Forms)
	}
	sft := []any{c.SFT.LR, c.SFT.Batch, c.SFT.Accumulate, c.SFT.WeightDecay, c.SFT.MaxGradNorm, c.SFT.Guidance, c.SFT.Density.Kind, c.SFT.Weighting}
	if diff := cmp.Diff([]any{2e-5, 4, 8, 1e-4, 1.0, 0.0, "uniform", "none"}, sft); diff != "" {
		t.Errorf("sft: %s", diff)
	}
	oft := []any{c.OFT.LR, c.OFT.Beta, c.OFT.EpsClamp, c.OFT.SChurn, c.OFT.Steps, c.OFT.PromptsPerEpoch, c.OFT.ImagesPerPrompt, c.OFT.AccumulatePairs}
	if diff := cmp.Diff([]any{3e-4, 10.0, 0.1, 0.1, 30, 8, 2, 2}, oft); diff != "" {
		t.Errorf("oft: %s", diff)
	}
	if c.LoRA.Rank != 16 || c.LoRA.Alpha != 16 || c.LoRA.Init != "gaussian" || c.Data.Resolution != 512 {
		t.Errorf("lora %+v resolution %d", c.LoRA, c.Data.Resolution)
	}
}

func TestRulesBetweenFields(t *testing.T) {
	for _, tc := range []struct {
		set  []string
		path string // "" when the settings are allowed
	}{
		{set: []string{"sft.steps=0", "oft.epochs=0"}, path: "sft.steps"},
		{set: []string{"sft.steps=0"}},
		{set: []string{"oft.epochs=0"}},
		{set: []string{"sft.warmup_steps=400"}, path: "sft.warmup_steps"},
		{set: []string{"sft.warmup_steps=399"}},
		{set: []string{"oft.epochs=2", "oft.warmup_steps=8"}, path: "oft.warmup_steps"},
		{set: []string{"sft.density.mean=1"}, path: "sft.density.kind"},
		{set: []string{"sft.density.kind=logit_normal", "sft.density.mean=1"}},
		{set: []string{"oft.s_churn=0"}, path: "oft.s_churn"},
		{set: []string{"oft.s_churn=0", "oft.epochs=0"}},
		{set: []string{"oft.accumulate_pairs=3"}, path: "oft.accumulate_pairs"},
		{set: []string{"oft.forms.sigmas=paper"}, path: "oft.forms.sigmas"},
		{set: []string{"oft.forms.sigmas=paper", "oft.forms.step=corrected"}},
		{set: []string{"oft.method=dgpo", "oft.beta=20"}, path: "oft.beta"},
		{set: []string{"oft.method=nft", "oft.dgpo.beta=20"}, path: "oft.dgpo.beta"},
		{set: []string{"oft.nft.old.cap=0.9"}, path: "oft.nft.old.cap"},
		{set: []string{"oft.method=dpo_flow", "oft.advantage.clip=1"}, path: "oft.advantage.clip"},
		{set: []string{"oft.method=awm", "oft.noise_window.size=2"}, path: "oft.noise_window.size"},
		{set: []string{"oft.method=dpg"}, path: "oft.method"},
		{set: []string{"oft.method=nft", "oft.images_per_prompt=1"}, path: "oft.images_per_prompt"},
		{set: []string{"oft.method=dgpo", "oft.updates=8"}, path: "oft.updates"},
		{set: []string{"oft.method=dgpo", "oft.updates=3"}, path: "oft.updates"},
		{set: []string{"oft.method=dgpo", "oft.updates=2"}},
		{set: []string{"oft.method=dgpo", "oft.times.count=31"}, path: "oft.times.count"},
		{set: []string{"oft.method=dgpo", "oft.times.count=30", "oft.times.fraction=1"}},
		{set: []string{"oft.method=dgpo", "oft.accumulate_pairs=3"}, path: "oft.accumulate_pairs"},
		{set: []string{"oft.method=dgpo", "oft.dgpo.clip=1e-4", "oft.dgpo.old.cap=1"}, path: "oft.dgpo.old.cap"},
		{set: []string{"oft.updates=30"}, path: "oft.updates"},
		{set: []string{"oft.updates=29"}},
		{set: []string{"oft.noisy_steps=4", "oft.updates=8"}, path: "oft.updates"},
		{set: []string{"oft.noisy_steps=4", "oft.updates=3"}, path: "oft.updates"},
		{set: []string{"oft.noise_window.size=4", "oft.updates=2"}},
		{set: []string{"oft.noise_window.size=16"}, path: "oft.noise_window.size"},
		{set: []string{"oft.noise_window.size=4", "oft.noise_window.high=30"}, path: "oft.noise_window.high"},
		{set: []string{"oft.noise_window.size=4", "oft.noise_window.high=30", "oft.forms.step=corrected"}},
		{set: []string{"oft.noise_window.size=4", "oft.noise_window.low=12"}, path: "oft.noise_window.size"},
		{set: []string{"oft.noise_window.size=2", "oft.noisy_steps=3"}, path: "oft.noise_window.size"},
		{set: []string{"oft.forms.step=cps", "oft.s_churn=0", "oft.eta=0.5"}},
		{set: []string{"oft.forms.step=cps", "oft.eta=1.5"}, path: "oft.eta"},
		{set: []string{"oft.eta=0.5"}, path: "oft.eta"},
		{set: []string{"oft.forms.step=cps", "oft.forms.sigmas=paper"}, path: "oft.forms.sigmas"},
		{set: []string{"oft.steps=1"}, path: "oft.steps"},
		{set: []string{"oft.kl_limit=1e-5"}, path: "oft.kl_limit"},
		{set: []string{"oft.trust=kl_mask", "oft.kl_limit=1e-5"}},
		{set: []string{"oft.trust=none", "oft.eps_clamp=0.2"}, path: "oft.eps_clamp"},
		{set: []string{"oft.method=nft", "stop.kl_to_reference.limit=2"}, path: "stop.kl_to_reference.limit"},
		{set: []string{"stop.distance_to_reference.limit=2"}, path: "stop.distance_to_reference.limit"},
		{set: []string{"oft.mask.policy=none", "stop.dead_masks.action=pause"}, path: "stop.dead_masks.action"},
		{set: []string{"data.resolution=72"}, path: "data.resolution"},
		{set: []string{"data.source=d"}, path: "oft.mask.policy"},
		{set: []string{"oft.mask.detector=models/grounding-dino-base"}, path: "oft.mask.detector"},
		{set: []string{"oft.mask.detector=models/grounding-dino-base", "oft.mask.policy=none"}},
		{set: []string{"sft.density.shift=dynamic"}},
		{set: []string{"sft.density.shift=1.15", "sft.density.kind=mode"}},
		{set: []string{"sft.density.shift=dynamical"}, path: "sft.density.shift"},
		{set: []string{"sft.density.shift=0"}, path: "sft.density.shift"},
		{set: []string{"sft.density.shift=-3"}, path: "sft.density.shift"},
		{set: []string{"sft.density.shift=inf"}, path: "sft.density.shift"},
		{set: []string{"sft.density.shift="}, path: "sft.density.shift"},
		{set: []string{"model.batch_tokens=17"}},
		{set: []string{"model.batch_tokens=16"}, path: "model.batch_tokens"},
		{set: []string{"model.batch_tokens=1535", "model.text_tokens=512", "data.resolution=512"}, path: "model.batch_tokens"},
		{set: []string{"model.batch_tokens=1536", "model.text_tokens=512", "data.resolution=512"}},
		{set: []string{"worker.cache_gb=-1"}, path: "worker.cache_gb"},
		{set: []string{"worker.models_gb=-1"}, path: "worker.models_gb"},
		{set: []string{"name=Upper"}, path: "name"},
		{set: []string{"name=" + strings.Repeat("a", 65)}, path: "name"},
		{set: []string{"model.adapter=a", "lora.init=kaiming"}, path: "lora.init"},
		{set: []string{"lora.rank=0"}, path: "lora.rank"},
		{set: []string{"lora.targets=[]"}, path: "lora.targets"},
		{set: []string{"data.source=d", "oft.mask.policy=full"}},
		{set: []string{"data.source=d", "oft.epochs=0"}},
		{set: []string{"oft.mask.detector="}, path: "oft.mask.detector"},
		{set: []string{"data.prompts=p.json"}, path: "data.prompts"},
		{set: []string{"eval.splits=a,a"}, path: "eval.splits"},
		{set: []string{"eval.splits=train"}, path: "eval.splits"},
		{set: []string{"eval.splits=[]"}, path: "eval.splits"},
		{set: []string{"compare.same_time_sft=true", "sft.steps=0"}, path: "compare.same_time_sft"},
		{set: []string{"store.endpoint=https://x"}, path: "store.endpoint"},
		{set: []string{"store.endpoint=https://x", "store.kind=s3"}},
		{set: []string{"store.endpoint=x:9000", "store.kind=s3"}, path: "store.endpoint"},
		{set: []string{"store.endpoint=https://KEY:SECRET@x", "store.kind=s3"}, path: "store.endpoint"},
		{set: []string{"store.endpoint=https://KEY@x", "store.kind=s3"}, path: "store.endpoint"},
		{set: []string{"store.endpoint=KEY:SECRET@x", "store.kind=s3"}, path: "store.endpoint"},
		{set: []string{"store.endpoint=s3://x", "store.kind=s3"}, path: "store.endpoint"},
		{set: []string{"store.endpoint=https://", "store.kind=s3"}, path: "store.endpoint"},
		{set: []string{"store.endpoint=https://x?AWSAccessKeyId=k", "store.kind=s3"}, path: "store.endpoint"},
		{set: []string{"store.kind=disk"}, path: "store.path"},
		{set: []string{"store.path=/d"}, path: "store.path"},
		{set: []string{"temporal.address=h"}, path: "temporal.address"},
		{set: []string{"temporal.address=h:7233", "temporal.tls.cert_file=c"}, path: "temporal.tls.cert_file"},
		{set: []string{"temporal.tls.enabled=true"}, path: "temporal.address"},
		{set: []string{"temporal.api_key.env=K"}, path: "temporal.address"},
		{set: []string{"temporal.api_key.env=K", "temporal.address=h:7233"}},
		{set: []string{"worker.hang_after=5s"}, path: "worker.hang_after"},
	} {
		_, err := Load(Sources{Set: tc.set})
		switch e, _ := err.(*Error); {
		case tc.path == "" && err != nil:
			t.Errorf("%v: %v", tc.set, err)
		case tc.path != "" && (e == nil || len(e.Problems) != 1 || e.Problems[0].Path != tc.path):
			t.Errorf("%v: got %v, want one problem at %s", tc.set, err, tc.path)
		}
	}
}

// randomConfig changes some keys to other values of their type, without regard to rules.
func randomConfig(r *rapid.T) Config {
	c := Default()
	v := reflect.ValueOf(&c).Elem()
	for _, f := range Fields() {
		if !rapid.Bool().Draw(r, "change "+f.Path) {
			continue
		}
		x := v.FieldByIndex(f.index)
		switch {
		case f.typ == durationOf:
			x.SetInt(int64(time.Millisecond) * rapid.Int64Range(0, 1e7).Draw(r, f.Path))
		case f.typ == shiftOf:
			x.SetString(rapid.SampledFrom([]string{"none", "dynamic", "3", "0.125"}).Draw(r, f.Path))
		case f.typ.Kind() == reflect.String:
			x.SetString(rapid.StringOf(rapid.RuneFrom([]rune("aé:#'\"\\{}[]!&* \n\t0123no-"))).Draw(r, f.Path))
		case f.typ.Kind() == reflect.Bool:
			x.SetBool(!x.Bool())
		case f.typ.Kind() == reflect.Int:
			x.SetInt(int64(rapid.Int32().Draw(r, f.Path)))
		case f.typ.Kind() == reflect.Uint64:
			x.SetUint(rapid.Uint64().Draw(r, f.Path))
		case f.typ.Kind() == reflect.Float64:
			x.SetFloat(rapid.Float64().Draw(r, f.Path))
		case f.typ.Kind() == reflect.Slice:
			x.Set(reflect.ValueOf(rapid.SliceOf(rapid.StringMatching(`[a-z,"\[\] .]*`)).Draw(r, f.Path)))
		}
	}
	return c
}

// What Resolved writes, the strict decoder reads back as the same value, whatever the texts and numbers are.
func TestResolvedReadsBack(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		want := randomConfig(r)
		l := newLoader()
		l.document("resolved", []byte(want.Resolved()))
		if len(l.problems) > 0 {
			r.Fatalf("%v\n%s", l.problems, want.Resolved())
		}
		got, _ := l.decoded()
		if diff := cmp.Diff(want, got); diff != "" {
			r.Fatal(diff)
		}
		if got.Resolved() != want.Resolved() {
			r.Fatal("written twice, read once: texts differ")
		}
	})
}

func TestParseOfResolvedPreset(t *testing.T) {
	for _, name := range Presets() {
		want, err := Load(Sources{Name: name, Set: []string{"seed=18446744073709551615"}})
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(want.Resolved())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}

func TestSecrets(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	t.Setenv("SECRET_UNDER_TEST", "s3cr3t")
	t.Setenv("EMPTY_UNDER_TEST", "")
	for _, tc := range []struct {
		name   string
		secret Secret
		want   string
		words  string // of the error
	}{
		{"nowhere", Secret{}, "", ""},
		{"variable", Secret{Env: "SECRET_UNDER_TEST"}, "s3cr3t", ""},
		{"unset variable", Secret{Env: "EMPTY_UNDER_TEST"}, "", "EMPTY_UNDER_TEST is not set"},
		{"file before variable", Secret{Env: "SECRET_UNDER_TEST", File: write("a", "other \n")}, "other ", ""},
		{"missing file", Secret{File: filepath.Join(dir, "none")}, "", "no such file"},
		{"empty file", Secret{File: write("b", "\n")}, "", "empty"},
	} {
		got, err := tc.secret.Value("store.secret_key")
		if got != tc.want || (err == nil) != (tc.words == "") {
			t.Errorf("%s: %q, %v", tc.name, got, err)
		}
		if err != nil && (!strings.Contains(err.Error(), tc.words) || !strings.Contains(err.Error(), "store.secret_key")) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	c := Default()
	c.Store.SecretKey = Secret{Env: "SECRET_UNDER_TEST"}
	if strings.Contains(c.Resolved(), "s3cr3t") {
		t.Error("the resolved config holds the secret itself")
	}
}

// The schema and the manual are generated; this fails when a comment, key or default changed without `-update`.
func TestSchemaAndManualAreUpToDate(t *testing.T) {
	var sources []string
	for _, name := range []string{"config.go", "oft.go"} {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, string(source))
	}
	schema, err := buildSchema(sources...)
	if err != nil {
		t.Fatal(err)
	}
	compareFile(t, "schema.json", schema)
	schemaFile = schema
	manual, err := Manual()
	if err != nil {
		t.Fatal(err)
	}
	compareFile(t, "../docs/config.md", []byte(manual))
}

func compareFile(t *testing.T, path string, want []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s is out of date; run go test ./configs -update", path)
	}
}

func TestSchemaIsStrictAndSaysWhatTheLoaderChecks(t *testing.T) {
	var root map[string]any
	if err := json.Unmarshal(Schema(), &root); err != nil {
		t.Fatal(err)
	}
	node := func(path string) map[string]any {
		n := root
		for _, name := range strings.Split(path, ".") {
			n = n["properties"].(map[string]any)[name].(map[string]any)
		}
		return n
	}
	if root["additionalProperties"] != false || node("sft")["additionalProperties"] != false {
		t.Error("unknown keys are allowed")
	}
	if root["required"] != nil || node("sft")["required"] != nil {
		t.Error("keys are required although each has a default")
	}
	if n := node("sft.lr"); n["default"] != 2e-5 || n["exclusiveMinimum"] != 0.0 || n["type"] != "number" {
		t.Errorf("sft.lr: %v", n)
	}
	if n := node("oft.lr"); n["default"] != 3e-4 {
		t.Errorf("oft.lr: %v", n)
	}
	if n := node("oft.forms.step"); len(n["enum"].([]any)) != 4 || n["default"] != "exact" {
		t.Errorf("oft.forms.step: %v", n)
	}
	if n := node("worker.hang_after"); n["type"] != "string" || n["default"] != "10m" {
		t.Errorf("worker.hang_after: %v", n)
	}
	if n := node("lora.targets"); n["minItems"] != 1.0 {
		t.Errorf("lora.targets: %v", n)
	}
}

// TestNumbersOutOfBoundsAreTold: whatever other rule reads a number, one outside of its bounds is an error about its key.
func TestNumbersOutOfBoundsAreTold(t *testing.T) {
	for _, f := range Fields() {
		if k := f.typ.Kind(); k != reflect.Int && k != reflect.Float64 || f.Path == "sft.density.mean" {
			continue
		}
		for _, value := range []string{"0", "-1", "-7"} {
			if _, err := Load(Sources{Set: []string{f.Path + "=" + value}}); err != nil && !strings.Contains(err.Error(), f.Path) {
				t.Errorf("%s=%s: %v", f.Path, value, err)
			}
		}
	}
}

// A secret in an address is refused without being repeated.
func TestEndpointWithSecret(t *testing.T) {
	for _, endpoint := range []string{"https://KEY:SECRET@x", "KEY:SECRET@x", "https://x?k=SECRET"} {
		_, err := Load(Sources{Name: "world", Set: []string{"store.kind=s3", "store.endpoint=" + endpoint}})
		if err == nil || strings.Contains(err.Error(), "SECRET@") || strings.Contains(err.Error(), "k=SECRET") || !strings.Contains(err.Error(), "store.endpoint") {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
}
