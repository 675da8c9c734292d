package dataset

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// metadataFile holds the captions of an image folder, as the Hugging Face hub names it: a JSON object a line with file_name.
const metadataFile = "metadata.jsonl"

// maxMetadata bounds a file of captions.
const maxMetadata = 1 << 30

// hasPictures looks for a picture in a folder and below it.
func hasPictures(in *folder, base string) bool {
	found := errors.New("found")
	err := walk(in, base, func(string) error { return found })
	return errors.Is(err, found)
}

// walk visits the pictures of a folder and below it, in the order of their names. Hidden files and folders are passed over.
func walk(in *folder, base string, visit func(name string) error) error {
	return fs.WalkDir(in.root.FS(), filepath.ToSlash(base), func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch hidden := strings.HasPrefix(e.Name(), ".") && e.Name() != "." || e.Name() == "__MACOSX"; {
		case hidden && e.IsDir():
			return fs.SkipDir
		case hidden || e.IsDir() || !isPicture(path.Ext(name)):
			return nil
		}
		return visit(name)
	})
}

func exists(in *folder, name string) bool {
	_, err := in.root.Stat(name)
	return err == nil
}

// imageFolders gives the folders with pictures by their names.
func imageFolders(in *folder) map[string]string {
	folders := map[string]string{}
	for _, parent := range []string{"data", "."} { // the nearer one wins
		for _, name := range subfolders(in, parent) {
			if base := filepath.Join(parent, name); base != "data" && hasPictures(in, base) {
				folders[name] = base
			}
		}
	}
	return folders
}

// imageBase is the folder of a split's pictures, "" without. Beside data files, which may name any pictures by path, it must be a
// folder of the split's name; alone the data folder may be the split.
func imageBase(in *folder, split string, alone bool) string {
	folders := imageFolders(in)
	if !alone || !isFlat(in, folders) {
		return folders[split]
	}
	if split == defaultSplit {
		return "."
	}
	return ""
}

// imageSplits lists the splits that are folders of pictures; beside data files only what is called as splits are.
func imageSplits(in *folder, alone bool) (splits []string) {
	folders := imageFolders(in)
	if alone && isFlat(in, folders) {
		return []string{defaultSplit}
	}
	for name := range folders {
		if alone || slices.Contains(usualSplits, name) {
			splits = append(splits, name)
		}
	}
	return splits
}

// isFlat says that the data folder is a split by itself: pictures lie in it, or captions that name some in folders which are
// no splits.
func isFlat(in *folder, folders map[string]string) bool {
	entries, err := fs.ReadDir(in.root.FS(), ".")
	if err != nil {
		return false
	}
	for _, e := range entries {
		if !e.IsDir() && isPicture(path.Ext(e.Name())) {
			return true
		}
	}
	for _, name := range usualSplits {
		if folders[name] != "" {
			return false
		}
	}
	return exists(in, metadataFile)
}

// imageRows reads the captions of an image folder: metadata.jsonl in it, or above it with names that begin with the split, or
// a .txt file beside each picture.
func imageRows(ctx context.Context, in *folder, l layout, b *budget, yield func(Row) error) error {
	if err := noOtherMetadata(in, l.base); err != nil {
		return err
	}
	if name := filepath.Join(l.base, metadataFile); exists(in, name) {
		return listedRows(ctx, in, l.base, name, "", b, yield)
	}
	if l.base != "." && exists(in, metadataFile) {
		return listedRows(ctx, in, ".", metadataFile, filepath.ToSlash(l.base)+"/", b, yield)
	}
	return walk(in, l.base, func(name string) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		r, err := captionedRow(in, name, b)
		if err != nil {
			return err
		}
		return yield(r)
	})
}

// noOtherMetadata refuses what the hub reads as captions and this program does not.
func noOtherMetadata(in *folder, base string) error {
	for _, name := range []string{"metadata.csv", "metadata.parquet"} {
		if file := filepath.Join(base, name); exists(in, file) && !exists(in, filepath.Join(base, metadataFile)) {
			return fmt.Errorf("captions in %q are not read; write them as %s, a line {\"file_name\": …, \"text\": …} for each picture",
				file, metadataFile)
		}
	}
	return nil
}

