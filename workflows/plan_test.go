package workflows

import (
	"time"

	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/run"
)

// smallPlan is a run of 7 SFT steps in chunks of 3, and 3 epochs in 2 shards.
func smallPlan() run.Plan {
	return run.Plan{SFTSteps: 7, SFTChunk: 3, OFTEpochs: 3, OFTChunk: 2, OFTSteps: 2, Compare: true, Shards: 2,
		Splits: []string{"test_S", "test_C"}, KeepLast: 2, Attributes: true, HeartbeatTimeout: 5 * time.Second,
		Stop: configs.Default().Stop}
}

func spec() run.Spec {
	return run.Spec{Name: "r", ConfigHash: "h", Seed: 3, Queues: run.QueuesWithPrefix("q"), HeartbeatTimeout: 5 * time.Second}
}
