package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sciflux/sciflux/run"
)

// manifestFormat is the version of the manifest's layout. A reader refuses later ones.
const manifestFormat = 1

// maxManifest is far above any real manifest in bytes.
const maxManifest = 4 << 20

// AdapterPart is the name of the part that holds the adapter's weights; a CheckpointRef points at it.
const AdapterPart = "adapter.safetensors"

// Manifest describes a checkpoint. The caller of Save fills the upper half.
type Manifest struct {
	Stage       run.Stage          `json:"stage"`
	Step        int                `json:"step"`                // optimiser steps finished in this stage
	Epoch       int                `json:"epoch"`               // OFT epochs finished; 0 in SFT
	Seconds     float64            `json:"seconds"`             // working time of the stage so far
	StageEnd    bool               `json:"stage_end,omitempty"` // the last checkpoint of its stage; never pruned
	ConfigHash  string             `json:"config_hash"`         // SHA-256 of the resolved config, hex
	CodeVersion string             `json:"code_version"`
	Machine     string             `json:"machine,omitempty"`   // what computed it: kernels and the type of products; others round differently
	Inputs      map[string]string  `json:"inputs,omitempty"`    // identities of base model, data set, scorer and initial adapter, by config key
	Reference   string             `json:"reference,omitempty"` // SHA-256 of the reference adapter, in OFT
	Parent      run.ObjectRef      `json:"parent,omitzero"`     // manifest of the checkpoint this one continues
	Metrics     map[string]float64 `json:"metrics,omitempty"`
	Result      json.RawMessage    `json:"result,omitempty"` // what the chunk that ended here returned

	Format  int        `json:"format"`
	Run     string     `json:"run"`
	Attempt string     `json:"attempt"` // unique to the call of Save that made it
	Created time.Time  `json:"created"` // UTC
	Parts   []PartInfo `json:"parts"`   // sorted by name
}

// PartInfo describes one part of a checkpoint.
type PartInfo struct {
	Name   string        `json:"name"`
	Object run.ObjectRef `json:"object"`
}

// Part is one part to be saved: Write is called once and must write the same bytes whenever it is called.
type Part struct {
	Name  string
	Write func(io.Writer) error
}

// BytesPart is a part whose bytes are in memory.
func BytesPart(name string, data []byte) Part {
	return Part{Name: name, Write: func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}}
}

// Part returns a part's description, and whether there is one of that name.
func (m Manifest) Part(name string) (PartInfo, bool) {
	i := slices.IndexFunc(m.Parts, func(p PartInfo) bool { return p.Name == name })
	if i < 0 {
		return PartInfo{}, false
	}
	return m.Parts[i], true
}

// Bytes is the size of all parts together.
func (m Manifest) Bytes() int64 {
	sum := int64(0)
	for _, p := range m.Parts {
		sum += p.Object.Bytes
	}
	return sum
}

var (
	partName     = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)
	manifestPath = regexp.MustCompile(`^step-(\d{6,})/manifest\.json$`)
)

func stepName(step int) string { return fmt.Sprintf("step-%06d", step) }

// stepOf returns the step of a manifest's key below the prefix of its stage.
func stepOf(prefix, key string) (int, bool) {
	rest, ok := strings.CutPrefix(key, prefix)
	match := manifestPath.FindStringSubmatch(rest)
	if !ok || match == nil {
		return 0, false
	}
	step, err := strconv.Atoi(match[1])
	return step, err == nil && stepName(step)+"/manifest.json" == rest
}

func (m Manifest) encode() ([]byte, error) {
	text, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return nil, fmt.Errorf("encode manifest of %s step %d: %w", m.Stage, m.Step, err)
	}
	return append(text, '\n'), nil
}

// decodeManifest reads the manifest stored under key, and checks that it belongs there and that its parts lie
// below prefix, so that a manifest cannot make anybody read or delete what is not the stage's.
func decodeManifest(text []byte, prefix, key string) (Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(bytes.TrimSpace(text), &m); err != nil {
		return m, Fail("read manifest", key, ErrCorrupt, err)
	}
	corrupt := func(format string, args ...any) (Manifest, error) {
		return m, Fail("read manifest", key, ErrCorrupt, fmt.Errorf(format, args...))
	}
	if m.Format > manifestFormat {
		return m, Fail("read manifest", key, ErrConflict, fmt.Errorf("format %d was written by a newer version (%s)", m.Format, m.CodeVersion))
	}
	var result bytes.Buffer // the indentation of the file is not the caller's
	if len(m.Result) > 0 && json.Compact(&result, m.Result) == nil {
		m.Result = result.Bytes()
	}
	if step, ok := stepOf(prefix, key); m.Format != manifestFormat || !ok || step != m.Step {
		return corrupt("format %d, step %d does not belong to this key", m.Format, m.Step)
	}
	for i, p := range m.Parts {
		if !partName.MatchString(p.Name) || p.Object.Bytes < 0 || len(p.Object.SHA256) != 64 {
			return corrupt("part %d %q is not described", i, p.Name)
		}
		if i > 0 && p.Name <= m.Parts[i-1].Name {
			return corrupt("parts are not sorted at %q", p.Name)
		}
		if !strings.HasPrefix(p.Object.Key, prefix+"parts/") || path.Base(p.Object.Key) != p.Name {
			return corrupt("part %q lies outside the stage at %q", p.Name, p.Object.Key)
		}
	}
	return m, nil
}

// ref makes the reference to a manifest of the given bytes.
func (m Manifest) ref(key string, text []byte) run.CheckpointRef {
	adapter, _ := m.Part(AdapterPart)
	return run.CheckpointRef{
		Manifest: run.ObjectRef{Key: key, SHA256: hashOf(text), Bytes: int64(len(text))},
		Stage:    m.Stage, Step: m.Step, Epoch: m.Epoch, Adapter: adapter.Object, Seconds: m.Seconds,
	}
}
