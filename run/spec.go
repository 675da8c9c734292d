package run

import (
	"time"

	"github.com/sciflux/sciflux/configs"
)

// Spec is what a run is started with. It is the input of the FineTune workflow and is recorded once in its history; a
// run's adapters are a pure function of it on one kind of machine.
type Spec struct {
	Name        string // run name, see CheckName; also the prefix of its objects, see Keys
	Config      string // the resolved config as YAML, complete, without secrets
	ConfigHash  string // configs.Config.Hash of it: covers what can change the result
	Seed        uint64 // root of every random number of the run
	CodeVersion string // version of the binary that started the run, for the manifests
	Queues      Queues // where the run's workflows and activities are polled for
	// HeartbeatTimeout is the silence after which a worker is taken for dead, until Prepare has made the plan.
	HeartbeatTimeout time.Duration
}

// NewSpec makes the spec of a config. An empty name of the config must have been filled in before.
func NewSpec(c configs.Config, codeVersion string) (Spec, error) {
	if err := CheckName(c.Name); err != nil {
		return Spec{}, &Error{Class: ClassConfig, Op: "make spec", Cause: err}
	}
	return Spec{
		Name: c.Name, Config: c.Resolved(), ConfigHash: c.Hash(), Seed: c.Seed, CodeVersion: codeVersion,
		Queues: QueuesOf(c), HeartbeatTimeout: c.Worker.HeartbeatTimeout,
	}, nil
}

// Job returns the small value that every activity of the run gets.
func (s Spec) Job() Job {
	return Job{Run: s.Name, ConfigKey: Keys(s.Name).Config(), ConfigHash: s.ConfigHash, Seed: s.Seed}
}

// Job names the run that an activity works for. The config itself stays in the store under ConfigKey (Prepare writes
// it); whoever reads it checks that its hash is ConfigHash.
type Job struct {
	Run        string
	ConfigKey  string
	ConfigHash string
	Seed       uint64
}

// Queues are the task queues of a run. Control takes workflows and tiny activities, CPU data preparation, scoring and
// export, GPU training, generation and evaluation (on a machine without a GPU it is polled by a CPU worker).
type Queues struct {
	Control string
	CPU     string
	GPU     string
}

// QueuesOf gives the queues of a config: one with the built-in service, three with an external one.
func QueuesOf(c configs.Config) Queues {
	if c.Temporal.Address == "" {
		return OneQueue(c.Temporal.QueuePrefix)
	}
	return QueuesWithPrefix(c.Temporal.QueuePrefix)
}

// OneQueue puts everything on one queue. A worker that polls it gets the activity together with the answer to the
// decision that scheduled it, which saves a round trip each time: the choice for one machine.
func OneQueue(name string) Queues { return Queues{Control: name, CPU: name, GPU: name} }

// QueuesWithPrefix gives the three queue names for one prefix, such as "sciflux".
func QueuesWithPrefix(prefix string) Queues {
	return Queues{Control: prefix + "-control", CPU: prefix + "-cpu", GPU: prefix + "-gpu"}
}
