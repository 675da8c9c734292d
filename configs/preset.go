package configs

import (
	"embed"
	"fmt"
	"sort"
	"strings"
)

//go:embed presets/*.yaml
var presetFiles embed.FS

// Presets lists the names of the embedded presets.
func Presets() []string {
	entries, err := presetFiles.ReadDir("presets")
	if err != nil {
		panic("configs: embedded presets: " + err.Error())
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	sort.Strings(names)
	return names
}

// presetText is the YAML of an embedded preset.
func presetText(name string) ([]byte, bool) {
	if strings.ContainsAny(name, "/\\.") {
		return nil, false
	}
	text, err := presetFiles.ReadFile("presets/" + name + ".yaml")
	return text, err == nil
}

// presetCure says which presets there are, and which one was probably meant.
func presetCure(name string) string {
	cure := fmt.Sprintf("presets are %s; a file is named by its path", strings.Join(Presets(), ", "))
	if near, ok := nearest(name, Presets()); ok {
		cure = fmt.Sprintf("did you mean %s? %s", near, cure)
	}
	return cure
}
