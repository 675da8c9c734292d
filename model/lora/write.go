package lora

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/sciflux/sciflux/store/safetensors"
)

// File is one file of an adapter in some format.
type File struct {
	Name  string
	Write func(io.Writer) error
}

// Formats lists the formats that Files writes.
func Formats() []string { return []string{"diffusers", "kohya", "peft"} }

// KohyaFile is the name of the adapter in kohya naming.
const KohyaFile = "kohya_lora.safetensors"

// Files are the adapter's files in a format, stored as dtype. layers are all of the model.
func (a *Adapter) Files(format string, layers []Layer, dtype safetensors.DType) ([]File, error) {
	file := func(name string, list []safetensors.Tensor, metadata map[string]string) File {
		return File{name, func(w io.Writer) error { _, err := safetensors.Write(w, list, metadata); return err }}
	}
	switch format {
	case "diffusers":
		return []File{{DiffusersFile, func(w io.Writer) error { _, err := a.Write(w, dtype); return err }}}, nil
	case "kohya":
		list, err := a.kohyaTensors(layers, dtype)
		if err != nil {
			return nil, fmt.Errorf("write adapter in kohya naming: %w", err)
		}
		return []File{file(KohyaFile, list, map[string]string{"format": "pt", ranksKey: a.ranksText()})}, nil
	case "peft":
		config, err := jsonText(a.config())
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", PEFTConfigFile, err)
		}
		return []File{
			{PEFTConfigFile, func(w io.Writer) error { _, err := w.Write(append(config, '\n')); return err }},
			file(PEFTFile, a.tensors(peftPrefix, dtype), map[string]string{"format": "pt"}),
		}, nil
	}
	return nil, fmt.Errorf("write adapter: format %q is not known; known are %s", format, strings.Join(Formats(), ", "))
}

// Write writes the adapter in diffusers naming, transformer.<module>.lora_A.weight and .lora_B.weight, stored as dtype,
// with ranks and alphas in the header as diffusers writes them. It has no .alpha tensors beside them: diffusers refuses a
// file with both. The same adapter gives the same bytes.
func (a *Adapter) Write(w io.Writer, dtype safetensors.DType) (int64, error) {
	said := map[string]any{}
	for key, value := range a.config() {
		said["transformer."+key] = value
	}
	text, err := jsonText(said)
	if err != nil {
		return 0, fmt.Errorf("write %s: %w", headerKey, err)
	}
	return safetensors.Write(w, a.tensors("transformer.", dtype), map[string]string{"format": "pt", headerKey: string(text)})
}

// tensors are A and B of each module behind a prefix. They are views: the adapter must not change before they are written.
func (a *Adapter) tensors(prefix string, dtype safetensors.DType) []safetensors.Tensor {
	var list []safetensors.Tensor
	for _, m := range a.Modules {
		list = append(list,
			safetensors.Float32s(prefix+m.Name+".lora_A.weight", dtype, []int{m.Rank, m.In}, a.A(m)),
			safetensors.Float32s(prefix+m.Name+".lora_B.weight", dtype, []int{m.Out, m.Rank}, a.B(m)))
	}
	return list
}

// jsonText is JSON as Python's json.dumps(indent=2, sort_keys=True) has it.
func jsonText(value any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(value)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// config is the adapter as peft's LoraConfig. The rank and alpha that most modules have are common, the others become
// patterns of whole module names.
func (a *Adapter) config() map[string]any {
	stable := !slices.ContainsFunc(a.Modules, func(m Module) bool { return !m.RankStabilised })
	ranks, alphas := make([]int, len(a.Modules)), make([]float64, len(a.Modules))
	for i, m := range a.Modules {
		ranks[i], alphas[i] = m.Rank, m.Alpha
		if m.RankStabilised && !stable {
			alphas[i] = m.plainAlpha()
		}
	}
	rank, alpha := mostCommon(ranks), mostCommon(alphas)
	rankOf, alphaOf := map[string]int{}, map[string]float64{}
	for i, m := range a.Modules {
		if ranks[i] != rank {
			rankOf[exactKey(m.Name)] = ranks[i]
		}
		if alphas[i] != alpha {
			alphaOf[exactKey(m.Name)] = alphas[i]
		}
	}
	return map[string]any{
		"peft_type": "LORA", "task_type": nil, "base_model_name_or_path": nil, "inference_mode": true,
		"r": rank, "lora_alpha": alpha, "lora_dropout": 0, "target_modules": a.targetModules(),
		"rank_pattern": rankOf, "alpha_pattern": alphaOf, "bias": "none", "fan_in_fan_out": false, "init_lora_weights": true,
		"modules_to_save": nil, "use_dora": false, "use_rslora": stable,
	}
}

// targetModules names the modules. A name of a list also stands for modules that end with it after a dot, which proj_out
// has to be kept from: then the names are one regular expression, which has to match the whole.
func (a *Adapter) targetModules() any {
	names := a.Names()
	if !slices.ContainsFunc(names, func(n string) bool { return !strings.Contains(n, ".") }) {
		return names
	}
	for i, n := range names {
		names[i] = regexp.QuoteMeta(n)
	}
	return "(" + strings.Join(names, "|") + ")"
}

// mostCommon is the value that occurs most, the first of equals.
func mostCommon[V comparable](values []V) V {
	counts, best := map[V]int{}, values[0]
	for _, v := range values {
		counts[v]++
	}
	for _, v := range values {
		if counts[v] > counts[best] {
			best = v
		}
	}
	return best
}
