package dataset

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// tarOf packs files, given as name and text; pictures get the width that their text says.
func tarOf(t testing.TB, files ...[2]string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		data := []byte(f[1])
		if isPicture(filepath.Ext(f[0])) && len(data) == 1 {
			if tt, ok := t.(*testing.T); ok {
				data = pngOf(tt, int(f[1][0]-'0'), 4)
			}
		}
		err := w.WriteHeader(&tar.Header{Name: f[0], Size: int64(len(data)), Mode: 0o644, Typeflag: tar.TypeReg})
		if err == nil {
			_, err = w.Write(data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func tarFolder(t *testing.T, archives map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, b := range archives {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
	return dir
}

// TestArchives: samples of one or several tar files, captions as text or json, in the order of their first files.
func TestArchives(t *testing.T) {
	dir := tarFolder(t, map[string][]byte{
		"train-000000.tar": tarOf(t, [2]string{"./b/002.png", "5"}, [2]string{"./b/002.txt", "a green\napple"}, [2]string{"001.json",
			`{"caption": "one", "url": "http://x", "key": "001", "width": 6}`},
			[2]string{"001.JPG", "6"}, [2]string{"001.seg.png", "9"}, [2]string{"001.cls", "7"}, [2]string{"README", "x"},
			[2]string{".DS_Store", "x"}),
		"train-000001.tar": tarOf(t, [2]string{"003.webp", "7"}, [2]string{"003.json",
			`{"implicit_prompt": "i", "explicit_prompt": "e", "superficial_prompt": ["s", "t"], "id": "own"}`},
			[2]string{"004.png", "8"}, [2]string{"004.json", `{"caption": "of the json", "law": "rust"}`}, [2]string{"004.txt",
				"of the text"}),
	})
	splits, err := Splits(dir)
	require.NoError(t, err)
	require.Equal(t, []string{"train"}, splits)
	s, err := Open(dir, "train")
	require.NoError(t, err)
	defer s.Close()
	require.Equal(t, "webdataset", s.Layout)
	require.Equal(t, []string{"b/002: a green apple 5", "001: one 6", "own: i/e/s+t 7", "004: of the text 8"}, described(t, s))
	r, _ := s.Row(1)
	require.Equal(t, "http://x", r.Cells["url"].Value)
	require.EqualValues(t, 6, r.Ints["width"])
	r, _ = s.Row(3)
	require.Equal(t, "rust", r.Law())
	sum, err := OpenOptions{}.Inspect(context.Background(), dir, "train")
	require.NoError(t, err)
	require.Empty(t, sum.Problems)
	require.Equal(t, 3, sum.OneCaption)
	require.ErrorContains(t, s.Check(context.Background(), Needs{Superficial: true}),
		`row 0 (sample "b/002" of train-000000.tar): superficial picture`)
	id, err := s.Identity(context.Background(), IdentityOptions{Cache: t.TempDir()})
	require.NoError(t, err)
	require.Len(t, id, 64)
}

// TestArchivesThatAreRefused names the archive, the sample and what to do.
func TestArchivesThatAreRefused(t *testing.T) {
	good := tarOf(t, [2]string{"1.png", "5"}, [2]string{"1.txt", "x"})
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err := z.Write(good)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	for name, c := range map[string]struct {
		archive []byte
		want    []string
	}{
		"no caption":   {tarOf(t, [2]string{"1.png", "5"}), []string{`sample "1"`, "no caption; add a txt, or a json"}},
		"null caption": {tarOf(t, [2]string{"1.png", "5"}, [2]string{"1.json", `{"caption": null}`}), []string{`sample "1"`, "no caption"}},
		"no picture":   {tarOf(t, [2]string{"1.txt", "x"}), []string{`sample "1"`, "no picture"}},
		"two pictures": {tarOf(t, [2]string{"1.png", "5"}, [2]string{"1.jpg", "5"}), []string{`"1.jpg"`,
			`has the picture "1.png" already`}},
		"two texts":   {tarOf(t, [2]string{"1.txt", "5"}, [2]string{"1.txt", "5"}), []string{`"1.txt"`, "such a file already"}},
		"bad json":    {tarOf(t, [2]string{"1.png", "5"}, [2]string{"1.json", "{"}), []string{`sample "1"`, "json: "}},
		"gzip":        {packed.Bytes(), []string{"compressed with gzip; unpack it first"}},
		"cut":         {good[:700], []string{"cut off or damaged"}},
		"text":        {[]byte(strings.Repeat("this is no tar file. ", 60)), []string{"tar: "}},
		"cut between": {good[:1024], []string{"it may be cut off"}},
		"two in one":  {append(bytes.Clone(good), good...), []string{"several archives behind one another"}},
		"nothing":     {nil, []string{"cut off or damaged"}},
		"no files":    {tarOf(t), []string{"no rows"}},
		"a long text": {tarOf(t, [2]string{"1.txt", strings.Repeat("x", maxText+1)}), []string{`"1.txt"`, "more than the limit"}},
	} {
		_, err := Open(tarFolder(t, map[string][]byte{"train.tar": c.archive}), "train")
		for _, part := range append(c.want, "train") {
			require.ErrorContains(t, err, part, name)
		}
	}
}

func FuzzArchive(f *testing.F) {
	f.Add(tarOf(f, [2]string{"1.png", "p"}, [2]string{"1.txt", "x"}, [2]string{"2.json", `{"caption": "y"}`}, [2]string{"2.jpg", "q"}))
	f.Add(tarOf(f, [2]string{strings.Repeat("long/", 40) + "a.b.c", "x"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		samples, err := readArchive(context.Background(), bytes.NewReader(b), int64(len(b)), func(at,
			size int64) *archivePlace {
			return &archivePlace{at: at, size: size}
		})
		if err != nil {
			return
		}
		for _, s := range samples {
			if s.at != nil && (s.at.at < 0 || s.at.size < 0) {
				t.Fatal(fmt.Sprint(s.at))
			}
			_, _ = s.row(&budget{left: 1 << 20})
		}
	})
}
