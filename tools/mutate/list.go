package main

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Mutation is one deliberate fault: a piece of a file that is replaced by another one.
type Mutation struct {
	ID   string `yaml:"id"`
	What string `yaml:"what"` // the fault in words
	File string `yaml:"file"`
	Old  string `yaml:"old"` // occurs in the file exactly once
	New  string `yaml:"new"`
	// Tests are the packages that are asked in turn until one notices; the file's own where none is given.
	Tests []string `yaml:"tests"`
	Run   string   `yaml:"run"` // as -run of go test; empty for all tests of the packages
	Area  string   `yaml:"-"`   // name of the list's file
}

//go:embed list/*.yaml
var lists embed.FS

// readList reads the lists, each of one area, in the order of their names.
func readList() ([]Mutation, error) {
	files, err := lists.ReadDir("list")
	if err != nil {
		return nil, err
	}
	var all []Mutation
	for _, f := range files {
		text, err := lists.ReadFile(path.Join("list", f.Name()))
		if err != nil {
			return nil, err
		}
		part, err := parse(f.Name(), text)
		if err != nil {
			return nil, err
		}
		all = append(all, part...)
	}
	return all, nil
}

// parse reads one list.
func parse(name string, text []byte) ([]Mutation, error) {
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	var part []Mutation
	if err := d.Decode(&part); err != nil {
		return nil, fmt.Errorf("read list %s: %w", name, err)
	}
	for i := range part {
		m := &part[i]
		m.Area = strings.TrimSuffix(name, ".yaml")
		if len(m.Tests) == 0 {
			m.Tests = []string{"./" + path.Dir(m.File)}
		}
	}
	return part, nil
}

var idForm = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)

// check finds what is wrong with the list itself, all of it at once.
func check(root string, all []Mutation) error {
	var errs []error
	seen := map[string]bool{}
	for _, m := range all {
		switch {
		case !idForm.MatchString(m.ID):
			errs = append(errs, fmt.Errorf("%s: id %q is none of lower-case letters, digits and dashes", m.Area, m.ID))
		case seen[m.ID]:
			errs = append(errs, fmt.Errorf("%s: the id is given twice", m.ID))
		case m.What == "" || strings.ContainsAny(m.What, "|\n"):
			errs = append(errs, fmt.Errorf("%s: what must be one line without |", m.ID))
		}
		seen[m.ID] = true
		if _, err := m.apply(root); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// apply gives the file's text with the fault in it.
func (m Mutation) apply(root string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(root, m.File))
	if err != nil {
		return nil, fmt.Errorf("%s: %w; name the file that has the code now", m.ID, err)
	}
	if n := bytes.Count(text, []byte(m.Old)); m.Old == "" || n != 1 {
		return nil, fmt.Errorf("%s: the old text occurs %d times in %s, it must be there once; copy it from the file as it is now, "+
			"with as many lines as tell it apart", m.ID, n, m.File)
	}
	if m.Old == m.New {
		return nil, fmt.Errorf("%s: the new text is the old one", m.ID)
	}
	return bytes.Replace(text, []byte(m.Old), []byte(m.New), 1), nil
}
