package world

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"

	"github.com/sciflux/sciflux/dataset"
)

// tiny sizes keep an export cheap; nothing of the files' form depends on them.
var tiny = ExportOptions{Seed: 4, Side: 8, Pretrain: 11, Train: 21, Shard: 10}

func exported(t *testing.T, o ExportOptions) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, Export(context.Background(), dir, o))
	return dir
}

// leaves lists a file's columns as path and type.
func leaves(t *testing.T, path string) (out []string, f *parquet.File) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	f, err = parquet.OpenFile(bytes.NewReader(b), int64(len(b)))
	require.NoError(t, err)
	var walk func(c *parquet.Column)
	walk = func(c *parquet.Column) {
		if c.Leaf() {
			out = append(out, strings.Join(c.Path(), ".")+" "+c.Type().String())
		}
		for _, k := range c.Columns() {
			walk(k)
		}
	}
	walk(f.Root())
	return out, f
}

// promptLeaves, pictureLeaves and ownLeaves are the columns of the Science-T2I files and of the world.
var (
	pictureLeaves = []string{
		"explicit_image.list.element.bytes BYTE_ARRAY", "explicit_image.list.element.path STRING",
		"superficial_image.list.element.bytes BYTE_ARRAY", "superficial_image.list.element.path STRING", "category STRING", "law STRING",
	}
	ownLeaves = []string{"object STRING", "task STRING", "subject STRING", "scene STRING", "pose INT(64,true)", "box.list.element DOUBLE", "id STRING"}
)

// TestFilesOfAnExport looks at one export from several sides.
func TestFilesOfAnExport(t *testing.T) {
	o, last := tiny, map[string][2]int{}
	o.Progress = func(split string, done, total int) {
		require.Greater(t, done, last[split][0])
		require.LessOrEqual(t, done, total)
		last[split] = [2]int{done, total}
	}
	dir := exported(t, o)
	t.Run("columns", func(t *testing.T) { checkColumns(t, dir) })
	t.Run("shards", func(t *testing.T) { checkShards(t, dir, last) })
	t.Run("rows", func(t *testing.T) { checkContents(t, dir) })
	t.Run("repeated", func(t *testing.T) { checkRepeated(t, dir) })
}

// checkColumns: names and types are those of the published data set: prompts are lists of strings where models are
// trained and strings with grading questions where they are tested; pictures are lists of {bytes, path}.
func checkColumns(t *testing.T, dir string) {
	for split, want := range map[string][]string{
		Train:      {"implicit_prompt.list.element STRING", "explicit_prompt.list.element STRING", "superficial_prompt.list.element STRING"},
		Pretrain:   {"implicit_prompt.list.element STRING", "explicit_prompt.list.element STRING", "superficial_prompt.list.element STRING"},
		TestS:      {"implicit_prompt STRING", "explicit_prompt STRING", "superficial_prompt STRING", "scene_scoring STRING", "real_scoring STRING"},
		TestC:      {"implicit_prompt STRING", "explicit_prompt STRING", "superficial_prompt STRING", "scene_scoring STRING", "real_scoring STRING"},
		Validation: {"implicit_prompt STRING", "explicit_prompt STRING", "superficial_prompt STRING", "scene_scoring STRING", "real_scoring STRING"},
	} {
		paths, err := filepath.Glob(filepath.Join(dir, split+"-*.parquet"))
		require.NoError(t, err)
		require.NotEmpty(t, paths)
		got, f := leaves(t, paths[0])
		require.ElementsMatch(t, slices.Concat(want, pictureLeaves, ownLeaves), got, split)
		checkFeatures(t, f, got)
	}
}

