package run

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ObjectRef points at one immutable object in the store.
type ObjectRef struct {
	Key    string `json:"key"`
	SHA256 string `json:"sha256"` // of the object's bytes, hex
	Bytes  int64  `json:"bytes"`
}

// IsZero reports whether the reference points nowhere.
func (r ObjectRef) IsZero() bool { return r == ObjectRef{} }

// CheckpointRef points at a committed checkpoint: a manifest whose parts are all durable. The zero value stands for the
// state before the first step: the adapter as the config initialises it, fresh optimiser moments, no step taken.
type CheckpointRef struct {
	Manifest ObjectRef `json:"manifest"`
	Stage    Stage     `json:"stage"`
	Step     int       `json:"step"`  // optimiser steps finished in this stage
	Epoch    int       `json:"epoch"` // OFT epochs finished; 0 in SFT
	Adapter  ObjectRef `json:"adapter"`
	// Seconds is the working time spent in the stage up to this checkpoint, without interruptions and evaluations.
	Seconds float64 `json:"seconds"`
}

// IsZero reports whether the reference stands for the state before the first step.
func (c CheckpointRef) IsZero() bool { return c == CheckpointRef{} }

// String gives stage, position and the first digits of the manifest hash.
func (c CheckpointRef) String() string {
	if c.IsZero() {
		return "initial adapter"
	}
	return fmt.Sprintf("%s step %d (%.12s)", c.Stage, c.Step, c.Manifest.SHA256)
}

// Span is the time one successful activity attempt took.
type Span struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
}

// BusySeconds is the length of the union of spans: time during which at least one of them was under way. Attempts that
// failed and the time nobody worked do not count, so a run that was killed and resumed measures like one that was not.
func BusySeconds(spans ...Span) float64 {
	var busy time.Duration
	done := make([]bool, len(spans))
	for range spans {
		// The earliest start not yet merged opens an interval; every span that overlaps it extends it.
		first := -1
		for i, s := range spans {
			if !done[i] && (first < 0 || s.Start.Before(spans[first].Start)) {
				first = i
			}
		}
		if first < 0 {
			break
		}
		start, end := spans[first].Start, spans[first].End
		done[first] = true
		for grown := true; grown; {
			grown = false
			for i, s := range spans {
				if done[i] || s.Start.After(end) {
					continue
				}
				done[i], grown = true, true
				if s.End.After(end) {
					end = s.End
				}
			}
		}
		if end.After(start) {
			busy += end.Sub(start)
		}
	}
	return busy.Seconds()
}

// Keys is the object layout of one run. No key is a prefix directory of another, which some stores require.
type Keys string

// All is the prefix of every object of the run.
func (k Keys) All() string { return k.under("") }

// Config is the resolved config, YAML.
func (k Keys) Config() string { return k.under("config.yaml") }

// Summary is the last known State of the run, JSON, rewritten at stage edges.
func (k Keys) Summary() string { return k.under("state.json") }

// Checkpoints is the prefix of a stage's checkpoints.
func (k Keys) Checkpoints(s Stage) string { return k.under("checkpoints/" + string(s) + "/") }

// Pairs is the object of one shard of an epoch's rollouts; kind is "rollouts" or "scores".
func (k Keys) Pairs(epoch, shard int, kind string) string {
	return k.under(fmt.Sprintf("pairs/epoch-%05d/%s-%03d", epoch, kind, shard))
}

// EpochOf is the epoch of a shard's key, and whether the key is one that Pairs makes for a kind.
func (k Keys) EpochOf(key, kind string) (epoch int, ok bool) {
	rest, ok := strings.CutPrefix(key, k.AllPairs()+"epoch-")
	number, name, found := strings.Cut(rest, "/")
	epoch, err := strconv.Atoi(number)
	return epoch, ok && found && err == nil && strings.HasPrefix(name, kind+"-")
}

// AllPairs is the prefix of the shards of all epochs.
func (k Keys) AllPairs() string { return k.under("pairs/") }

// Metrics is the prefix of the metric event files (JSONL), one file a chunk.
func (k Keys) Metrics() string { return k.under("metrics/") }

// Eval is the prefix of evaluation parts.
func (k Keys) Eval() string { return k.under("eval/") }

// Export is the prefix of the published files.
func (k Keys) Export() string { return k.under("export/") }

// Report is the prefix of the report; its page is Report()+"index.html".
func (k Keys) Report() string { return k.under("report/") }

func (k Keys) under(rest string) string { return "runs/" + string(k) + "/" + rest }
