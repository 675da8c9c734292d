package configs

import (
	"reflect"
	"strings"
)

// readBy reports whether a method of stage 2 reads the key.
func (f *Field) readBy(method string) bool { return f.Methods == nil || contains(f.Methods, method) }

// leaveToMethod gives the keys of other methods than oft.method their defaults where the user has not given them: a preset
// is written for one method, and another one may be chosen over it.
func (l *loader) leaveToMethod(c *Config) {
	v := reflect.ValueOf(c).Elem()
	for i := range Fields() {
		if f := &fieldList[i]; !f.readBy(c.OFT.Method) && !l.given(f.Path) {
			v.FieldByIndex(f.index).Set(reflect.ValueOf(f.defaultValue()))
		}
	}
}

// checkMethod holds the rules of stage 2's methods.
func (c *Config) checkMethod(ps *problems) {
	o := c.OFT
	if f, _ := fieldAt("oft.method"); !contains(f.Enum, o.Method) {
		return // said already
	}
	v := reflect.ValueOf(c).Elem()
	for i := range Fields() {
		f := &fieldList[i]
		if !f.readBy(o.Method) && !reflect.DeepEqual(v.FieldByIndex(f.index).Interface(), f.defaultValue()) {
			ps.add(f.Path, "", "leave it out, or choose another oft.method", "is of the method %s, and oft.method is %s", strings.Join(f.Methods, ", "), o.Method)
		}
	}
	if o.Forward() {
		c.checkTimes(ps)
		return
	}
	c.checkNoise(ps)
	c.checkTrust(ps)
	if o.PromptsPerEpoch%max(1, o.AccumulatePairs) != 0 {
		ps.add("oft.accumulate_pairs", "", "choose a divisor", "%d does not divide oft.prompts_per_epoch %d", o.AccumulatePairs, o.PromptsPerEpoch)
	}
	c.checkUpdates(ps, "noisy steps of a rollout")
}

// checkTimes holds the rules of the trained noise levels.
func (c *Config) checkTimes(ps *problems) {
	o := c.OFT
	if o.Times.Count > o.Steps {
		ps.add("oft.times.count", "", "lower it, or raise oft.steps", "%d of the noise levels of a rollout of oft.steps %d", o.Times.Count, o.Steps)
		return
	}
	c.checkUpdates(ps, "oft.times.count")
}

// checkUpdates compares the updates of a round with the times that they share.
func (c *Config) checkUpdates(ps *problems, times string) {
	u, n := c.OFT.UpdatesPerRound(), c.OFT.TrainedTimes()
	switch {
	case n < 1:
	case u > n:
		ps.add("oft.updates", "", "lower it", "%d updates have %d %s to share", u, n, times)
	case n%u != 0:
		ps.add("oft.updates", "", "choose a divisor", "%d does not divide the %d %s", u, n, times)
	}
}

// checkNoise holds the rules of noise in rollouts.
func (c *Config) checkNoise(ps *problems) {
	o := c.OFT
	eta, _ := fieldAt("oft.eta")
	if o.Forms.Step != "cps" && o.SChurn == 0 {
		ps.add("oft.s_churn", "", "set it above 0, such as 0.1 or 1", "0 makes rollouts deterministic, which leaves their probability undefined")
	}
	if o.Forms.Step != "cps" && o.Eta != eta.defaultValue().(float64) {
		ps.add("oft.eta", "", "set oft.forms.step to cps, or leave it out", "the step form %s takes its noise from oft.s_churn", o.Forms.Step)
	}
	if o.Forms.Sigmas == "paper" && o.quietEnd() {
		ps.add("oft.forms.sigmas", "", "use corrected", "paper replays other noise levels than were sampled, which the %s step cannot", o.Forms.Step)
	}
	if o.NoisySteps > o.Steps {
		ps.add("oft.noisy_steps", "", "0 means all steps", "%d of oft.steps %d", o.NoisySteps, o.Steps)
	}
	if o.TrainedTimes() < 1 {
		ps.add("oft.steps", "", "raise it", "the %s step has no noise in the last step, so a rollout of %d has none to train", o.Forms.Step, o.Steps)
	}
	c.checkWindow(ps)
}

// checkWindow holds the rules of the noise window.
func (c *Config) checkWindow(ps *problems) {
	o, w := c.OFT, c.OFT.NoiseWindow
	if w.Size == 0 {
		return
	}
	low, high := o.Window()
	last := o.Steps
	if o.quietEnd() {
		last--
	}
	switch {
	case o.NoisySteps > 0:
		ps.add("oft.noise_window.size", "", "set oft.noisy_steps to 0", "noise enters in a window or in the first oft.noisy_steps, not both")
	case high > last:
		ps.add("oft.noise_window.high", "", "lower it", "step %d is beyond the last one with noise of oft.steps %d under the form %s", high, o.Steps, o.Forms.Step)
	case low+w.Size > high:
		ps.add("oft.noise_window.size", "", "lower it, or move oft.noise_window.low and high apart", "%d steps do not fit between %d and %d", w.Size, low, high)
	}
}

// checkTrust refuses limits of another rule of trust than the chosen one.
func (c *Config) checkTrust(ps *problems) {
	o := c.OFT
	for _, k := range []struct {
		path, rule string
		value      float64
	}{{"oft.eps_clamp", "clamp", o.EpsClamp}, {"oft.kl_limit", "kl_mask", o.KLLimit}} {
		f, _ := fieldAt(k.path)
		if o.Trust != k.rule && k.value != f.defaultValue().(float64) {
			ps.add(k.path, "", "set oft.trust to "+k.rule+", or leave it out", "oft.trust is %s", o.Trust)
		}
	}
}
