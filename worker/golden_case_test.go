package worker_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/engine/cpu"
	"github.com/sciflux/sciflux/models"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/store/safetensors"
	"github.com/sciflux/sciflux/worker"
)

const goldenFolder = "testdata/golden"

// goldenStep is what an optimiser step reports.
type goldenStep struct {
	Loss    float64 `json:"loss"`
	Norm    float64 `json:"grad_norm"`
	Rate    float64 `json:"learning_rate"`
	KL      float64 `json:"kl"`
	Clamped float64 `json:"clamped"`
}

// goldenEpoch is an epoch of stage 2: what was drawn, how it was scored, where its subjects are, and its steps.
type goldenEpoch struct {
	Prompts []goldenPrompt  `json:"prompts"`
	Rewards [][]float64     `json:"rewards"`
	Boxes   [][][4]float64  `json:"boxes"` // after the box rule; none without masks
	Found   [][]*[4]float64 `json:"found"` // by the detector
	Steps   []goldenStep    `json:"steps"`
}

type goldenPrompt struct {
	Number int    `json:"number"`
	Text   string `json:"text"`
	Object string `json:"object"`
}

// goldenScores are an evaluated tuple's scores by kind of prompt.
type goldenScores map[string][]float64

type goldenNumbers struct {
	Scales  map[string]float64                 `json:"scales"` // of the adapted modules
	SFT     []goldenStep                       `json:"sft"`
	Compare []goldenStep                       `json:"compare"` // SFT gone on with
	OFT     []goldenEpoch                      `json:"oft"`
	Eval    map[run.Variant][]goldenScores     `json:"eval"`
	Results map[run.Variant]map[string]float64 `json:"results"`
}

// goldenRun is a case and the run that is compared with it.
type goldenRun struct {
	*testing.T
	config  configs.Config
	want    goldenNumbers
	arrays  *safetensors.File
	objects *store.Mem
	stages  activities.Stages
	job     run.Job
	before  map[string][]float32 // trained factors before the step under way, by module and factor
}

// quiet is a monitor that nobody listens to.
type quiet struct{}

func (quiet) Report(run.Progress)       {}
func (quiet) Alive()                    {}
func (quiet) Stopping() <-chan struct{} { return nil }

// ok fails the test on an error.
func ok[V any](v V, err error) func(testing.TB) V {
	return func(t testing.TB) V {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func openGolden(t *testing.T, name string) *goldenRun {
	t.Helper()
	t.Parallel()
	file := filepath.Join(goldenFolder, name)
	g := &goldenRun{T: t, arrays: ok(safetensors.Open(file + ".safetensors"))(t), objects: &store.Mem{}}
	t.Cleanup(func() { _ = g.arrays.Close() })
	if err := json.Unmarshal(ok(os.ReadFile(file+".json"))(t), &g.want); err != nil {
		t.Fatal(err)
	}
	g.config = config(t, file+".yaml")
	spec := ok(run.NewSpec(g.config, "test"))(t)
	be := ok(cpu.New(cpu.Options{Threads: 1}))(t)
	w := worker.New(worker.Options{Objects: g.objects, Backend: be, Dir: t.TempDir(), Models: models.Files})
	t.Cleanup(func() { _ = w.Close() })
	g.stages, g.job = w, spec.Job()
	ok(g.stages.Prepare(context.Background(), spec, quiet{}))(t)
	g.before = g.factors("initial")
	return g
}

// config loads a case's config; the files that it names lie beside it.
func config(t *testing.T, file string) configs.Config {
	t.Helper()
	var paths struct {
		Data struct{ Source, Prompts string }
	}
	if err := yaml.Unmarshal(ok(os.ReadFile(file))(t), &paths); err != nil {
		t.Fatal(err)
	}
	var set []string
	if paths.Data.Source == "" {
		set = append(set, "data.source="+ok(filepath.Abs(goldenFolder))(t))
	}
	if p := paths.Data.Prompts; p != "" {
		set = append(set, "data.prompts="+filepath.Join(goldenFolder, p))
	}
	return ok(configs.Load(configs.Sources{Name: file, Set: set}))(t)
}

// factors are the arrays A and B of every adapted module under a name of the case.
func (g *goldenRun) factors(name string) map[string][]float32 {
	g.Helper()
	all := map[string][]float32{}
	for m := range g.want.Scales {
		for _, f := range []string{"A", "B"} {
			all[m+"."+f] = ok(g.arrays.Float32(name + "/" + m + "." + f))(g)
		}
	}
	return all
}