// checkFeatures: the description that the datasets library reads names the very columns of the file, in their order.
func checkFeatures(t *testing.T, f *parquet.File, leaves []string) {
	t.Helper()
	text, ok := f.Lookup("huggingface")
	require.True(t, ok)
	var meta struct {
		Info struct {
			Features map[string]struct {
				Type    string `json:"_type"`
				DType   string `json:"dtype"`
				Feature struct {
					Type  string `json:"_type"`
					DType string `json:"dtype"`
				} `json:"feature"`
			} `json:"features"`
		} `json:"info"`
	}
	require.NoError(t, json.Unmarshal([]byte(text), &meta))
	kinds := map[string]string{}
	for _, l := range leaves {
		name, kind, _ := strings.Cut(l, " ")
		column, _, list := strings.Cut(name, ".")
		if list {
			kind = "list " + kind
		}
		kinds[column] = kind
	}
	require.Len(t, meta.Info.Features, len(kinds))
	for name, f := range meta.Info.Features {
		got := f.DType
		if f.Type == "List" {
			got = "list " + f.Feature.DType + f.Feature.Type
		}
		want, ok := map[string]string{
			"STRING": "string", "INT(64,true)": "int64", "list STRING": "list stringValue", "list DOUBLE": "list float64Value",
		}[kinds[name]]
		if strings.HasSuffix(name, "_image") {
			want, ok = "list Image", true
		}
		require.True(t, ok, "%s is %s in the file", name, kinds[name])
		require.Equal(t, want, got, name)
	}
}

// checkShards: as many rows as were asked for, in files of the size asked for, numbered from 0, and no temporary file is
// left; progress counts rows up to the end of each split.
func checkShards(t *testing.T, dir string, last map[string][2]int) {
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	files := map[string]int{}
	for _, e := range entries {
		split, _, ok := strings.Cut(e.Name(), "-0")
		require.True(t, ok && strings.HasSuffix(e.Name(), ".parquet"), e.Name())
		files[split]++
		info, err := e.Info()
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o644), info.Mode().Perm())
	}
	for split, rows := range map[string]int{Pretrain: 6, Train: 21, Validation: len(Tuples(Validation, 4, 0)), TestS: len(Tuples(TestS, 4, 0)), TestC: len(Tuples(TestC, 4, 0))} {
		require.Equal(t, (rows+9)/10, files[split], split)
		require.Equal(t, [2]int{rows, rows}, last[split])
		set, err := dataset.Open(dir, split)
		require.NoError(t, err)
		require.Equal(t, rows, set.Len())
		for i, shard := range set.RowGroups() {
			sum := 0
			for _, n := range shard {
				sum += n
			}
			require.Equal(t, min(10, rows-10*i), sum, "%s file %d", split, i)
		}
	}
}

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
		out[e.Name()] = string(b)
	}
	return out
}

// checkRepeated: an export is a function of its options. The same seed gives the same bytes on any number of cores; another seed gives files of the
// same names, columns and tasks with other pictures.
func checkRepeated(t *testing.T, first string) {
	before := runtime.GOMAXPROCS(1)
	again := exported(t, tiny)
	runtime.GOMAXPROCS(before)
	a, b := contents(t, first), contents(t, again)
	require.Len(t, b, len(a))
	for name := range a {
		require.True(t, a[name] == b[name], "%s depends on the number of cores", name)
	}
	o := tiny
	o.Seed, o.Pretrain = o.Seed+1, 0
	second := exported(t, o)
	splits, err := dataset.Splits(second)
	require.NoError(t, err)
	require.Equal(t, []string{TestC, TestS, Train, Validation}, splits, "pretrain was not asked for")
	same, other := readSplit(t, first, TestC), readSplit(t, second, TestC)
	require.Len(t, other, len(same))
	pictures := map[string]bool{}
	laws := map[string]int{}
	for _, r := range same {
		pictures[string(stored(t, r.ExplicitImages))] = true
		laws[r.Law()]++
	}
	for _, r := range other {
		require.False(t, pictures[string(stored(t, r.ExplicitImages))], "row %d has a picture of the other seed", r.Index)
		laws[r.Law()]--
	}
	for law, n := range laws {
		require.Zero(t, n, law)
	}
	columns, _ := leaves(t, filepath.Join(first, "train-00000-of-00003.parquet"))
	others, _ := leaves(t, filepath.Join(second, "train-00000-of-00003.parquet"))
	require.Equal(t, columns, others)
}

