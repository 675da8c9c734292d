package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/configs"
)

// kinds of JSON values, as shapes name them. The last three are texts of a form.
const (
	jsonText, jsonNumber, jsonBool, jsonList, jsonObject = "text", "number", "true or false", "list", "object"
	jsonHash, jsonTime, jsonWhole                        = "sha256", "time", "whole number"
)

var forms = map[string]*regexp.Regexp{jsonHash: regexp.MustCompile(`^[0-9a-f]{64}$`), jsonTime: regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$`)}

// isKind reports whether a decoded value is of a kind.
func isKind(v any, kind string) bool {
	switch x := v.(type) {
	case string:
		return kind == jsonText || forms[kind] != nil && forms[kind].MatchString(x)
	case float64:
		return kind == jsonNumber || kind == jsonWhole && x == float64(int64(x))
	case bool:
		return kind == jsonBool
	case []any:
		return kind == jsonList
	case map[string]any:
		return kind == jsonObject
	}
	return false
}

// at follows a path of keys and numbers with dots between them.
func at(v any, path string) any {
	for _, name := range strings.Split(path, ".") {
		if path == "" {
			break
		}
		switch x := v.(type) {
		case map[string]any:
			v = x[name]
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i >= len(x) {
				return nil
			}
			v = x[i]
		default:
			return nil
		}
	}
	return v
}

// hasShape decodes the JSON of a command and checks that every path is there with its kind.
func hasShape(t *testing.T, text string, shape map[string]string) any {
	t.Helper()
	v := decode[any](t, text)
	for path, kind := range shape {
		if got := at(v, path); !isKind(got, kind) {
			t.Errorf("%s is %v, want %s", path, got, kind)
		}
	}
	return v
}

func TestShowJSON(t *testing.T) {
	r := inside(t, smokeRun(t), "show", "small", "--json")
	shape := map[string]string{
		"run": jsonText, "status": jsonText, "stage": jsonText, "step": jsonWhole, "steps_total": jsonWhole, "adapter.uri": jsonText, "adapter.sha256": jsonHash, "adapter.bytes": jsonWhole,
		"checkpoints": jsonList, "checkpoints.0.stage": jsonText, "checkpoints.0.step": jsonWhole, "checkpoints.0.manifest.uri": jsonText, "checkpoints.0.manifest.sha256": jsonHash,
		"checkpoints.1.adapter.sha256": jsonHash, "config_hash": jsonHash, "seed": jsonWhole, "stage_times.0.wall_seconds": jsonNumber, "report.uri": jsonText, "quick.0.ip": jsonNumber,
	}
	for _, split := range []string{"test_S", "test_C"} {
		for _, variant := range []string{"base", "sft", "oft"} {
			for _, key := range []string{"sp", "ep", "ip", "nd", "ri", "judge_ip", "judge_ep", "outside"} {
				shape["metrics."+split+"."+variant+"."+key] = jsonNumber
			}
		}
		for _, edge := range []string{"mean", "low", "high"} {
			shape["metrics."+split+".oft.ri_gain."+edge] = jsonNumber
		}
	}
	v := hasShape(t, r.out, shape)
	if status := at(v, "status"); status != "completed" || r.err != "" {
		t.Errorf("status %v, stderr %q", status, r.err)
	}
	for _, split := range []string{"test_S", "test_C"} {
		for _, variant := range []string{"base", "sft", "oft"} {
			for _, key := range []string{"judge_ip", "judge_ep"} {
				if share := at(v, "metrics."+split+"."+variant+"."+key).(float64); share < 0 || share > 1 {
					t.Errorf("%s of %s %s is no share: %v", key, split, variant, share)
				}
			}
		}
	}
	low, mean, high := at(v, "metrics.test_S.oft.ri_gain.low").(float64), at(v, "metrics.test_S.oft.ri_gain.mean").(float64), at(v, "metrics.test_S.oft.ri_gain.high").(float64)
	if low > mean || mean > high {
		t.Errorf("the interval %v … %v does not hold its mean %v", low, high, mean)
	}
}

func TestListJSON(t *testing.T) {
	rows := decode[[]map[string]any](t, inside(t, smokeRun(t), "ls", "--json").out)
	i := slices.IndexFunc(rows, func(r map[string]any) bool { return r["run"] == "small" })
	if i < 0 {
		t.Fatalf("%v", rows)
	}
	for key, kind := range map[string]string{"run": jsonText, "status": jsonText, "started": jsonTime, "ended": jsonTime} {
		if !isKind(rows[i][key], kind) {
			t.Errorf("%s is %v, want %s", key, rows[i][key], kind)
		}
	}
	text := inside(t, smokeRun(t), "ls").out
	if lines := strings.Split(text, "\n"); !strings.HasPrefix(lines[0], "run ") || !strings.Contains(text, "small") {
		t.Errorf("%s", text)
	}
}

func TestCheckpointJSON(t *testing.T) {
	state := smokeRun(t)
	for _, verb := range []string{"ls", "verify"} {
		list := hasShape(t, inside(t, state, "ckpt", verb, "small", "--json").out, map[string]string{
			"0.stage": jsonText, "0.step": jsonWhole, "0.epoch": jsonWhole, "0.bytes": jsonWhole, "0.created": jsonTime, "0.manifest": jsonText, "0.sha256": jsonHash, "0.adapter_sha256": jsonHash,
			"0.stage_end": jsonBool, "0.ok": jsonBool,
		}).([]any)
		stages, ends := map[any]int{}, 0
		for _, c := range list {
			c := c.(map[string]any)
			stages[c["stage"]]++
			if c["stage_end"] == true {
				ends++
			}
			if c["ok"] != true || c["error"] != nil {
				t.Errorf("%s: %v", verb, c)
			}
		}
		if stages["sft"] == 0 || stages["oft"] == 0 || ends < 2 {
			t.Errorf("%s: stages %v, %d ends", verb, stages, ends)
		}
	}
}

// onDisk is where the embedded store keeps the object of a key.
func onDisk(t *testing.T, state, key string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(state, "services", "s3", "*", "*", filepath.FromSlash(key)))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s is at %v, %v", key, found, err)
	}
	return found[0]
}

// spoilObject damages an object on the disk and returns what makes it whole again, with the attributes that the store
// keeps beside it.
func spoilObject(t *testing.T, state, key string, damage func([]byte) []byte) (undo func()) {
	t.Helper()
	path, away := onDisk(t, state, key), filepath.Join(state, "away")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	spoil, restore := func() error { return os.Rename(path, away) }, func() error { return os.Rename(away, path) }
	if spoiled := damage(slices.Clone(whole)); spoiled != nil {
		spoil, restore = func() error { return os.WriteFile(path, spoiled, 0o600) }, func() error { return os.WriteFile(path, whole, 0o600) }
	}
	if err := spoil(); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := restore(); err != nil {
			t.Fatal(err)
		}
	}
}

// Damage of every kind is found: the part is named with what its hash or size is and should be, and only the checkpoint
// that has the part is condemned.
func TestVerifyNamesPartAndHash(t *testing.T) {
	state := smokeRun(t)
	list := decode[[]listed](t, inside(t, state, "ckpt", "ls", "small", "--json").out)
	victim := list[len(list)-1]
	manifest, err := os.ReadFile(onDisk(t, state, victim.Manifest))
	if err != nil {
		t.Fatal(err)
	}
	var parts struct {
		Parts []struct {
			Name   string
			Object struct {
				Key, SHA256 string
				Bytes       int
			}
		}
	}
	if err := json.Unmarshal(manifest, &parts); err != nil || len(parts.Parts) == 0 {
		t.Fatalf("%v in %s", err, manifest)
	}
	part := parts.Parts[0].Object
	lost := parts.Parts[len(parts.Parts)-1].Object
	for name, c := range map[string]struct {
		key    string
		damage func([]byte) []byte
		words  []string
	}{
		"a flipped bit":  {part.Key, func(b []byte) []byte { b[len(b)/2] ^= 4; return b }, []string{part.Key, part.SHA256, parts.Parts[0].Name}},
		"a cut part":     {part.Key, func(b []byte) []byte { return b[:len(b)-3] }, []string{part.Key, part.SHA256, fmt.Sprintf("%d bytes, expected %d", part.Bytes-3, part.Bytes)}},
		"a lost part":    {lost.Key, removed, []string{lost.Key, lost.SHA256}},
		"a cut manifest": {victim.Manifest, func(b []byte) []byte { return b[:len(b)/2] }, []string{victim.Manifest}},
	} {
		t.Run(name, func(t *testing.T) {
			defer spoilObject(t, state, c.key, c.damage)()
			r := inside(t, state, "ckpt", "verify", "small", "--json")
			if r.code != 3 || !strings.Contains(r.err, "1 of") || !strings.Contains(r.err, "newest whole one") {
				t.Errorf("%s", r)
			}
			for _, one := range decode[[]listed](t, r.out) {
				if one.OK != (one.Manifest != victim.Manifest) {
					t.Errorf("%s is ok: %v", one.Manifest, one.OK)
				}
				for _, word := range c.words {
					if all := one.Error + fmt.Sprint(one.Damaged); !one.OK && !strings.Contains(all, word) {
						t.Errorf("no %q in %q", word, all)
					}
				}
			}
			if text := inside(t, state, "ckpt", "verify", "small"); text.code != 3 || !strings.Contains(text.out, c.words[0]) || strings.Count(text.err, "\n") != 1 {
				t.Errorf("%s", text)
			}
		})
	}
	want(t, 0, state, "ckpt", "verify", "small")
}

func TestDoctorJSON(t *testing.T) {
	shape := map[string]string{
		"version": jsonText, "cores": jsonWhole, "isa": jsonText, "onednn": jsonText, "gemm": jsonText, "gpu": jsonText, "memory_bytes": jsonWhole, "free_memory_bytes": jsonWhole,
		"state_dir": jsonText, "free_disk_bytes": jsonWhole, "ports": jsonText, "search_attributes_command": jsonText, "warnings": jsonList,
	}
	idle := filepath.Join(t.TempDir(), "not", "there", "yet")
	v := hasShape(t, inside(t, idle, "doctor", "--json").out, shape)
	if at(v, "cores").(float64) < 1 || at(v, "memory_bytes").(float64) < 1 || at(v, "free_disk_bytes").(float64) < 1 || at(v, "state_dir") != idle || at(v, "services") != nil {
		t.Errorf("%v", v)
	}
	if _, err := os.Stat(filepath.Dir(idle)); err == nil {
		t.Error("looking at the machine made a folder")
	}
	if c := at(v, "search_attributes_command").(string); !strings.HasPrefix(c, "temporal operator search-attribute create") || !strings.Contains(c, "--type") {
		t.Errorf("%q", c)
	}
	for _, line := range []string{"cores", "instruction set", "oneDNN", "GPU", "ports", "free"} {
		if text := inside(t, idle, "doctor").out; !strings.Contains(text, line) {
			t.Errorf("no %q in\n%s", line, text)
		}
	}
	shape["services.temporal_address"], shape["services.s3_endpoint"], shape["services.ui_address"], shape["services.pid"] = jsonText, jsonText, jsonText, jsonWhole
	r := inside(t, smokeRun(t), "doctor", "--json")
	v = hasShape(t, r.out, shape)
	for _, key := range []string{"temporal_address", "ui_address", "s3_endpoint"} {
		if !strings.Contains(at(v, "ports").(string), at(v, "services."+key).(string)) {
			t.Errorf("ports %q do not have %s", at(v, "ports"), key)
		}
	}
}

func TestVersionJSON(t *testing.T) {
	hasShape(t, inside(t, t.TempDir(), "version", "--json").out, map[string]string{"version": jsonText, "go": jsonText, "target": jsonText, "modules": jsonObject})
	if r := inside(t, t.TempDir(), "version"); !strings.HasPrefix(r.out, "sciflux test, go1.") {
		t.Error(r)
	}
}

// Every key of the schema is in what config show prints, as JSON and as YAML that can be run again.
func TestConfigShowHasEveryKey(t *testing.T) {
	state := t.TempDir()
	for _, preset := range configs.Presets() {
		r := inside(t, state, "config", "show", preset, "--json", "--set", "seed=77")
		v := hasShape(t, r.out, map[string]string{"hash": jsonHash, "config": jsonObject, "config.sft.lr": jsonNumber, "config.oft.forms.step": jsonText, "config.lora.targets": jsonList,
			"config.worker.hang_after": jsonText, "config.data.cache_text": jsonBool, "config.store.secret_key.env": jsonText})
		for _, f := range configs.Fields() {
			if at(v, "config."+f.Path) == nil {
				t.Errorf("%s: no %s", preset, f.Path)
			}
		}
		if at(v, "config.seed") != 77.0 {
			t.Errorf("%s: seed %v", preset, at(v, "config.seed"))
		}
		text := inside(t, state, "config", "show", preset, "--set", "seed=77").out
		path := filepath.Join(t.TempDir(), "again.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		again := hasShape(t, inside(t, state, "config", "show", path, "--json").out, map[string]string{"hash": jsonHash})
		if at(again, "hash") != at(v, "hash") || !strings.HasPrefix(text, "# hash "+at(v, "hash").(string)) {
			t.Errorf("%s: hash %v, printed and read again %v", preset, at(v, "hash"), at(again, "hash"))
		}
	}
}

func TestConfigSchema(t *testing.T) {
	v := hasShape(t, inside(t, t.TempDir(), "config", "schema").out, map[string]string{"$schema": jsonText, "title": jsonText, "type": jsonText, "additionalProperties": jsonBool,
		"properties.sft.properties.lr.description": jsonText, "properties.sft.properties.lr.default": jsonNumber, "properties.oft.properties.mask.properties.policy.enum": jsonList})
	for _, f := range configs.Fields() {
		if path := "properties." + strings.ReplaceAll(f.Path, ".", ".properties."); !isKind(at(v, path+".description"), jsonText) {
			t.Errorf("%s is not described", f.Path)
		}
	}
	text := inside(t, t.TempDir(), "config", "schema", "--markdown").out
	if !strings.HasPrefix(text, "# Config reference") || !strings.Contains(text, "| `lr` | number | `2e-5` |") {
		t.Errorf("%.300s", text)
	}
}

func TestBenchStepOptionsShowUp(t *testing.T) {
	state := t.TempDir()
	args := strings.Fields("bench step --model world --batch 2 --image-tokens 12 --text-tokens 5 --steps 2 --rank 3 --overhead --json --dtype")
	plain := hasShape(t, inside(t, state, append(args, "float32", "--memory", "none")...).out, map[string]string{
		"step_seconds": jsonNumber, "min_seconds": jsonNumber, "peak_rss_bytes": jsonWhole, "peak_tensor_bytes": jsonWhole, "batch": jsonWhole, "image_tokens": jsonWhole, "text_tokens": jsonWhole,
		"dtype": jsonText, "rank": jsonWhole, "memory": jsonText, "loss": jsonNumber, "backend": jsonText,
	})
	for key, want := range map[string]any{"batch": 2.0, "image_tokens": 12.0, "text_tokens": 5.0, "rank": 3.0, "memory": "none", "dtype": "float32"} {
		if at(plain, key) != want {
			t.Errorf("%s is %v, want %v", key, at(plain, key), want)
		}
	}
	if least, middle := at(plain, "min_seconds").(float64), at(plain, "step_seconds").(float64); least <= 0 || least > middle {
		t.Errorf("least %v, median %v", least, middle)
	}
	full := decode[any](t, inside(t, state, append(args, "float32", "--memory", "full")...).out)
	if at(full, "loss") != at(plain, "loss") || at(full, "memory") != "full" {
		t.Errorf("recomputation changes the loss: %v, %v", at(plain, "loss"), at(full, "loss"))
	}
	short := decode[any](t, inside(t, state, append(args, "bf16")...).out)
	if at(short, "dtype") != "bfloat16" || at(short, "loss") == at(plain, "loss") {
		t.Errorf("%v", short)
	}
	text := inside(t, state, strings.Fields("bench step --model world --image-tokens 4 --text-tokens 3 --steps 1 --rank 1")...)
	for _, word := range []string{"step ", "memory ", "1 × (4 image + 3 text tokens), rank 1", "loss ", "backend "} {
		if !strings.Contains(text.out, word) {
			t.Errorf("no %q in %s", word, text)
		}
	}
}

func TestBenchScoreOptionsShowUp(t *testing.T) {
	v := hasShape(t, inside(t, t.TempDir(), strings.Fields("bench score --model world --images 3 --batch 2 --json")...).out,
		map[string]string{"images_per_second": jsonNumber, "peak_rss_bytes": jsonWhole, "images": jsonWhole, "seconds": jsonNumber})
	rate, seconds := at(v, "images_per_second").(float64), at(v, "seconds").(float64)
	if at(v, "images") != 3.0 || rate <= 0 || rate*seconds < 2.99 || rate*seconds > 3.01 {
		t.Errorf("%v", v)
	}
}

// events are the values of a stream of JSON, lines and indented ones alike.
func events(t *testing.T, text string) (all []map[string]any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	for {
		var one map[string]any
		err := d.Decode(&one)
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		all = append(all, one)
	}
}
