package configs

import (
	"fmt"
	"path/filepath"
	"strings"
)

// maxNameLen keeps object keys and workflow ids well under every store's and server's limit.
const maxNameLen = 64

// CheckName reports whether name can name a run. A name becomes a part of object keys and workflow ids, so it is
// limited to lower-case letters, digits, dot, dash and underscore, starting with a letter or digit.
func CheckName(name string) error {
	if name == "" {
		return fmt.Errorf("run name: empty; give one with --name or the key name")
	}
	if len(name) > maxNameLen {
		return fmt.Errorf("run name %q: %d characters; at most %d are allowed", name, len(name), maxNameLen)
	}
	for i, r := range name {
		if alnum(r) || i > 0 && strings.ContainsRune(joints, r) {
			continue
		}
		return fmt.Errorf("run name %q: character %q at %d; use a-z, 0-9 and, after the first, . - _", name, r, i)
	}
	return nil
}

// joints may stand in a name, but not at its beginning.
const joints = ".-_"

func alnum(r rune) bool { return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' }

// nameOf makes a run's name of a preset's or a file's: in lower case, with a dash for what names do not have. It is empty
// where nothing is left.
func nameOf(source string) string {
	stem := strings.TrimSuffix(filepath.Base(source), filepath.Ext(source))
	name := strings.Map(func(r rune) rune {
		if alnum(r) || strings.ContainsRune(joints, r) {
			return r
		}
		return '-'
	}, strings.ToLower(stem))
	name = strings.TrimLeft(name, joints)
	return strings.TrimRight(name[:min(len(name), maxNameLen)], joints)
}

// checkName holds the rule of a run's name. No name is none to check: defaults have none, and a run asks for one.
func (c *Config) checkName(ps *problems) {
	if c.Name == "" {
		return
	}
	if err := CheckName(c.Name); err != nil {
		ps.add("name", "", "", "%v", err)
	}
}
