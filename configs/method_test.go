package configs

import (
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// methods are the values of oft.method.
func methods() []string {
	f, _ := fieldAt("oft.method")
	return f.Enum
}

// Another method over any preset is a config: what the preset says for its own method gives way to defaults, and what it
// says of the rest stays.
func TestMethodOverAnyPreset(t *testing.T) {
	for _, preset := range Presets() {
		base, err := Load(Sources{Name: preset})
		if err != nil {
			t.Fatal(err)
		}
		for _, method := range methods() {
			c, err := Load(Sources{Name: preset, Set: []string{"oft.method=" + method}})
			if err != nil {
				t.Errorf("%s with %s: %v", preset, method, err)
				continue
			}
			for i := range Fields() {
				f := &fieldList[i]
				was, is := reflect.ValueOf(base).FieldByIndex(f.index).Interface(), reflect.ValueOf(c).FieldByIndex(f.index).Interface()
				if !f.readBy(method) {
					was = f.defaultValue()
				}
				if diff := cmp.Diff(was, is); diff != "" && f.Path != "oft.method" {
					t.Errorf("%s with %s: %s: %s", preset, method, f.Path, diff)
				}
			}
			again, err := Load(Sources{Name: file(t, c.Resolved())})
			if err != nil || again.Hash() != c.Hash() {
				t.Errorf("%s with %s, saved and loaded: %v", preset, method, err)
			}
		}
	}
}

// What the user gives for another method is refused from every layer.
func TestKeysOfAnotherMethodAreRefused(t *testing.T) {
	for name, src := range map[string]Sources{
		"file":     {Name: file(t, "preset: world\noft: {method: dgpo, beta: 20}\n")},
		"variable": {Name: "world", Environ: []string{"SCIFLUX_OFT_BETA=20", "SCIFLUX_OFT_METHOD=dgpo"}},
		"flag":     {Name: "world", Set: []string{"oft.beta=20", "oft.method=dgpo"}},
	} {
		_, err := Load(src)
		if e, _ := err.(*Error); e == nil || len(e.Problems) != 1 || e.Problems[0].Path != "oft.beta" || e.Problems[0].Where == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The counts that stage 2 is planned by.
func TestTimesAndUpdatesOfARound(t *testing.T) {
	for _, c := range []struct {
		set                   []string
		times, updates, steps int
	}{
		{[]string{"oft.steps=10"}, 9, 1, 4},
		{[]string{"oft.steps=10", "oft.forms.step=corrected"}, 10, 1, 4},
		{[]string{"oft.steps=10", "oft.noisy_steps=6", "oft.updates=3"}, 6, 3, 12},
		{[]string{"oft.steps=10", "oft.noise_window.size=2", "oft.updates=2", "oft.accumulate_pairs=8"}, 2, 2, 2},
		{[]string{"oft.method=dgpo"}, 4, 4, 4},
		{[]string{"oft.method=nft", "oft.updates=1"}, 4, 1, 1},
		{[]string{"oft.method=awm", "oft.times.count=6", "oft.updates=3"}, 6, 3, 3},
	} {
		cfg, err := Load(Sources{Set: c.set})
		if err != nil {
			t.Fatal(err)
		}
		if o := cfg.OFT; o.TrainedTimes() != c.times || o.UpdatesPerRound() != c.updates || o.StepsPerEpoch() != c.steps {
			t.Errorf("%v: %d times, %d updates, %d steps", c.set, o.TrainedTimes(), o.UpdatesPerRound(), o.StepsPerEpoch())
		}
	}
}

// Who keeps an old policy, and whose rollouts it does.
func TestOldPolicies(t *testing.T) {
	for _, c := range []struct {
		set         []string
		rolls, kept bool
		limit       float64
	}{
		{nil, false, false, 0},
		{[]string{"oft.method=dpo_flow"}, false, false, 0},
		{[]string{"oft.method=dgpo"}, false, false, 0.3},
		{[]string{"oft.method=dgpo", "oft.dgpo.clip=1e-3"}, false, true, 0.3},
		{[]string{"oft.method=nft"}, true, true, 0.5},
		{[]string{"oft.method=awm"}, true, true, 0},
	} {
		cfg, err := Load(Sources{Set: c.set})
		if err != nil {
			t.Fatal(err)
		}
		old, rolls, kept := cfg.OFT.OldPolicy()
		if rolls != c.rolls || kept != c.kept || old.Cap != c.limit {
			t.Errorf("%v: %+v, rolls %v, kept %v", c.set, old, rolls, kept)
		}
	}
}
