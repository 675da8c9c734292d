package configs

import (
	"fmt"
	"net/url"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Validate reports everything wrong with the config at once, as *Error.
func (c Config) Validate() error { return problems(c.check()).err() }

// check runs the bounds of the field tags, then the rules between fields.
func (c *Config) check() problems {
	var ps problems
	v := reflect.ValueOf(c).Elem()
	for i := range Fields() {
		f := &fieldList[i]
		if x := v.FieldByIndex(f.index); !c.leftToAdapter(f, x) {
			f.checkValue(x, &ps)
		}
	}
	c.checkName(&ps)
	c.checkTraining(&ps)
	c.LoRA.check(&ps)
	c.checkInputs(&ps)
	c.checkPaths(&ps)
	c.checkSecrets(&ps)
	c.checkEval(&ps)
	c.checkServices(&ps)
	return ps
}

// leftToAdapter reports whether a key is as leaveToAdapter leaves it: whatever model.adapter has.
func (c *Config) leftToAdapter(f *Field, v reflect.Value) bool {
	empty := v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0
	return c.Model.Adapter != "" && f.ofAdapter() && empty
}

// checkValue applies enum and bounds to one value, or to each element of a list.
func (f *Field) checkValue(v reflect.Value, ps *problems) {
	if k := v.Kind(); k == reflect.Slice || k == reflect.Array {
		if v.Len() == 0 && contains(f.Bounds, "nonempty") {
			ps.add(f.Path, "", "give at least one", "is empty")
		}
		for i := range v.Len() {
			f.checkScalar(v.Index(i), ps)
		}
		return
	}
	f.checkScalar(v, ps)
}

func (f *Field) checkScalar(v reflect.Value, ps *problems) {
	if f.Enum != nil && !contains(f.Enum, v.String()) {
		cure := "use " + strings.Join(f.Enum, ", ")
		if near, ok := nearest(v.String(), f.Enum); ok {
			cure = "did you mean " + near + "? " + cure
		}
		ps.add(f.Path, "", cure, "%q is not allowed", v.String())
	}
	for _, b := range f.Bounds {
		if !within(v, b) {
			ps.add(f.Path, "", "", "%v is not allowed: must be %s", v.Interface(), boundWords(b))
		}
	}
}

// within reports whether v keeps bound b: nonempty, or a comparison with a number or duration.
func within(v reflect.Value, b string) bool {
	if b == "nonempty" {
		return v.Kind() != reflect.String || v.String() != ""
	}
	op, limit := parseBound(b)
	var x float64
	switch v.Kind() {
	case reflect.Int, reflect.Int64:
		x = float64(v.Int())
	case reflect.Float64:
		x = v.Float()
	}
	switch op {
	case ">":
		return x > limit
	case ">=":
		return x >= limit
	case "<":
		return x < limit
	default:
		return x <= limit
	}
}

// parseBound splits ">=1s" into its operator and number; durations are in nanoseconds.
func parseBound(b string) (op string, limit float64) {
	op = b[:1]
	if len(b) > 1 && b[1] == '=' {
		op = b[:2]
	}
	rest := b[len(op):]
	if x, err := strconv.ParseFloat(rest, 64); err == nil {
		return op, x
	}
	d, err := time.ParseDuration(rest)
	if err != nil {
		panic("configs: bound " + b + " is neither number nor duration")
	}
	return op, float64(d)
}

func boundWords(b string) string {
	if b == "nonempty" {
		return "given"
	}
	op, _ := parseBound(b)
	words := map[string]string{">": "above", ">=": "at least", "<": "below", "<=": "at most"}
	return words[op] + " " + b[len(op):]
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// checkTraining holds the rules of the two stages.
func (c *Config) checkTraining(ps *problems) {
	if c.SFT.Steps == 0 && c.OFT.Epochs == 0 {
		ps.add("sft.steps", "", "set sft.steps or oft.epochs above 0", "nothing to train: both stages are switched off")
	}
	for _, s := range []struct {
		path         string
		warmup, most int
	}{
		{"sft.warmup_steps", c.SFT.WarmupSteps, c.SFT.Steps},
		{"oft.warmup_steps", c.OFT.WarmupSteps, c.OFT.Epochs * c.OFT.StepsPerEpoch()},
	} {
		if s.most > 0 && s.warmup >= s.most {
			ps.add(s.path, "", "warm up for a small part of the stage", "%d steps of warm-up in a stage of %d", s.warmup, s.most)
		}
	}
	d := c.SFT.Density
	if d.Kind != "logit_normal" && (d.Mean != 0 || d.Std != 1) {
		ps.add("sft.density.kind", "", "set it to logit_normal or leave mean and std", "%s does not use mean and std", d.Kind)
	}
	if !d.Shift.valid() {
		ps.add("sft.density.shift", "", "use none, dynamic or a number above 0", "%q is not allowed", string(d.Shift))
	}
	if c.OFT.Epochs == 0 {
		return
	}
	c.checkMethod(ps)
	if c.OFT.Mask.Policy == "none" && c.Stop.DeadMasks.Action == "pause" {
		ps.add("stop.dead_masks.action", "", "set it to off, or choose a mask policy", "there is no mask to watch: oft.mask.policy is none")
	}
}

// pixelsPerToken is the side of an image token in pixels: 8 of the autoencoder times patches of 2.
const pixelsPerToken = 16

// builtin stands for what the binary itself carries, where a path could stand.
const builtin = "world"

// checkInputs holds the rules of model, data and masks.
func (c *Config) checkInputs(ps *problems) {
	if c.Data.Resolution%pixelsPerToken != 0 {
		ps.add("data.resolution", "", "", "%d is not a multiple of %d", c.Data.Resolution, pixelsPerToken)
	}
	if least := c.leastTokens(); c.Model.BatchTokens < least {
		ps.add("model.batch_tokens", "", "raise it, or lower data.resolution or model.text_tokens", "%d is too few: one sample has %d text and image tokens",
			c.Model.BatchTokens, least)
	}
	if c.Data.Source == builtin && c.Data.Prompts != "" {
		ps.add("data.prompts", "", "leave it empty", "the procedural world brings its own prompts")
	}
	if c.Model.Adapter != "" && c.LoRA.Init != "" {
		ps.add("lora.init", "", "leave it out", "%s draws the weights of a fresh adapter, and model.adapter brings its own", c.LoRA.Init)
	}
	c.checkMask(ps)
}

// leastTokens is what is known of the tokens of one sample: those of the picture, and those of the text, at least one
// where their number is left to the tokenizer.
func (c *Config) leastTokens() int {
	side := c.Data.Resolution / pixelsPerToken
	return side*side + max(1, c.Model.TextTokens)
}

// checkMask refuses the policy detector where there is none: the world's own is the only one.
func (c *Config) checkMask(ps *problems) {
	m := c.OFT.Mask
	if c.OFT.Epochs == 0 || m.Policy != "detector" {
		return
	}
	switch {
	case m.Detector != builtin:
		ps.add("oft.mask.detector", "", "set oft.mask.policy to full or none", "%q cannot be used: no detector model is supported yet", m.Detector)
	case c.Data.Source != builtin:
		ps.add("oft.mask.policy", "", "use full or none", "no detector model is supported yet, and the world's own knows only pictures of data.source world")
	}
}

// checkPaths refuses addresses where the worker opens folders and files: nothing is fetched.
func (c *Config) checkPaths(ps *problems) {
	for _, p := range []struct{ key, path string }{
		{"model.pipeline", c.Model.Pipeline}, {"model.adapter", c.Model.Adapter}, {"data.source", c.Data.Source}, {"data.prompts", c.Data.Prompts},
		{"oft.mask.detector", c.OFT.Mask.Detector}, {"reward.sciscore", c.Reward.SciScore}, {"store.path", c.Store.Path},
	} {
		if strings.Contains(p.path, "://") {
			ps.add(p.key, "", "copy it to a folder that every worker can read, and name that", "%q is an address, not a path", p.path)
		}
	}
}

// variableName is what the name of an environment variable looks like.
var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// checkSecrets refuses what can be no variable's name, without repeating it: it may be the secret itself.
func (c *Config) checkSecrets(ps *problems) {
	v := reflect.ValueOf(c).Elem()
	for i := range Fields() {
		f := &fieldList[i]
		if last(f.Path) != "env" || !isSecret(parentOf(f.Path)) {
			continue
		}
		if name := v.FieldByIndex(f.index).String(); name != "" && !variableName.MatchString(name) {
			ps.add(f.Path, "", "write the name of the variable that holds the secret, such as AWS_SECRET_ACCESS_KEY", "this can be no variable's name")
		}
	}
}

// checkEval holds the rules of evaluation and comparison.
func (c *Config) checkEval(ps *problems) {
	seen := map[string]bool{}
	for _, s := range c.Eval.Splits {
		if seen[s] {
			ps.add("eval.splits", "", "name it once", "%s is given twice", s)
		}
		seen[s] = true
	}
	if seen[c.Data.TrainSplit] {
		ps.add("eval.splits", "", "evaluate on held-out splits", "%s is the training split", c.Data.TrainSplit)
	}
	if c.Compare.SameTimeSFT && (c.SFT.Steps == 0 || c.OFT.Epochs == 0) {
		ps.add("compare.same_time_sft", "", "set it to false", "needs both stages, and one of them is switched off")
	}
}

// checkServices holds the rules of store, Temporal and worker.
func (c *Config) checkServices(ps *problems) {
	if c.Store.Kind != "s3" && c.Store.Endpoint != "" {
		ps.add("store.endpoint", "", "set store.kind to s3, or leave the endpoint empty", "kind %s has no endpoint", c.Store.Kind)
	}
	c.checkEndpoint(ps)
	if (c.Store.Kind == "disk") != (c.Store.Path != "") {
		ps.add("store.path", "", "set store.kind to disk together with store.path", "kind %s and path %q do not go together", c.Store.Kind, c.Store.Path)
	}
	t := c.Temporal
	if (t.TLS.CertFile == "") != (t.TLS.KeyFile == "") {
		ps.add("temporal.tls.cert_file", "", "give cert_file and key_file together", "a client certificate needs its key")
	}
	if t.Address == "" && (t.TLS != TLS{} || t.APIKey != Secret{}) {
		ps.add("temporal.address", "", "give host:port, or leave tls and api_key", "the built-in service takes no TLS and no API key")
	}
	if t.Address != "" && !strings.Contains(t.Address, ":") {
		ps.add("temporal.address", "", "write host:port, such as "+t.Address+":7233", "%q has no port", t.Address)
	}
	if c.Worker.HangAfter < c.Worker.HeartbeatTimeout {
		ps.add("worker.hang_after", "", "raise it", "%v is shorter than worker.heartbeat_timeout %v", c.Worker.HangAfter, c.Worker.HeartbeatTimeout)
	}
}

// checkEndpoint refuses what is no address of a service. An address may hold a secret before its @, so that one is not
// repeated.
func (c *Config) checkEndpoint(ps *problems) {
	e := c.Store.Endpoint
	if e == "" {
		return
	}
	const key = "store.endpoint"
	u, err := url.Parse(e)
	switch {
	case strings.Contains(e, "@"):
		ps.add(key, "", "write the address alone; credentials belong into store.access_key and store.secret_key, which name variables or files",
			"credentials in an address would be stored with the run")
	case !strings.Contains(e, "://"):
		ps.add(key, "", fmt.Sprintf("write https://%s", e), "%q has no scheme", e)
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		ps.add(key, "", "write it as https://s3.example.org or http://127.0.0.1:9000", "%q is no address of a service", e)
	case u.RawQuery != "" || u.Fragment != "":
		ps.add(key, "", "write the address alone", "an address with ? or # is not an endpoint")
	}
}
