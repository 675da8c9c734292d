package workflows

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"

	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/workflows/rehearsal"
)

// largestPayload is what one value in a history may have. The service refuses 2 MB and warns from 512 kB on; numbers and
// references need far less, and what needs more belongs into the store.
const largestPayload = 64 << 10

func rulesOff() configs.Stop { return rules(func(*configs.Stop) {}) }

// meter is a data converter that looks at everything on its way into a history.
type meter struct {
	converter.DataConverter
	mu      sync.Mutex
	largest int
	what    string
	secrets []string
	found   []string
}

func (m *meter) look(p *common.Payload) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(p.GetData()); n > m.largest {
		m.largest, m.what = n, string(p.GetData()[:min(n, 200)])
	}
	for _, s := range m.secrets {
		if strings.Contains(string(p.GetData()), s) {
			m.found = append(m.found, s)
		}
	}
}

func (m *meter) ToPayload(v any) (*common.Payload, error) {
	p, err := m.DataConverter.ToPayload(v)
	m.look(p)
	return p, err
}

func (m *meter) ToPayloads(v ...any) (*common.Payloads, error) {
	ps, err := m.DataConverter.ToPayloads(v...)
	for _, p := range ps.GetPayloads() {
		m.look(p)
	}
	return ps, err
}

// TestHistoriesHoldNoSecretAndNothingLarge: a run of many shards, epochs and evaluations, started from a whole config
// whose secrets are set, keeps every value in its histories small and the secrets out.
func TestHistoriesHoldNoSecretAndNothingLarge(t *testing.T) {
	secrets := map[string]string{"AWS_ACCESS_KEY_ID": "AKIA-under-test", "AWS_SECRET_ACCESS_KEY": "very-secret-under-test", "TEMPORAL_API_KEY": "key-under-test"}
	m := &meter{DataConverter: converter.GetDefaultDataConverter()}
	for name, value := range secrets {
		t.Setenv(name, value)
		m.secrets = append(m.secrets, value)
	}
	for _, preset := range []string{"world", "flux-dev"} {
		c, err := configs.Load(configs.Sources{Name: preset, Set: []string{"name=r", "temporal.address=127.0.0.1:7233", "temporal.api_key.env=TEMPORAL_API_KEY"}})
		if err != nil {
			t.Fatal(err)
		}
		in, err := run.NewSpec(c, "test")
		if err != nil {
			t.Fatal(err)
		}
		plan := run.NewPlan(c)
		plan.SFTSteps, plan.SFTChunk, plan.EverySteps, plan.OFTEpochs, plan.EveryEpochs, plan.Shards, plan.Stop = 10, 1, 1, 66, 1, 8, rulesOff()
		f := rehearsal.New(plan)
		env := environment(t, f)
		env.SetDataConverter(m)
		env.ExecuteWorkflow(FineTune, in)
		if env.GetWorkflowError() != nil {
			t.Fatal(env.GetWorkflowError())
		}
		var s run.State
		if err := env.GetWorkflowResult(&s); err != nil || len(s.Quick) < keptQuick {
			t.Errorf("%s: %d quick evaluations in the state, want at least %d: %v", preset, len(s.Quick), keptQuick, err)
		}
	}
	if m.largest > largestPayload || m.largest < 1000 {
		t.Errorf("a value of %d bytes in a history, want at most %d: %s…", m.largest, largestPayload, m.what)
	}
	if len(m.found) > 0 {
		t.Errorf("secrets in a history: %q", m.found)
	}
}

// TestMeterSeesWhatPasses: the test above would notice.
func TestMeterSeesWhatPasses(t *testing.T) {
	m := &meter{DataConverter: converter.GetDefaultDataConverter(), secrets: []string{"needle"}}
	f := rehearsal.New(smallPlan())
	complete(t, f, func(env *testsuite.TestWorkflowEnvironment) { env.SetDataConverter(m) })
	before := m.largest
	if _, err := m.ToPayloads("small", strings.Repeat("needle", 20_000)); err != nil || m.largest < 100_000 || before == 0 || len(m.found) != 1 {
		t.Errorf("%d, then %d bytes; found %v, %v", before, m.largest, m.found, err)
	}
}

// TestRecordedHistoriesAreSmall: the same of the histories of real runs, for every value in them.
func TestRecordedHistoriesAreSmall(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "histories", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d histories, %v", len(files), err)
	}
	values := 0
	var walk func(file string, v any)
	walk = func(file string, v any) {
		switch v := v.(type) {
		case map[string]any:
			if data, ok := v["data"].(string); ok {
				raw, err := base64.StdEncoding.DecodeString(data)
				values++
				if err != nil || len(raw) > largestPayload {
					t.Errorf("%s: a value of %d bytes, %v", file, len(raw), err)
				}
			}
			for _, inner := range v {
				walk(file, inner)
			}
		case []any:
			for _, inner := range v {
				walk(file, inner)
			}
		}
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var h any
		if err := json.Unmarshal(text, &h); err != nil {
			t.Fatal(err)
		}
		walk(filepath.Base(f), h)
	}
	if values < 100 {
		t.Errorf("%d values found in %d histories", values, len(files))
	}
}
