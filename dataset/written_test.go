package dataset

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// anyRow has texts and pictures of any bytes.
func anyRow(t *rapid.T) goodRow {
	pictures := func(name string) (out []goodImage) {
		for range rapid.IntRange(0, 3).Draw(t, name) {
			out = append(out, goodImage{rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "bytes"), rapid.String().Draw(t, "path")})
		}
		return out
	}
	text := rapid.StringN(0, 12, -1)
	return goodRow{noImages: noImages{text.Draw(t, "ip"), text.Draw(t, "ep"), text.Draw(t, "sp")}, A: pictures("right"),
		B: pictures("wrong"), Object: text.Draw(t, "object")}
}

// sameRow compares a row read with the one written.
func sameRow(t *rapid.T, got Row, want goodRow, index int) {
	pictures := func(v Images) (out []goodImage) {
		for _, im := range v.Present() {
			b, err := im.Data(context.Background())
			if err != nil || !im.Stored {
				t.Fatal(err)
			}
			out = append(out, goodImage{b, im.Path.Value})
		}
		return out
	}
	texts := []string{got.Implicit.Values[0].Value, got.Explicit.Values[0].Value, got.Superficial.Values[0].Value, got.Object()}
	if got.Index != index || !slices.Equal(texts, []string{want.Implicit, want.Explicit, want.Superficial, want.Object}) {
		t.Fatalf("row %d: %q, want %+v", got.Index, texts, want)
	}
	if fmt.Sprint(pictures(got.ExplicitImages)) != fmt.Sprint(want.A) || fmt.Sprint(pictures(got.SuperficialImages)) != fmt.Sprint(want.B) {
		t.Fatalf("row %d: other pictures", got.Index)
	}
}

// TestWrittenRowsAreRead: whatever a writer stores, in however many files and row groups, comes back in order, streamed
// and by number.
func TestWrittenRowsAreRead(t *testing.T) {
	root := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		dir := filepath.Join(root, fmt.Sprint(n))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		shards := rapid.IntRange(1, 3).Draw(t, "files")
		var rows []goodRow
		for k := range shards {
			var part []goodRow
			for range rapid.IntRange(1, 5).Draw(t, "rows") {
				part = append(part, anyRow(t))
			}
			var b bytes.Buffer
			w := parquet.NewGenericWriter[goodRow](&b, parquet.MaxRowsPerRowGroup(int64(rapid.IntRange(1, 4).Draw(t, "group"))))
			_, err := w.Write(part)
			if err == nil {
				err = w.Close()
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, fmt.Sprintf("train-%05d-of-%05d.parquet", k, shards)), b.Bytes(), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			rows = append(rows, part...)
		}
		s, err := Open(dir, "train")
		if err != nil || s.Len() != len(rows) {
			t.Fatalf("%v, want %d rows", err, len(rows))
		}
		i := 0
		for r, err := range s.All(context.Background()) {
			if err != nil {
				t.Fatal(err)
			}
			sameRow(t, r, rows[i], i)
			i++
		}
		at := rapid.IntRange(0, len(rows)-1).Draw(t, "at")
		r, err := s.Row(at)
		if err != nil || i != len(rows) {
			t.Fatalf("%d rows streamed, %v", i, err)
		}
		sameRow(t, r, rows[at], at)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestFilesOfTwoExportsAreRefused: as many files as the names promise, but one number twice and another missing.
func TestFilesOfTwoExportsAreRefused(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, []goodRow{{noImages: noImages{"i", "e", "s"}}})
	one := filepath.Join(dir, "train-00000-of-00001.parquet")
	copyFile(t, one, filepath.Join(dir, "train-00000-of-00002-aa.parquet"))
	copyFile(t, one, filepath.Join(dir, "train-00000-of-00002-bb.parquet"))
	require.NoError(t, os.Remove(one))
	_, err := Open(dir, "train")
	require.ErrorContains(t, err, "stands where number 1")
	require.NoError(t, os.Rename(filepath.Join(dir, "train-00000-of-00002-bb.parquet"), filepath.Join(dir,
		"train-00001-of-00002-aa.parquet")))
	s, err := Open(dir, "train")
	require.NoError(t, err)
	require.Equal(t, 2, s.Len())
}

// TestSplitsAreListed: folders hold several splits, beside each other and in data/.
func TestSplitsAreListed(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "data"), 0o755))
	for _, name := range []string{"test_S-00000-of-00001.parquet", "a-b-00000-of-00002.parquet", "data/train-00000-of-00001.parquet", "notes.txt", "train.parquet"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	found, err := Splits(dir)
	require.NoError(t, err)
	require.Equal(t, []string{"a-b", "test_S", "train"}, found)
	_, err = Splits(filepath.Join(dir, "absent"))
	require.ErrorIs(t, err, os.ErrNotExist)
}
