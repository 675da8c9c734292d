package dataset

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"
)

func identityOf(t *testing.T, dir string, o IdentityOptions) string {
	t.Helper()
	s, err := Open(dir, "train")
	require.NoError(t, err)
	defer s.Close()
	id, err := s.Identity(context.Background(), o)
	require.NoError(t, err)
	require.Regexp(t, "^[0-9a-f]{64}$", id)
	again, err := s.Identity(context.Background(), o)
	require.NoError(t, err)
	require.Equal(t, id, again)
	return id
}

// TestIdentityIsOfTheContent: the same rows have one identity however they are packed; whatever is changed in them changes it.
func TestIdentityIsOfTheContent(t *testing.T) {
	rows := func() []userRow {
		b := goodUserRow(t)
		b.ID = "2"
		return []userRow{goodUserRow(t), b}
	}
	store := func(rows []userRow) string {
		dir := t.TempDir()
		write(t, dir, rows)
		return dir
	}
	want := identityOf(t, store(rows()), IdentityOptions{})
	for name, o := range map[string]parquet.WriterOption{"zstd": parquet.Compression(&parquet.Zstd), "row groups": parquet.MaxRowsPerRowGroup(1)} {
		dir := t.TempDir()
		f, err := os.Create(filepath.Join(dir, "train.parquet"))
		require.NoError(t, err)
		w := parquet.NewGenericWriter[userRow](f, o)
		_, err = w.Write(rows())
		require.NoError(t, err)
		require.NoError(t, w.Close())
		require.NoError(t, f.Close())
		require.Equal(t, want, identityOf(t, dir, IdentityOptions{}), name)
	}
	seen := map[string]string{want: "as it was"}
	for name, spoil := range map[string]func(r []userRow){
		"implicit":         func(r []userRow) { r[1].Implicit = some("an unripe  apple") },
		"explicit":         func(r []userRow) { r[1].Explicit = some("a Green apple") },
		"superficial":      func(r []userRow) { r[0].Superficial = nil },
		"object":           func(r []userRow) { r[1].Object = some("apples") },
		"id":               func(r []userRow) { r[1].ID = "3" },
		"a byte":           func(r []userRow) { r[1].A[0].Bytes[20] ^= 1 },
		"a wrong picture":  func(r []userRow) { r[0].B[0].Bytes = pngOf(t, 4, 7) },
		"one more picture": func(r []userRow) { r[0].A = append(r[0].A, r[0].A[0]) },
		"order":            func(r []userRow) { r[0], r[1] = r[1], r[0] },
		"sides":            func(r []userRow) { r[0].A, r[0].B = r[0].B, r[0].A },
	} {
		changed := rows()
		spoil(changed)
		id := identityOf(t, store(changed), IdentityOptions{})
		require.Empty(t, seen[id], name)
		seen[id] = name
	}
	named := rows()
	named[0].A[0].Path = "other.png"
	require.Equal(t, want, identityOf(t, store(named), IdentityOptions{}), "the name of a stored picture is not read")
	require.Equal(t, identityOf(t, store(rows()[:1]), IdentityOptions{}), identityOf(t, store(rows()), IdentityOptions{Rows: 1}))
}

// TestIdentityCache: files that did not change are not read again; a change of any of them is seen.
func TestIdentityCache(t *testing.T) {
	dir, cache := t.TempDir(), filepath.Join(t.TempDir(), "identities")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "p.png"), pngOf(t, 3, 2), 0o600))
	row := goodUserRow(t)
	row.A[0] = goodImage{nil, "p.png"}
	write(t, dir, []pathRow{{row.noImagesOf(), []pathImage{{Path: "p.png"}}, row.B}})
	read := 0
	o := IdentityOptions{Cache: cache, Progress: func(done, total int) {
		require.LessOrEqual(t, done, total)
		read++
	}}
	first := identityOf(t, dir, o)
	require.Equal(t, 1, read)
	require.Equal(t, first, identityOf(t, dir, o))
	require.Equal(t, 1, read, "the cache was not used")
	require.Equal(t, first, identityOf(t, dir, IdentityOptions{}))

	info, err := os.Stat(filepath.Join(dir, "p.png"))
	require.NoError(t, err)
	other := pngOf(t, 3, 2)
	other[len(other)-20] ^= 1
	require.NoError(t, os.WriteFile(filepath.Join(dir, "p.png"), other, 0o600))
	require.NoError(t, os.Chtimes(filepath.Join(dir, "p.png"), time.Time{}, info.ModTime()))
	require.NotEqual(t, first, identityOf(t, dir, o), "a picture of the same size and time was replaced")
	require.Equal(t, 2, read)

	entries, err := os.ReadDir(cache)
	require.NoError(t, err)
	require.Len(t, entries, 2)
	for _, e := range entries {
		require.NoError(t, os.WriteFile(filepath.Join(cache, e.Name()), []byte("{"), 0o600))
	}
	require.Equal(t, identityOf(t, dir, IdentityOptions{}), identityOf(t, dir, o), "a damaged cache is written again")

	s, err := Open(dir, "train")
	require.NoError(t, err)
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = s.Identity(cancelled, IdentityOptions{})
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, s.Close())
}

// pathRow has a right picture by its path.
type pathRow struct {
	noImages
	A []pathImage `parquet:"explicit_image,list"`
	B []goodImage `parquet:"superficial_image,list"`
}

type pathImage struct {
	Bytes *[]byte `parquet:"bytes,optional"`
	Path  string  `parquet:"path"`
}

func (r userRow) noImagesOf() noImages { return noImages{*r.Implicit, *r.Explicit, *r.Superficial} }
