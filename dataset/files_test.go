package dataset

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func heap() int64 {
	runtime.GC()
	runtime.GC() // what pools kept over the first one
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestPathsInsideData: a picture that the data name is read where it lies inside the data folder, after links, and nowhere
// else; only files are read, and nothing is waited for.
func TestPathsInsideData(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "data set")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "data"), 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "sub"), 0o755))
	for _, f := range []string{"data set/sub/p.png", "outside.png", "data set/data/q.png"} {
		require.NoError(t, os.WriteFile(filepath.Join(base, f), pngOf(t, 3, 2), 0o600))
	}
	link := func(to, name string) { require.NoError(t, os.Symlink(to, filepath.Join(dir, name))) }
	link("p.png", "sub/inside.png")
	link(filepath.Join(base, "outside.png"), "sub/out.png")
	link("/dev/zero", "sub/zero.png")
	link("/proc/self/environ", "sub/proc.png")
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "sub", "pipe.png"), 0o600))
	socket, err := net.Listen("unix", filepath.Join(dir, "sub", "s"))
	require.NoError(t, err)
	defer socket.Close()
	big, err := os.Create(filepath.Join(dir, "sub", "big.png"))
	require.NoError(t, err)
	require.NoError(t, big.Truncate(maxPicture+1))
	require.NoError(t, big.Close())

	const outside, escape = "lies outside the data folder", "allow it with data.allow_outside: true"
	for path, c := range map[string]struct{ inside, allowed string }{ // "" for read
		"../sub/p.png":                     {"", ""},
		"q.png":                            {"", ""},
		"./q.png":                          {"", ""},
		filepath.Join(dir, "sub", "p.png"): {"", ""},
		"../sub/inside.png":                {"", ""},
		"../sub/out.png":                   {outside, ""},
		"../../outside.png":                {outside, ""},
		filepath.Join(base, "outside.png"): {escape, ""},
		"/dev/zero":                        {outside, "it is a device; only files are read"},
		"../sub/zero.png":                  {outside, "it is a device"},
		"../sub/pipe.png":                  {"it is a named pipe", "it is a named pipe"},
		"../sub/s":                         {"it is a socket", "it is a socket"},
		"../sub":                           {"it is a folder", "it is a folder"},
		"../sub/big.png":                   {"more than the limit", "more than the limit"},
		"../sub/gone.png":                  {"no such file", "no such file"},
		"p.png":                            {"no such file", "no such file"},
		"/etc/../etc/passwd":               {outside, "format is not known"},
		"../sub/\x1b]0;evil\x07.png":       {`"../sub/\x1b]0;evil\a.png"`, `"../sub/\x1b]0;evil\a.png"`},
	} {
		for allowed, want := range map[bool]string{false: c.inside, true: c.allowed} {
			in, err := openFolder(dir, allowed)
			require.NoError(t, err)
			im := &Image{Path: Cell{path, true}, at: &filePlace{in, "data", path}}
			done := make(chan error, 1)
			go func() {
				_, err := im.Decode(context.Background())
				done <- err
			}()
			select {
			case err = <-done:
			case <-time.After(10 * time.Second):
				t.Fatalf("%q is waited for", path)
			}
			require.NoError(t, in.root.Close())
			if want == "" {
				require.NoError(t, err, "%q %v", path, allowed)
				continue
			}
			require.ErrorContains(t, err, want, "%q %v", path, allowed)
			require.NotContains(t, err.Error(), "\x1b")
		}
	}
}

// TestShardsThatAreNoFiles: a pipe in place of a data file is refused, not waited for.
func TestShardsThatAreNoFiles(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "train.parquet"), 0o600))
	_, err := Open(dir, "train")
	require.ErrorContains(t, err, "it is a named pipe; only files are read")
	require.NoError(t, os.Symlink("/dev/zero", filepath.Join(dir, "test.parquet")))
	_, err = Open(dir, "test")
	require.ErrorContains(t, err, "it is a device")
}

// TestFilesThatChange: pictures of a file that was written again are not read from places that were true before.
func TestFilesThatChange(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, []userRow{goodUserRow(t)})
	s, err := Open(dir, "train")
	require.NoError(t, err)
	defer s.Close()
	r, err := s.Row(0)
	require.NoError(t, err)
	_, err = r.ExplicitImages.List[0].Decode(context.Background())
	require.NoError(t, err)
	f, err := os.OpenFile(filepath.Join(dir, "train-00000-of-00001.parquet"), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString("more")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	_, err = r.ExplicitImages.List[0].Decode(context.Background())
	require.ErrorContains(t, err, "was written while it was read; start again")
}

// TestBombs: texts of a split that would fill the memory are refused by name.
func TestBombs(t *testing.T) {
	b := &budget{left: 2000}
	require.NoError(t, b.take("law", 100))
	require.ErrorContains(t, b.take("html", maxText+1), `column "html": a text of 1048577 bytes`)
	require.NoError(t, b.row())
	var err error
	for range 100 {
		if err = b.take("law", 100); err != nil {
			break
		}
	}
	require.ErrorContains(t, err, "leave out columns that training does not use")

	dir := t.TempDir()
	long := goodUserRow(t)
	long.Explicit = some(string(make([]byte, maxText+1)))
	write(t, dir, []userRow{long})
	_, err = Open(dir, "train")
	require.ErrorContains(t, err, "row 0: column \"explicit_prompt\": a text of 1048577 bytes")
}