// captionedRow is a picture with a .txt file of its name.
func captionedRow(in *folder, name string, b *budget) (Row, error) {
	r := newRow()
	file := strings.TrimSuffix(name, path.Ext(name)) + ".txt"
	text, err := in.read("", file, maxText)
	if errors.Is(err, fs.ErrNotExist) {
		return r, fmt.Errorf("picture %q has no caption; write it into %q, or all of them into %s", name, file, metadataFile)
	}
	if err != nil {
		return r, fmt.Errorf("caption of picture %q: %w", name, err)
	}
	t, err := captionText("text", text, b)
	if err != nil {
		return r, fmt.Errorf("caption %q: %w", file, err)
	}
	r.caption(t)
	pictureRow(&r, in, "", name)
	return r, b.row()
}

// pictureRow gives a row its picture and, without one of its own, the file's name as id.
func pictureRow(r *Row, in *folder, at, name string) {
	r.ExplicitImages = one(&Image{Path: Cell{name, true}, at: &filePlace{in, at, name}})
	if r.Cells["id"].Value == "" {
		r.Cells["id"] = Cell{name, true}
	}
	r.origin = fmt.Sprintf("picture %q", name)
}

// listedRows are the lines of a metadata.jsonl. at is the folder that file names start from; of a file above the split only
// names with its prefix count.
func listedRows(ctx context.Context, in *folder, at, name, prefix string, b *budget, yield func(Row) error) error {
	text, err := in.read("", name, maxMetadata)
	if err != nil {
		return fmt.Errorf("captions: %w", err)
	}
	named, line := map[string]bool{}, 0
	lines := bufio.NewScanner(bytes.NewReader(bytes.TrimPrefix(text, []byte("\ufeff"))))
	lines.Buffer(nil, 2*maxText)
	for lines.Scan() {
		line++
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		r, file, err := listedRow(in, at, lines.Bytes(), b)
		switch {
		case err != nil:
			return fmt.Errorf("%q line %d: %w", name, line, err)
		case !strings.HasPrefix(file, prefix):
			continue
		case named[file]:
			return fmt.Errorf("%q line %d: picture %q has a caption already; keep one", name, line, file)
		}
		named[file] = true
		if err := errors.Join(ctx.Err(), yield(r)); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%q line %d: %w", name, line+1, err)
	}
	return allNamed(in, at, strings.TrimSuffix(prefix, "/"), name, named)
}

// allNamed wants every picture of the folder to have a line.
func allNamed(in *folder, at, below, metadata string, named map[string]bool) error {
	missing, first := 0, ""
	err := walk(in, filepath.Join(at, below), func(name string) error {
		rel, err := filepath.Rel(at, filepath.FromSlash(name))
		if err == nil && !named[filepath.ToSlash(rel)] {
			if missing++; missing == 1 {
				first = name
			}
		}
		return err
	})
	if err == nil && missing > 0 {
		err = fmt.Errorf("%d pictures have no line in %q, the first is %q; add lines or move the pictures away", missing, metadata, first)
	}
	return err
}

func listedRow(in *folder, at string, line []byte, b *budget) (Row, string, error) {
	object, err := fields(line)
	if err != nil {
		return Row{}, "", err
	}
	var file string
	if v, ok := object["file_name"]; !ok {
		return Row{}, "", fmt.Errorf("no file_name; found %s", quoted(sortedKeys(object)))
	} else if err := json.Unmarshal(v, &file); err != nil || file == "" {
		return Row{}, "", errors.New("file_name is not the name of a file")
	}
	delete(object, "file_name")
	file = path.Clean(file)
	r, err := rowOf(object, b)
	if err != nil {
		return r, file, err
	}
	if len(r.Implicit.Wordings()) == 0 {
		return r, file, fmt.Errorf("no caption: give text, or implicit_prompt, explicit_prompt and superficial_prompt; found %s",
			quoted(sortedKeys(object)))
	}
	pictureRow(&r, in, at, file)
	return r, file, nil
}
