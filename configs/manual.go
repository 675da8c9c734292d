package configs

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/invopop/jsonschema"
)

// manualHead opens the generated reference.
const manualHead = `# Config reference

Generated from the comments in ` + "`configs/config.go`" + ` and ` + "`configs/oft.go`" + `; change them there and run ` + "`go test ./configs -update`" + `.

A config is built in layers, each over the one before: defaults, preset, file, environment, ` + "`--set`" + `. ` +
	"`sciflux run PRESET|FILE`" + ` takes a preset's name or a YAML file; a file may start from a preset with the key ` +
	"`preset`" + `. The variable ` + "`SCIFLUX_SFT_LR`" + ` sets ` + "`sft.lr`" + `, and so on for every key.
Unknown keys, keys given twice, wrong types and contradictions are errors, all reported together.
Secrets are never written in a config: it names the variable or file that holds them.
The resolved config is saved with every run (` + "`sciflux config show`" + ` prints it).

The column *changes* says what another value of a key changes: the **result** of a run (its adapter, and what is measured of it), only its
**speed** (time, memory, disk space, what an interruption costs), the **place** where things are found and stored and what they are called, or
what the **report** shows beside the results. The config's hash covers the keys that change a result; a run can be resumed with other
values of the rest.

`

// Manual is the reference of all keys as Markdown.
func Manual() (string, error) {
	root := &jsonschema.Schema{}
	if err := json.Unmarshal(schemaFile, root); err != nil {
		return "", fmt.Errorf("read embedded schema: %w", err)
	}
	var b strings.Builder
	b.WriteString(manualHead)
	fmt.Fprintf(&b, "Presets: `%s`.\n", strings.Join(Presets(), "`, `"))
	bySection, order := map[string][]Field{}, []string{}
	for _, f := range Fields() {
		s := strings.TrimSuffix(strings.TrimSuffix(f.Path, last(f.Path)), ".")
		if bySection[s] == nil {
			order = append(order, s)
		}
		bySection[s] = append(bySection[s], f)
	}
	for _, s := range order {
		if err := manualSection(&b, root, s); err != nil {
			return "", err
		}
		for _, f := range bySection[s] {
			node, err := property(root, f.Path)
			if err != nil {
				return "", err
			}
			fmt.Fprintf(&b, "| `%s` | %s | `%s` | %s | %s |\n", last(f.Path), f.Type, f.Default, f.Changes, manualText(f, node.Description))
		}
	}
	return b.String(), nil
}

func manualSection(b *strings.Builder, root *jsonschema.Schema, path string) error {
	if path == "" {
		b.WriteString("\n## Top level\n")
	} else {
		node, err := property(root, path)
		if err != nil {
			return err
		}
		fmt.Fprintf(b, "\n## %s\n\n%s\n", path, node.Description)
	}
	b.WriteString("\n| key | type | default | changes | meaning |\n|---|---|---|---|---|\n")
	return nil
}

// manualText is the meaning of a key with its allowed values and bounds, fit for a table cell.
func manualText(f Field, description string) string {
	var limits []string
	if f.Methods != nil {
		limits = append(limits, "of "+strings.Join(f.Methods, ", "))
	}
	if f.Enum != nil {
		limits = append(limits, "one of "+strings.Join(f.Enum, ", "))
	}
	for _, b := range f.Bounds {
		if b != "nonempty" {
			limits = append(limits, boundWords(b))
		}
	}
	if limits != nil {
		description += " (" + strings.Join(limits, "; ") + ")"
	}
	return strings.ReplaceAll(description, "|", "\\|")
}
