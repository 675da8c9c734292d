package configs

import (
	"slices"
	"sort"
	"strings"
)

// envPrefix begins every environment variable that sets a key: SCIFLUX_SFT_LR sets sft.lr.
const envPrefix = "SCIFLUX_"

// otherVariables begin with the prefix too and set no key; see `sciflux --help` and engine/cpu.
var otherVariables = []string{"SCIFLUX_STATE_DIR", "SCIFLUX_GEMM", "SCIFLUX_ISA"}

// environ applies the SCIFLUX_ variables. One that names no key is told when it was probably meant to; any other is
// somebody else's.
func (l *loader) environ(environ []string) {
	byName := map[string]*Field{}
	for i := range Fields() {
		byName[envName(fieldList[i].Path)] = &fieldList[i]
	}
	sorted := append([]string(nil), environ...)
	sort.Strings(sorted)
	for _, entry := range sorted {
		name, raw, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, envPrefix) || raw == "" || slices.Contains(otherVariables, name) {
			continue
		}
		if f, ok := byName[name]; ok {
			l.text(f, raw, name)
		} else if meant := meantVariable(name); meant != "" {
			l.problems.add("", name, "did you mean "+meant+"? or unset it", "names no key")
		}
	}
}

func envName(path string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
}

// meantVariable is the variable that one which names no key was probably meant to be: the nearest of its section, one a
// slip away, or one that is called so in a section or by another trainer. Empty for a variable that is somebody else's.
func meantVariable(name string) string {
	var paths []string
	variables := slices.Clone(otherVariables)
	word := strings.ToLower(strings.TrimPrefix(name, envPrefix))
	_, known := otherNames[word]
	for _, f := range Fields() {
		paths, variables = append(paths, f.Path), append(variables, envName(f.Path))
		known = known || last(f.Path) == word && f.Changes != changesPlace // SCIFLUX_PATH may be anybody's
	}
	if section := envSection(name); section != "" {
		return envName(nearestKey(section+"."+strings.ToLower(strings.TrimPrefix(name, envName(section)+"_")), paths))
	}
	if near, off := nearestOf(name, variables); off <= slips(word) {
		return near
	}
	if known {
		return envName(nearestKey(word, paths))
	}
	return ""
}

// slips is how many letters of a name may be wrong: two, and one of a short name.
func slips(word string) int {
	const short = 6
	if len(word) <= short {
		return 1
	}
	return 2
}

// envSection is the innermost section that a variable's name begins with; empty for none.
func envSection(name string) (section string) {
	for _, s := range sections() {
		if strings.HasPrefix(name, envName(s.path)+"_") && len(s.path) > len(section) {
			section = s.path
		}
	}
	return section
}
