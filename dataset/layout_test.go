package dataset

import (
	"context"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestOwnShapes: what pyarrow makes of people's own columns is read: one struct, further fields, encoded pictures without
// structs, dictionaries and deltas of pictures, and the hub's image and text.
func TestOwnShapes(t *testing.T) {
	want := pictureOf(t, "single", 0, 0)
	for split, n := range map[string]int{"single": 1, "fields": 1, "binaries": 1, "binary": 1, "dictionary": 3, "delta": 3, "captions": 1} {
		s, err := Open(filepath.Join(fixtures, "own"), split)
		require.NoError(t, err, split)
		require.Equal(t, 2, s.Len())
		r, err := s.Row(0)
		require.NoError(t, err)
		require.Len(t, r.ExplicitImages.Present(), n, split)
		for k := range n {
			require.Equal(t, want, pictureOf(t, split, 0, k), split)
		}
		require.Equal(t, split == "captions", r.OneCaption)
		require.NoError(t, s.Close())
	}
	s, err := Open(filepath.Join(fixtures, "own"), "captions")
	require.NoError(t, err)
	defer s.Close()
	r, err := s.Row(0)
	require.NoError(t, err)
	for _, p := range []Text{r.Implicit, r.Explicit, r.Superficial} {
		require.Equal(t, []string{"an apple"}, p.Wordings())
	}
	err = s.Check(context.Background(), Needs{Explicit: true})
	require.ErrorContains(t, err, "row 1: explicit picture: column explicit_image: there is none")
}

func pictureOf(t *testing.T, split string, i, k int) []byte {
	t.Helper()
	s, err := Open(filepath.Join(fixtures, "own"), split)
	require.NoError(t, err)
	defer s.Close()
	r, err := s.Row(i)
	require.NoError(t, err)
	b, err := r.ExplicitImages.List[k].Data(context.Background())
	require.NoError(t, err)
	return b
}

// TestLZ4OfTextThatShrinksLittle: pages of random letters, of which a decoder that guesses sizes makes empty strings.
func TestLZ4OfTextThatShrinksLittle(t *testing.T) {
	var laws [2][]string
	for k, split := range []string{"laws1", "laws2"} {
		s, err := Open(filepath.Join(fixtures, "own"), split)
		require.NoError(t, err)
		for r, err := range s.All(context.Background()) {
			require.NoError(t, err)
			require.Regexp(t, "^law [a-z]{24}$", r.Law())
			laws[k] = append(laws[k], r.Law())
		}
		require.NoError(t, s.Close())
	}
	require.Equal(t, laws[0], laws[1])
	slices.Sort(laws[0])
	require.Len(t, slices.Compact(laws[0]), 60)
}

// TestNames: where splits are found, whatever their files and folders are called.
func TestNames(t *testing.T) {
	for name, c := range map[string]struct {
		files string // in order of rows
		split string
		all   string
	}{
		"shards":            {"train-00000-of-00002.parquet train-00001-of-00002.parquet", "train", "train"},
		"shards with hash":  {"train-00000-of-00002-9d3c2a.parquet train-00001-of-00002-77aa01.parquet", "train", "train"},
		"data folder":       {"data/test_S-00000-of-00001.parquet", "test_S", "test_S"},
		"plain":             {"train.parquet", "train", "train"},
		"two plain ones":    {"train.parquet", "train", "test train"},
		"bare number":       {"0000.parquet", "train", "train"},
		"hub conversion":    {"default/train/0000.parquet default/train/0001.parquet", "train", "train"},
		"split folder":      {"validation/0000.parquet", "validation", "validation"},
		"data/split folder": {"data/train/train-00000-of-00001.parquet", "train", "train"},
		"numbers alone":     {"train-0003.parquet train-0004.parquet", "train", "train"},
		"underscore":        {"my_set_000.parquet my_set_001.parquet", "my_set", "my_set"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			files := strings.Fields(c.files)
			for i, f := range files {
				put(t, filepath.Join(dir, f), fmt.Sprintf("row %d", i))
			}
			if name == "two plain ones" {
				put(t, filepath.Join(dir, "test.parquet"), "another split")
			}
			splits, err := Splits(dir)
			require.NoError(t, err)
			require.Equal(t, c.all, strings.Join(splits, " "))
			s, err := Open(dir, c.split)
			require.NoError(t, err)
			defer s.Close()
			require.Equal(t, len(files), s.Len())
			for i := range files {
				r, err := s.Row(i)
				require.NoError(t, err)
				require.Equal(t, fmt.Sprintf("row %d", i), r.Implicit.Wordings()[0])
			}
		})
	}
}

// put writes a parquet file of one row with a prompt.
func put(t *testing.T, path, prompt string) {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, []goodRow{{noImages: noImages{prompt, "e", "s"}}})
	copyFile(t, filepath.Join(dir, "train-00000-of-00001.parquet"), path)
}

// TestNamesThatDoNotFit: files of two exports, gaps, and folders that are no split are refused or left alone.
func TestNamesThatDoNotFit(t *testing.T) {
	for files, want := range map[string]string{
		"train.parquet train-00000-of-00001.parquet":                "are both split train; remove leftovers",
		"train-0000.parquet train-0002.parquet":                     "stands where number 1",
		"train-00000-of-00002.parquet train-00001-of-00003.parquet": "are both split train",
		"train-00001-of-00002.parquet":                              "1 files of split train, their names speak of 2",
		"en/train.parquet en/test.parquet":                          "no data in it",
		"en/train.parquet":                                          "no data in it",
		"test.parquet":                                              `no split "train"; there are test`,
		".train.parquet":                                            "no data in it",
	} {
		dir := t.TempDir()
		for _, f := range strings.Fields(files) {
			put(t, filepath.Join(dir, f), "a prompt")
		}
		_, err := Open(dir, "train")
		require.ErrorContains(t, err, want, files)
	}
}

// TestLinkedShards: the hub's cache is a folder of links that lead out of it.
func TestLinkedShards(t *testing.T) {
	dir, blobs := t.TempDir(), t.TempDir()
	put(t, filepath.Join(blobs, "abc"), "a prompt")
	require.NoError(t, os.Symlink(filepath.Join(blobs, "abc"), filepath.Join(dir, "train-00000-of-00001.parquet")))
	s, err := Open(dir, "train")
	require.NoError(t, err)
	require.NoError(t, s.Close())
}

// writeLarge writes rows with a picture of a megabyte each.
func writeLarge(t *testing.T, dir string, n int) {
	t.Helper()
	noise := rand.New(rand.NewSource(1))
	var rows []userRow
	for i := range n {
		r := goodUserRow(t)
		r.A[0].Bytes = append(r.A[0].Bytes, make([]byte, 1<<20)...)
		noise.Read(r.A[0].Bytes[100:])
		r.ID = fmt.Sprint(i)
		rows = append(rows, r)
	}
	write(t, dir, rows)
}

// TestPicturesAreNotKept: opening and reading a split of pictures takes memory for one of them, not for all.
func TestPicturesAreNotKept(t *testing.T) {
	dir := t.TempDir()
	writeLarge(t, dir, 40)
	before := heap()
	s, err := Open(dir, "train")
	require.NoError(t, err)
	defer s.Close()
	require.Less(t, heap()-before, int64(2<<20))
	for i := range s.Len() {
		r, err := s.Row(i)
		require.NoError(t, err)
		b, err := r.ExplicitImages.List[0].Data(context.Background())
		require.NoError(t, err)
		require.Greater(t, len(b), 1<<20)
	}
	require.Less(t, heap()-before, int64(20<<20))
}