func readSplit(t *testing.T, dir, split string) (rows []dataset.Row) {
	t.Helper()
	set, err := dataset.Open(dir, split)
	require.NoError(t, err)
	t.Cleanup(func() { _ = set.Close() })
	for r, err := range set.All(context.Background()) {
		require.NoError(t, err)
		rows = append(rows, r)
	}
	return rows
}

// stored is the file of the first picture.
func stored(t *testing.T, images dataset.Images) []byte {
	t.Helper()
	b, err := images.List[0].Data(context.Background())
	require.NoError(t, err)
	return b
}

// checkContents: of every row of a test split, the prompts are wordings of its tuple, each of its own kind; pictures
// are the drawn ones, the explicit one right; object, law, category and box are the tuple's; and the questions for judges name
// the subject, the scene and the right outcome.
func checkContents(t *testing.T, dir string) {
	for _, split := range []string{TestS, TestC} {
		rows := readSplit(t, dir, split)
		for i, u := range Tuples(split, tiny.Seed, 0) {
			r, p := rows[i], u.Prompts()
			require.Contains(t, p.Implicit, r.Implicit.Values[0].Value)
			require.Contains(t, p.Explicit, r.Explicit.Values[0].Value)
			require.Contains(t, p.Superficial, r.Superficial.Values[0].Value)
			require.Equal(t, slices.Index(p.Implicit, r.Implicit.Values[0].Value), slices.Index(p.Explicit, r.Explicit.Values[0].Value))
			require.Contains(t, r.Implicit.Values[0].Value, r.Object())
			require.Equal(t, []string{u.Noun(), u.Law(), u.Category(), u.ID()}, []string{r.Object(), r.Law(), r.Category(), r.Cells["id"].Value})
			require.Contains(t, r.Cells["scene_scoring"].Value, u.Subject+" "+u.Scene)
			require.Contains(t, r.Cells["real_scoring"].Value, r.Explicit.Values[0].Value)
			for right, images := range map[bool]dataset.Images{true: r.ExplicitImages, false: r.SuperficialImages} {
				require.Len(t, images.List, 1)
				im, err := decode(stored(t, images))
				require.NoError(t, err)
				shown, err := FromImage(im)
				require.NoError(t, err)
				require.Equal(t, u.Draw(right, tiny.Side), shown)
			}
		}
	}
}

// TestExportRefuses a folder that cannot be made, and leaves nothing behind when it is stopped.
func TestExportRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.ErrorContains(t, Export(context.Background(), file, tiny), "choose a folder that can be written")
	ctx, cancel := context.WithCancel(context.Background())
	o, dir := tiny, t.TempDir()
	o.Progress = func(string, int, int) { cancel() }
	require.ErrorIs(t, Export(ctx, dir, o), context.Canceled)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1, "one file was whole when the export was stopped")
	require.True(t, strings.HasSuffix(entries[0].Name(), ".parquet"))
}

// TestTuplesComeBackFromRows: what does not name a tuple of the world is a row of another data set, however close.
func TestTuplesComeBackFromRows(t *testing.T) {
	cell := func(v string) dataset.Cell { return dataset.Cell{Value: v, Valid: true} }
	row := func() dataset.Row {
		return dataset.Row{Ints: map[string]int64{"pose": 5}, Cells: map[string]dataset.Cell{"task": cell("RU"), "subject": cell("gear"), "scene": cell("in a kitchen")}}
	}
	u, ok := FromRow(row())
	require.True(t, ok)
	require.Equal(t, Tuple{"RU", "gear", "in a kitchen", 5}, u)
	for name, spoil := range map[string]func(r dataset.Row){
		"no pose": func(r dataset.Row) { delete(r.Ints, "pose") }, "negative pose": func(r dataset.Row) { r.Ints["pose"] = -1 },
		"no task": func(r dataset.Row) { delete(r.Cells, "task") }, "another task": func(r dataset.Row) { r.Cells["task"] = cell("RI") },
		"no subject": func(r dataset.Row) { r.Cells["subject"] = dataset.Cell{} }, "other scene": func(r dataset.Row) { r.Cells["scene"] = cell("in a Kitchen") },
	} {
		r := row()
		spoil(r)
		_, ok := FromRow(r)
		require.False(t, ok, name)
	}
}
