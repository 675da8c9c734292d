package worker

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
)

// TestTheWorkflowsDecideByTheConfig: Prepare hands them every number that the config says, each in its own place.
func TestTheWorkflowsDecideByTheConfig(t *testing.T) {
	spec := testSpec(t, "data.train_tuples=6", "sft.steps=31", "sft.chunk_steps=7",
		"oft.epochs=13", "oft.chunk_epochs=4", "oft.prompts_per_epoch=6", "oft.accumulate_pairs=2",
		"compare.same_time_sft=true", "worker.shards=5", "checkpoint.keep_last=9",
		"eval.splits=[test_C, test_S]", "eval.tuples=2", "eval.during.every_steps=14", "eval.during.every_epochs=6",
		"stop.reward_collapse.drop=1.5", "stop.reward_collapse.window=8", "stop.kl_to_reference.limit=0.25",
		"stop.dead_masks.patience=6", "stop.clamp_saturation.action=pause", "stop.flat_rewards.limit=0.7",
		"temporal.search_attributes=false", "worker.heartbeat_timeout=17s")
	got := must[activities.PrepareResult](t)(newWorker(t, &store.Mem{}).Prepare(t.Context(), spec, newWatcher(0)))
	want := run.Plan{
		SFTSteps: 31, SFTChunk: 7, OFTEpochs: 13, OFTChunk: 4, OFTSteps: 3, Compare: true, Shards: 5, Splits: []string{"test_C", "test_S"},
		EverySteps: 14, EveryEpochs: 6, KeepLast: 9, Attributes: false, HeartbeatTimeout: 17 * time.Second,
		Stop: configs.Stop{
			RewardCollapse: configs.RewardCollapse{Action: "stop", Drop: 1.5, Window: 8},
			KLToReference:  configs.Limit{Action: "stop", Limit: 0.25, Patience: 3},
			DeadMasks:      configs.Limit{Action: "stop", Limit: 0.5, Patience: 6}, ClampSaturation: configs.Limit{Action: "pause", Limit: 0.9, Patience: 3},
			DistanceToReference: configs.Limit{Action: "stop", Limit: 0.25, Patience: 3}, FlatRewards: configs.Limit{Action: "stop", Limit: 0.7, Patience: 3},
		},
	}
	if diff := cmp.Diff(want, got.Plan); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]int{"train": 6, "test_C": 2, "test_S": 2}, got.Tuples); diff != "" {
		t.Error(diff)
	}
}
