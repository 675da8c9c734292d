package configs

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// What people write instead of a key, and the key they mean: slips, other trainers' names, parts and beginnings of a
// name, abbreviations, a key of another section.
func TestNearest(t *testing.T) {
	for _, tc := range []struct{ word, want string }{
		{"sft.stesp", "sft.steps"}, {"oft.mask.policies", "oft.mask.policy"}, {"eval.picturs", "eval.pictures"},
		{"steps", "sft.steps"}, {"optim.lr", "oft.lr"}, {"sft.gradient_accumulation_steps", "sft.accumulate"}, {"temporal.adress", "temporal.address"},
		{"sft.learnrate", "sft.lr"}, {"sft.learningRate", "sft.lr"}, {"oft.learning-rate", "oft.lr"}, {"sft.learning_rte", "sft.lr"},
		{"sft.warmup", "sft.warmup_steps"}, {"sft.wd", "sft.weight_decay"}, {"sft.decay", "sft.weight_decay"}, {"sft.grad_norm", "sft.max_grad_norm"},
		{"sft.clip_grad_norm", "sft.max_grad_norm"}, {"sft.batchsize", "sft.batch"}, {"sft.batch-size", "sft.batch"}, {"sft.num_steps", "sft.steps"},
		{"sft.epsilon", "sft.eps"}, {"sft.beta", "sft.betas"}, {"sft.chunk", "sft.chunk_steps"}, {"sft.denisty", "sft.density"},
		{"oft.churn", "oft.s_churn"}, {"oft.kl_beta", "oft.beta"}, {"oft.clamp", "oft.eps_clamp"}, {"oft.prompts", "oft.prompts_per_epoch"},
		{"oft.samples_per_prompt", "oft.images_per_prompt"}, {"oft.noisy", "oft.noisy_steps"}, {"oft.forms.sigma", "oft.forms.sigmas"},
		{"sft.epochs", "oft.epochs"}, {"sft.rank", "lora.rank"}, {"oft.density", "sft.density"}, {"sft.mask.policy", "oft.mask.policy"}, {"sft.seed", "seed"},
		{"lora.r", "lora.rank"}, {"stop.kl.limit", "stop.kl_to_reference.limit"}, {"worker.heartbeat", "worker.heartbeat_timeout"},
		{"store.accesskey", "store.access_key"}, {"data.train", "data.train_split"}, {"eval.num_pictures", "eval.pictures"}, {"seeds", "seed"},
	} {
		if got := nearestKey(tc.word, allKeys()); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.word, got, tc.want)
		}
	}
}

// One slip in any key still leads back to it, or to a twin that the slip has made as near.
func TestOneSlipIsFoundInItsSection(t *testing.T) {
	var long []string // shorter names cannot be told apart
	for _, f := range Fields() {
		if len(last(f.Path)) >= 5 {
			long = append(long, f.Path)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SampledFrom(long).Draw(t, "key")
		name := last(key)
		i := rapid.IntRange(1, len(name)-2).Draw(t, "at")
		slipped := rapid.SampledFrom([]string{name[:i] + name[i+1:], name[:i] + name[i:i+1] + name[i:], name[:i] + name[i+1:i+2] + name[i:i+1] + name[i+2:]}).Draw(t, "slipped")
		path := join(parentOf(key), slipped)
		got := nearestKey(path, allKeys())
		if parentOf(got) != parentOf(key) || distance(last(got), slipped) > 1 {
			t.Fatalf("%s: %s, want %s", path, got, key)
		}
	})
}

func TestLikenessIsAShareAndIgnoresHowWordsAreJoined(t *testing.T) {
	name := rapid.StringMatching(`[a-z]{1,6}(_[a-z]{1,6}){0,3}`)
	rapid.Check(t, func(t *rapid.T) {
		a, b := name.Draw(t, "a"), name.Draw(t, "b")
		ab := likeness(a, b)
		if ab < 0 || ab > 1 || likeness(a, a) != 1 {
			t.Fatalf("likeness %v, of itself %v", ab, likeness(a, a))
		}
		if strings.ReplaceAll(a, "_", "") == strings.ReplaceAll(b, "_", "") && ab != 1 {
			t.Fatalf("words run together are %v like", ab)
		}
	})
}

func TestDistance(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want int
	}{{"", "abc", 3}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"abc", "axc", 1}, {"kitten", "sitting", 3}} {
		if got := distance(tc.a, tc.b); got != tc.want || distance(tc.b, tc.a) != tc.want {
			t.Errorf("distance(%q, %q) = %d, want %d both ways", tc.a, tc.b, got, tc.want)
		}
	}
}
