package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sciflux/sciflux/cmd/sciflux/internal/console"
	"github.com/sciflux/sciflux/engine/cpu"
	"github.com/sciflux/sciflux/internal/embedded"
	"github.com/sciflux/sciflux/report"
	"github.com/sciflux/sciflux/workflows"
)

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "doctor",
		Short:   "Say what this machine gives and what is missing",
		Long:    "Print processors, instruction set, oneDNN, GPU, memory, disk and the state of the services, and what an external Temporal service needs.",
		Example: "  sciflux doctor",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return a.runDoctor(c.Context()) },
	}
}

// machine is what doctor finds.
type machine struct {
	Version     string             `json:"version"`
	Cores       int                `json:"cores"`
	ISA         string             `json:"isa"`
	OneDNN      string             `json:"onednn"` // version found; empty for none
	GEMM        string             `json:"gemm"`
	AMX         bool               `json:"amx"` // bfloat16 products run on the processor's matrix unit
	GPU         string             `json:"gpu"` // name; empty for none
	MemoryBytes int64              `json:"memory_bytes"`
	FreeMemory  int64              `json:"free_memory_bytes"`
	StateDir    string             `json:"state_dir"`
	FreeDisk    int64              `json:"free_disk_bytes"`    // -1 when it is not known
	Services    *embedded.Services `json:"services,omitempty"` // nil when they do not run
	Ports       string             `json:"ports"`
	Attributes  string             `json:"search_attributes_command"`
	Warnings    []string           `json:"warnings"`
}

func (a *app) runDoctor(ctx context.Context) error {
	dir, err := a.stateDir()
	if err != nil {
		return err
	}
	d := cpu.Describe()
	m := machine{Version: a.version, Cores: runtime.NumCPU(), ISA: d.ISA, OneDNN: d.OneDNN, GEMM: d.GEMM, AMX: d.AMX, GPU: gpu(ctx), StateDir: dir,
		Ports: "chosen when the services start", Attributes: attributesCommand(), Warnings: []string{}}
	m.MemoryBytes, m.FreeMemory = memory()
	m.FreeDisk = freeDisk(dir)
	if s, err := embedded.Attach(ctx, servicesDir(dir)); err == nil {
		defer s.Close()
		m.Services, m.Ports = s, fmt.Sprintf("temporal %s, web UI %s, S3 %s", s.TemporalAddress, s.UIAddress, s.S3Endpoint)
	}
	m.warn()
	return a.print.Value(m, m.text)
}

const (
	fewMemory = 2 << 30
	fewDisk   = 2 << 30
)

func (m *machine) warn() {
	if m.OneDNN == "" && m.ISA == "avx512" {
		m.Warnings = append(m.Warnings, "oneDNN is not found: matrix products are slower; `make deps` installs it")
	}
	if m.ISA == "go" || m.ISA == "portable" || m.ISA == "sse2" {
		m.Warnings = append(m.Warnings, "no fast kernels for this processor or build: everything works, slowly")
	}
	if m.FreeMemory > 0 && m.FreeMemory < fewMemory {
		m.Warnings = append(m.Warnings, "less than 2 GiB of memory are free")
	}
	if m.FreeDisk >= 0 && m.FreeDisk < fewDisk {
		m.Warnings = append(m.Warnings, "less than 2 GiB are free on the disk of the state folder")
	}
}

func (m machine) text(w io.Writer) {
	orNone := func(s string) string {
		if s == "" {
			return "none"
		}
		return s
	}
	console.Table(w, []string{"this machine", ""}, [][]string{
		{"cores", fmt.Sprint(m.Cores)}, {"instruction set", m.ISA}, {"oneDNN", orNone(m.OneDNN)}, {"matrix products", m.GEMM}, {"bf16 by AMX", yesNo(m.AMX)}, {"GPU", orNone(m.GPU)},
		{"memory", report.Bytes(m.MemoryBytes) + ", " + report.Bytes(m.FreeMemory) + " free"},
		{"state folder", m.StateDir + ", " + room(m.FreeDisk)}, {"ports", m.Ports},
	})
	for _, warning := range m.Warnings {
		fmt.Fprintf(w, "warning: %s\n", warning)
	}
	fmt.Fprintf(w, "an external Temporal namespace needs, once:\n  %s\n", m.Attributes)
}

// room is what is free on a disk, in words.
func room(free int64) string {
	if free < 0 {
		return "free space unknown"
	}
	return report.Bytes(free) + " free"
}

// gpuTime bounds the question for a GPU: a driver in trouble can hang.
const gpuTime = 5 * time.Second

// gpu is the name of the first NVIDIA GPU.
func gpu(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, gpuTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, "nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader").Output()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}

// memory is the machine's memory and what is available of it, in bytes; 0 when unknown.
func memory() (total, available int64) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(text)) {
		var kib int64
		if _, err := fmt.Sscanf(line, "MemTotal: %d kB", &kib); err == nil {
			total = kib << 10
		}
		if _, err := fmt.Sscanf(line, "MemAvailable: %d kB", &kib); err == nil {
			available = kib << 10
		}
	}
	return total, available
}

// freeDisk is what can still be written in a folder, or in the nearest one above it that exists; -1 when it is not known.
func freeDisk(dir string) int64 {
	for {
		if free, err := embedded.FreeSpace(dir); err == nil {
			return free
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return -1
		}
		dir = parent
	}
}

// attributesCommand registers the search attributes in a namespace of an external service.
func attributesCommand() string {
	parts := []string{"temporal operator search-attribute create --namespace NAMESPACE"}
	for _, s := range workflows.SearchAttributes() {
		parts = append(parts, "--name "+s.Name+" --type "+s.Type.String())
	}
	return strings.Join(parts, " ")
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
