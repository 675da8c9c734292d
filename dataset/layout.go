package dataset

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Layouts of a data set, as Summary names them.
const (
	layoutParquet = "parquet"
	layoutTar     = "webdataset"
	layoutFolder  = "image folder"
)

// defaultSplit is the split of files whose names say none, as on the Hugging Face hub.
const defaultSplit = "train"

// usualSplits are names that a folder of pictures has when it is a split, even where other splits are data files.
var usualSplits = []string{defaultSplit, "test", "validation", "val", "dev"}

// layout is where a split's rows are.
type layout struct {
	kind  string
	base  string   // folder of the files, inside the data folder
	files []string // of parquet and tar, in order
}

// The names that data files have. PREFIX-00000-of-00002.EXT may carry a hash after the total; PREFIX-0000.EXT has no total;
// 0000.EXT is what the hub's own conversion writes into folders named after splits.
var (
	shardName    = regexp.MustCompile(`^(.+)-(\d+)-of-(\d+)(-[0-9a-f]+)?$`)
	numberedName = regexp.MustCompile(`^(.+?)[-_.](\d{3,})$`)
	numberName   = regexp.MustCompile(`^\d+$`)
)

// dataName is a file's name taken apart.
type dataName struct {
	file, split string // split is "" for a bare number
	number      int    // -1 without
	total       int    // 0 without
	kind        string
}

func parseName(file string) (n dataName, ok bool) {
	ext := filepath.Ext(file)
	stem := strings.TrimSuffix(file, ext)
	n = dataName{file: file, number: -1, kind: map[string]string{".parquet": layoutParquet, ".tar": layoutTar}[ext]}
	if n.kind == "" || stem == "" || strings.HasPrefix(file, ".") {
		return n, false
	}
	var err error
	switch {
	case shardName.MatchString(stem):
		m := shardName.FindStringSubmatch(stem)
		n.split = m[1]
		n.number, err = strconv.Atoi(m[2])
		if err == nil {
			n.total, err = strconv.Atoi(m[3])
		}
		return n, err == nil && n.total > 0
	case numberName.MatchString(stem):
		n.number, err = strconv.Atoi(stem)
	case numberedName.MatchString(stem):
		m := numberedName.FindStringSubmatch(stem)
		n.split = m[1]
		n.number, err = strconv.Atoi(m[2])
	default:
		n.split = stem
	}
	return n, err == nil
}

// inFolder gives a folder's data files by split. Files of bare numbers belong to the folder's own split, named.
func inFolder(in *folder, base, named string) (map[string][]dataName, error) {
	entries, err := fs.ReadDir(in.root.FS(), filepath.ToSlash(base))
	if err != nil {
		return nil, err
	}
	out := map[string][]dataName{}
	for _, e := range entries {
		n, ok := parseName(e.Name())
		if !ok || e.IsDir() {
			continue
		}
		if n.split == "" {
			n.split = named
		}
		out[n.split] = append(out[n.split], n)
	}
	return out, nil
}

// places where the files of splits lie: the folder, its data folder, and folders named after a split in them or in the hub's
// default folder. In a folder named after a split all data files must be of that split.
func dataFolders(in *folder) (found []splitFiles, err error) {
	for _, base := range []string{".", "data"} {
		files, err := inFolder(in, base, defaultSplit)
		if err != nil && base == "." {
			return nil, fmt.Errorf("open dataset: %w; give the folder that holds the data", withoutRoot(in, err))
		}
		for split, names := range files {
			found = append(found, splitFiles{split, base, names})
		}
	}
	for _, parent := range []string{".", "data", "default"} {
		for _, name := range subfolders(in, parent) {
			base := filepath.Join(parent, name)
			files, err := inFolder(in, base, name)
			if err == nil && len(files) == 1 && files[name] != nil {
				found = append(found, splitFiles{name, base, files[name]})
			}
		}
	}
	return found, nil
}

// splitFiles are the files of one split in one folder.
type splitFiles struct {
	split, base string
	names       []dataName
}

func subfolders(in *folder, base string) (names []string) {
	entries, err := fs.ReadDir(in.root.FS(), filepath.ToSlash(base))
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names
}

// withoutRoot names the data folder in an error of its root, which knows only ".".
func withoutRoot(in *folder, err error) error {
	return &fs.PathError{Op: "open", Path: in.dir, Err: withoutPath(err)}
}

// find finds a split.
func find(in *folder, split string) (layout, error) {
	found, err := dataFolders(in)
	if err != nil {
		return layout{}, err
	}
	for _, f := range found { // the folder itself first
		if f.split == split {
			return f.layout(in)
		}
	}
	if base := imageBase(in, split, len(found) == 0); base != "" {
		return layout{kind: layoutFolder, base: base}, nil
	}
	splits, err := splitsOf(in)
	if err != nil || len(splits) == 0 {
		return layout{}, fmt.Errorf("open dataset %s: no data in it: neither files %s-*-of-*.parquet (or %s.parquet, "+
			"0000.parquet, %s-*.tar) nor pictures with captions",
			in.dir, split, split, split)
	}
	return layout{}, fmt.Errorf("open dataset %s: no split %q; there are %s", in.dir, split, quoted(splits))
}

func quoted(names []string) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = n
		if q := strconv.Quote(n); q != `"`+n+`"` {
			out[i] = q
		}
	}
	return strings.Join(out, ", ")
}

// layout puts a split's files in order and checks that none is missing and none is left over from another export.
func (f splitFiles) layout(in *folder) (layout, error) {
	dir := filepath.Join(in.dir, f.base)
	names := f.names
	slices.SortFunc(names, func(a, b dataName) int {
		if a.number != b.number {
			return a.number - b.number
		}
		return strings.Compare(a.file, b.file)
	})
	first := names[0]
	for i, n := range names {
		switch {
		case n.kind != first.kind, (n.number < 0) != (first.number < 0), n.total != first.total:
			return layout{}, fmt.Errorf("open dataset %s: %q and %q are both split %s; remove leftovers of another export",
				dir, first.file, n.file, f.split)
		case first.total > 0 && len(names) != first.total:
			return layout{}, fmt.Errorf("open dataset %s: %d files of split %s, their names speak of %d; "+
				"remove leftovers of another export or fetch what is missing",
				dir, len(names), f.split, first.total)
		case first.number >= 0 && n.number != first.number+i || first.total > 0 && n.number != i:
			return layout{}, fmt.Errorf("open dataset %s: %q stands where number %d of split %s should be; "+
				"remove leftovers of another export or fetch what is missing",
				dir, n.file, i, f.split)
		}
	}
	l := layout{kind: first.kind, base: f.base}
	for _, n := range names {
		l.files = append(l.files, filepath.Join(f.base, n.file))
	}
	return l, nil
}

// Splits lists the splits of a data folder, sorted.
func Splits(dir string) ([]string, error) {
	in, err := openFolder(dir, false)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("list dataset: %w", &fs.PathError{Op: "open", Path: dir, Err: fs.ErrNotExist})
		}
		return nil, err
	}
	defer in.root.Close()
	return splitsOf(in)
}

func splitsOf(in *folder) ([]string, error) {
	found, err := dataFolders(in)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, f := range found {
		out = append(out, f.split)
	}
	out = append(out, imageSplits(in, len(found) == 0)...)
	slices.Sort(out)
	return slices.Compact(out), nil
}
