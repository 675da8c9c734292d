package dataset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"
)

const fixtures = "testdata"

// fixtureText is what testdata/make.py writes as prompt i of a kind.
func fixtureText(kind string, i int, lists bool) Text {
	switch {
	case kind == "e" && i == 2 && lists:
		return Text{List: true}
	case kind == "e" && i == 2:
		return Text{Values: []Cell{{}}}
	case !lists:
		return Text{Valid: true, Values: []Cell{{fmt.Sprintf("%s prompt %d", kind, i), true}}}
	}
	t := Text{List: true, Valid: true}
	for j := range i % 3 {
		c := Cell{}
		if (i+j)%5 != 0 {
			c = Cell{fmt.Sprintf("%s prompt %d wording %d", kind, i, j), true}
		}
		t.Values = append(t.Values, c)
	}
	return t
}

// shape writes an image cell as text: null, or its elements as WxH:path.
func shape(v Images) string {
	if !v.Valid {
		return "null"
	}
	var out []string
	for _, im := range v.List {
		switch {
		case im == nil:
			out = append(out, "null")
		case !im.Stored:
			out = append(out, "nobytes:"+im.Path.Value)
		default:
			info, err := im.Info(context.Background())
			s := fmt.Sprintf("%dx%d:%s", info.Width, info.Height, im.Path.Value)
			if err != nil {
				s = "broken:" + im.Path.Value
			}
			if !im.Path.Valid {
				s += "null"
			}
			out = append(out, s)
		}
	}
	return "[" + strings.Join(out, " ") + "]"
}

func TestEveryEncodingReadsTheSame(t *testing.T) {
	splits, err := Splits(fixtures)
	require.NoError(t, err)
	require.Len(t, splits, 18)
	shapes := []string{"[3x4:a.png]", "[]", "null", "[null 5x2:null]", "[nobytes:b.png]", "[1x1:x 2x1:x 3x1:x 4x1:x]", "[broken:c.png]"}
	categories := []Cell{{"physics", true}, {}, {"biology", true}, {"physics", true}, {"chemistry", true}, {"biology", true},
		{"physics", true}}
	boxes := [][]float64{{float64(float32(0.1)), float64(float32(0.2))}, nil, {}, {0.5}, {1}, {0}, {2.5}}
	for _, split := range splits {
		t.Run(split, func(t *testing.T) {
			s, err := Open(fixtures, split)
			require.NoError(t, err)
			require.Equal(t, 7, s.Len())
			lists := strings.HasSuffix(split, "lists")
			for i := range s.Len() {
				r, err := s.Row(i)
				require.NoError(t, err)
				require.Equal(t, i, r.Index)
				require.Equal(t, fixtureText("i", i, lists), r.Implicit)
				require.Equal(t, fixtureText("e", i, lists), r.Explicit)
				require.Equal(t, fixtureText("s", i, lists), r.Superficial)
				require.Equal(t, shapes[i], shape(r.ExplicitImages))
				require.Equal(t, shapes[6-i], shape(r.SuperficialImages))
				require.Equal(t, categories[i], r.Cells["category"])
				require.Equal(t, []string{"gravity", "rust"}[min(1, i/3)], r.Law())
				require.Equal(t, boxes[i], r.Floats["box"])
				pose, ok := r.Ints["pose"]
				require.Equal(t, i != 2, ok)
				if ok {
					require.EqualValues(t, i+1, pose)
				}
			}
		})
	}
}

// TestPicturesInAnyOrder: pictures are the same in whatever order they are read, from many goroutines too.
func TestPicturesInAnyOrder(t *testing.T) {
	for _, split := range []string{"snappy_v2_groups_lists", "lz4_strings", "gzip_small_pages_lists"} {
		s, err := Open(fixtures, split)
		require.NoError(t, err)
		if split == "snappy_v2_groups_lists" {
			require.Equal(t, [][]int{{2, 2, 2, 1}}, s.RowGroups())
		}
		var want [][]byte
		var images []*Image
		for r, err := range s.All(context.Background()) {
			require.NoError(t, err)
			for _, im := range append(r.ExplicitImages.Present(), r.SuperficialImages.Present()...) {
				if im.Stored {
					b, err := im.Data(context.Background())
					require.NoError(t, err)
					images, want = append(images, im), append(want, b)
				}
			}
		}
		require.Greater(t, len(images), 10)
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				for i := range images {
					k := (i*7 + w*3) % len(images)
					b, err := images[k].Data(context.Background())
					if err != nil || !bytes.Equal(b, want[k]) {
						t.Errorf("picture %d: %v", k, err)
					}
				}
			})
		}
		wg.Wait()
		for _, i := range []int{-1, 7} {
			_, err = s.Row(i)
			require.ErrorContains(t, err, "of 7")
		}
		require.NoError(t, s.Close())
		_, err = images[0].Data(context.Background())
		require.ErrorContains(t, err, "closed")
	}
}

func TestShardsInNameOrder(t *testing.T) {
	dir := t.TempDir()
	for i, form := range []string{"snappy_v1", "zstd_item", "gzip_v2"} {
		copyFile(t, filepath.Join(fixtures, form+"_strings-00000-of-00001.parquet"), filepath.Join(dir, "data",
			fmt.Sprintf("train-%05d-of-00003.parquet", 2-i)))
	}
	s, err := Open(dir, "train")
	require.NoError(t, err)
	require.Equal(t, 21, s.Len())
	r, err := s.Row(9)
	require.NoError(t, err)
	require.Equal(t, "i prompt 2", r.Implicit.Wordings()[0])
	require.Equal(t, 9, r.Index)
	_, err = Open(dir, "test_S")
	require.ErrorContains(t, err, `no split "test_S"; there are train`)
	require.NoError(t, os.Remove(filepath.Join(dir, "data", "train-00001-of-00003.parquet")))
	_, err = Open(dir, "train")
	require.ErrorContains(t, err, "2 files of split train")
}

func TestCancelled(t *testing.T) {
	s, err := Open(fixtures, "snappy_v1_lists")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, s.Check(ctx, Needs{}), context.Canceled)
}

// row types of broken files.
type noImages struct {
	Implicit    string `parquet:"implicit_prompt"`
	Explicit    string `parquet:"explicit_prompt"`
	Superficial string `parquet:"superficial_prompt"`
}
type wrongImages struct {
	noImages
	A int64  `parquet:"explicit_image"`
	B string `parquet:"superficial_image"`
}
type goodImage struct {
	Bytes []byte `parquet:"bytes"`
	Path  string `parquet:"path"`
}
type goodRow struct {
	noImages
	A      []goodImage `parquet:"explicit_image,list"`
	B      []goodImage `parquet:"superficial_image,list"`
	Object string      `parquet:"object"`
}
type bareRow struct { // repeated fields without a LIST group, as old writers make
	Implicit    []string    `parquet:"implicit_prompt"`
	Explicit    []string    `parquet:"explicit_prompt"`
	Superficial []string    `parquet:"superficial_prompt"`
	A           []goodImage `parquet:"explicit_image"`
	B           []goodImage `parquet:"superficial_image"`
}

func write[R any](t *testing.T, dir string, rows []R) {
	t.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[R](&b)
	_, err := w.Write(rows)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.NoError(t, os.WriteFile(filepath.Join(dir, "train-00000-of-00001.parquet"), b.Bytes(), 0o644))
}

func TestRepeatedFieldsWithoutListGroup(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, []bareRow{{Implicit: []string{"a", "b"}, A: []goodImage{{[]byte("x"), "p"}}}, {}})
	s, err := Open(dir, "train")
	require.NoError(t, err)
	r, err := s.Row(0)
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b"}, r.Implicit.Wordings())
	require.Len(t, r.ExplicitImages.List, 1)
	b, err := r.ExplicitImages.List[0].Data(context.Background())
	require.NoError(t, err)
	require.Equal(t, []byte("x"), b)
	require.Empty(t, r.SuperficialImages.List)
}

func TestBadFilesHaveClearErrors(t *testing.T) {
	for _, c := range []struct {
		name, want string
		make       func(dir string)
	}{
		{"no folder", "no such file", func(dir string) { _ = os.RemoveAll(dir) }},
		{"no files", "neither files train-*-of-*.parquet", func(string) {}},
		{"no rows", "no rows", func(dir string) { write(t, dir, []goodRow{}) }},
		{"missing column", "column explicit_image is missing; the file has implicit_prompt", func(dir string) {
			write(t, dir,
				[]noImages{{}})
		}},
		{"wrong type", "column explicit_image is not a list of {bytes, path}", func(dir string) { write(t, dir, []wrongImages{{}}) }},
		{"empty file", "too few", func(dir string) { raw(t, dir, nil) }},
		{"text", "PAR1 is missing", func(dir string) { raw(t, dir, []byte("this is a text file, not parquet")) }},
		{"encrypted", "encrypted", func(dir string) { raw(t, dir, []byte("PAR1\x00\x00\x00\x00\x00\x00\x00\x00PARE")) }},
		{"footer length", "a footer of 4294967295 bytes", func(dir string) { raw(t, dir, []byte("PAR1........\xff\xff\xff\xffPAR1")) }},
		{"footer bytes", "damaged", func(dir string) { raw(t, dir, []byte("PAR1........\x04\x00\x00\x00PAR1")) }},
		{"truncated", "PAR1 is missing", func(dir string) {
			b, err := os.ReadFile(filepath.Join(fixtures, "snappy_v1_lists-00000-of-00001.parquet"))
			require.NoError(t, err)
			raw(t, dir, b[:len(b)/2])
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			c.make(dir)
			_, err := Open(dir, "train")
			require.ErrorContains(t, err, c.want)
		})
	}
}

func raw(t *testing.T, dir string, b []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "train-00000-of-00001.parquet"), b, 0o644))
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Dir(to), 0o755))
	require.NoError(t, os.WriteFile(to, b, 0o644))
}

// TestDamagedPages flips bytes all over a file: every outcome but a panic is fine, and errors name the file or row.
func TestDamagedPages(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(fixtures, "zstd_item_lists-00000-of-00001.parquet"))
	require.NoError(t, err)
	failed := 0
	for at := 4; at < len(b)-8; at += 37 {
		c := slices.Clone(b)
		c[at] ^= 0x5a
		if err := readFile(c); err != nil {
			failed++
		}
	}
	require.Greater(t, failed, 10)
}

// readFile reads every row and every picture of a parquet file in memory.
func readFile(b []byte) error {
	sh, err := parse(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return err
	}
	n := 0
	return sh.rows(context.Background(), &budget{left: 1 << 24}, func(r Row) error {
		if n++; n > sh.len() {
			return errors.New("more rows than the footer says")
		}
		for _, im := range append(r.ExplicitImages.Present(), r.SuperficialImages.Present()...) {
			if p, ok := im.at.(*chunkPlace); ok {
				if _, err := p.bytes.Read(context.Background(), p.i, 1<<20); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func FuzzParquet(f *testing.F) {
	for _, name := range []string{"snappy_v1_lists", "gzip_v2_strings", "zstd_item_lists", "none_plain_strings"} {
		b, err := os.ReadFile(filepath.Join(fixtures, name+"-00000-of-00001.parquet"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("PAR1........\x04\x00\x00\x00PAR1"))
	f.Fuzz(func(_ *testing.T, b []byte) { _ = readFile(b) })
}
