package dataset

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// userRow is a row as people write it: prompts may be null.
type userRow struct {
	Implicit    *string     `parquet:"implicit_prompt"`
	Explicit    *string     `parquet:"explicit_prompt"`
	Superficial *string     `parquet:"superficial_prompt"`
	A           []goodImage `parquet:"explicit_image,list"`
	B           []goodImage `parquet:"superficial_image,list"`
	Object      *string     `parquet:"object"`
	ID          string      `parquet:"id"`
}

func some(s string) *string { return &s }

// goodUserRow is complete.
func goodUserRow(t *testing.T) userRow {
	return userRow{some("an unripe apple"), some("a green apple"), some("a red apple"),
		[]goodImage{{pngOf(t, 6, 4), "a.png"}}, []goodImage{{pngOf(t, 4, 6), "b.png"}}, some("apple"), "1"}
}

// jpegOf is a grey JPEG.
func jpegOf(t *testing.T, w, h int) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, jpeg.Encode(&b, image.NewGray(image.Rect(0, 0, w, h)), nil))
	return b.Bytes()
}

// withOrientation puts a camera's orientation tag into a JPEG.
func withOrientation(file []byte, orientation uint16) []byte {
	tiff := binary.LittleEndian.AppendUint32([]byte("II*\x00"), 8)
	tiff = binary.LittleEndian.AppendUint16(tiff, 1)
	tiff = binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(tiff, 0x0112), 3)
	tiff = binary.LittleEndian.AppendUint32(tiff, 1)
	tiff = binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(tiff, orientation), 0)
	body := append([]byte("Exif\x00\x00"), tiff...)
	segment := append(binary.BigEndian.AppendUint16([]byte{0xff, 0xe1}, uint16(len(body)+2)), body...)
	return append(append(append([]byte{}, file[:2]...), segment...), file[2:]...)
}

// hugePNG claims a size that its few bytes cannot hold.
func hugePNG(width, height uint32) []byte {
	head := append(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32([]byte("IHDR"), width), height), 8, 2, 0, 0, 0)
	out := append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\r"), head...)
	return binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(head))
}

// webpFile is one of the picture package's own.
func webpFile(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "picture", "testdata", "pillow", "lossy_5x4.webp"))
	require.NoError(t, err)
	return b
}

// TestUserRows: what people's files hold is either read or refused by one message that names the folder, the row, the column
// and what to do.
func TestUserRows(t *testing.T) {
	all := Needs{Explicit: true, Superficial: true, Object: true}
	for name, c := range map[string]struct {
		spoil func(r *userRow)
		want  []string // parts of the message; none if the row is fine
	}{
		"complete":         {func(*userRow) {}, nil},
		"null implicit":    {func(r *userRow) { r.Implicit = nil }, []string{"implicit_prompt", "fill it or remove the row"}},
		"blank implicit":   {func(r *userRow) { r.Implicit = some(" \t\n ") }, []string{"implicit_prompt", "remove the row"}},
		"null explicit":    {func(r *userRow) { r.Explicit = nil }, []string{"explicit_prompt", "remove the row"}},
		"null superficial": {func(r *userRow) { r.Superficial = nil }, []string{"superficial_prompt", "remove the row"}},
		"no pictures":      {func(r *userRow) { r.A = nil }, []string{"explicit_image", "there is none", "add one"}},
		"empty bytes": {func(r *userRow) { r.B[0].Bytes = []byte{} }, []string{"superficial_image", `"b.png"`,
			"the file is empty"}},
		"a web page": {func(r *userRow) { r.A[0].Bytes = []byte("<html>404 not found</html>") }, []string{"explicit_image",
			"PNG, JPEG, WebP and GIF are read"}},
		"a gif": {func(r *userRow) { r.A[0].Bytes = []byte("GIF89a\x01\x00\x01\x00") }, []string{"explicit_image", "gif",
			"ends before its first picture"}},
		"cut png": {func(r *userRow) { r.A[0].Bytes = r.A[0].Bytes[:45] }, []string{"explicit_image", "number 0",
			"cut off or damaged"}},
		"an avif": {func(r *userRow) { r.A[0].Bytes = []byte("\x00\x00\x00\x1cftypavif\x00\x00\x00\x00mif1miaf") },
			[]string{"explicit_image", "AVIF is not read", "write it as PNG"}},
		"second picture bad": {func(r *userRow) { r.A = append(r.A, goodImage{[]byte("x"), "z"}) }, []string{"explicit_image",
			"number 1", `"z"`}},
		"cut jpeg":   {func(r *userRow) { r.A[0].Bytes = jpegOf(t, 30, 20)[:200] }, []string{"explicit_image", "jpeg"}},
		"huge claim": {func(r *userRow) { r.A[0].Bytes = hugePNG(1<<31-1, 1<<31-1) }, []string{"explicit_image", "png"}},
		"large claim": {func(r *userRow) { r.A[0].Bytes = hugePNG(60_000, 60_000) }, []string{"more than the limit",
			"make the picture smaller"}},
		"empty claim": {func(r *userRow) { r.A[0].Bytes = hugePNG(9_000, 9_000) }, []string{"bytes cannot hold 9000×9000 pixels"}},
		"jpeg":        {func(r *userRow) { r.A[0].Bytes = jpegOf(t, 31, 7) }, nil},
		"webp":        {func(r *userRow) { r.B[0].Bytes = webpFile(t) }, nil},
		"one pixel":   {func(r *userRow) { r.A[0].Bytes = pngOf(t, 1, 1) }, nil},
		"a thread": {func(r *userRow) { r.A[0].Bytes = pngOf(t, 900, 1) }, []string{"900×1 pixels", "more than 8 times",
			"cut the picture or remove the row"}},
		"a panorama":   {func(r *userRow) { r.A[0].Bytes = pngOf(t, 4, 32) }, nil},
		"a longer one": {func(r *userRow) { r.A[0].Bytes = pngOf(t, 4, 33) }, []string{"4×33 pixels", "remove the row"}},
		"no noun":      {func(r *userRow) { r.Object = nil }, []string{"no object noun", "fill column object"}},
		"another noun": {func(r *userRow) { r.Object = some("pear") }, []string{`"pear"`, `"an unripe apple"`,
			"correct one of them"}},
		"noun in capitals":     {func(r *userRow) { r.Object = some(" APPLE ") }, nil},
		"long prompt":          {func(r *userRow) { *r.Implicit += strings.Repeat(" very unripe", 5000) }, nil},
		"chinese":              {func(r *userRow) { r.Implicit, r.Object = some("一个未成熟的苹果"), some("苹果") }, nil},
		"emoji":                {func(r *userRow) { r.Implicit, r.Object = some("an unripe 🍎 apple"), some("🍎") }, nil},
		"right to left":        {func(r *userRow) { r.Implicit, r.Object = some("תפוח לא בשל"), some("תפוח") }, nil},
		"greek capitals":       {func(r *userRow) { r.Implicit, r.Object = some("ΆΓΟΥΡΟ ΜΉΛΟ"), some("μήλο") }, nil},
		"accents in two parts": {func(r *userRow) { r.Implicit, r.Object = some("cold cafe\u0301"), some("Caf\u00e9") }, nil},
		"not utf-8":            {func(r *userRow) { r.Explicit = some("green \xff\xfe apple") }, nil},
		"zero byte":            {func(r *userRow) { r.Explicit = some("green\x00apple") }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir, bad := t.TempDir(), goodUserRow(t)
			c.spoil(&bad)
			write(t, dir, []userRow{goodUserRow(t), bad, goodUserRow(t)})
			s, err := Open(dir, "train")
			require.NoError(t, err)
			err = s.Check(context.Background(), all)
			if c.want == nil {
				require.NoError(t, err)
				return
			}
			for _, part := range append(c.want, dir, "split train row 1") {
				require.ErrorContains(t, err, part)
			}
			require.NotContains(t, err.Error(), "\n")
			require.Less(t, len(err.Error())-len(dir), 420, "%v", err)
			sum, err := OpenOptions{}.Inspect(context.Background(), dir, "train")
			require.NoError(t, err)
			if name == "no noun" { // a file may do without nouns, so inspection does not ask for them
				require.Empty(t, sum.Problems)
				return
			}
			require.Len(t, sum.Problems, 1, "the same row is the only problem that inspection lists")
			require.Contains(t, sum.Problems[0], "row 1: ")
		})
	}
}

// TestProblemsAreCounted: inspection goes on after bad rows, lists the first few of them, and counts everything it saw.
func TestProblemsAreCounted(t *testing.T) {
	dir := t.TempDir()
	var rows []userRow
	for i := range 30 {
		r := goodUserRow(t)
		if i%2 == 1 {
			r.Implicit = nil
		}
		rows = append(rows, r)
	}
	write(t, dir, rows)
	sum, err := OpenOptions{}.Inspect(context.Background(), dir, "train")
	require.NoError(t, err)
	require.Len(t, sum.Problems, mostProblems)
	require.Equal(t, 15, sum.ImplicitPrompts)
	require.Equal(t, 30, sum.ExplicitPictures)
	require.Equal(t, []Tally{{"4x6", 30}, {"6x4", 30}}, sum.Sizes)
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = OpenOptions{}.Inspect(cancelled, dir, "train")
	require.ErrorIs(t, err, context.Canceled)
}

// TestRowsOfSeveralFilesAreNamed: of a split in several files the message also names the file and the row in it.
func TestRowsOfSeveralFilesAreNamed(t *testing.T) {
	dir := t.TempDir()
	bad := goodUserRow(t)
	bad.Explicit = nil
	for i, rows := range [][]userRow{{goodUserRow(t), goodUserRow(t)}, {goodUserRow(t), bad}, {bad}} {
		write(t, dir, rows)
		require.NoError(t, os.Rename(filepath.Join(dir, "train-00000-of-00001.parquet"), filepath.Join(dir,
			fmt.Sprintf("train-%05d-of-00003.parquet", i))))
	}
	s, err := Open(dir, "train")
	require.NoError(t, err)
	err = s.Check(context.Background(), Needs{Explicit: true})
	require.ErrorContains(t, err, "row 3 (row 1 of train-00001-of-00003.parquet)")
	require.NoError(t, s.Check(context.Background(), Needs{}))
}

// TestRepeatedRowsAreKept: two rows of the same id are two rows; nothing is merged or dropped.
func TestRepeatedRowsAreKept(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, []userRow{goodUserRow(t), goodUserRow(t)})
	s, err := Open(dir, "train")
	require.NoError(t, err)
	require.Equal(t, 2, s.Len())
	a, err := s.Row(0)
	require.NoError(t, err)
	b, err := s.Row(1)
	require.NoError(t, err)
	require.Equal(t, "1", a.Cells["id"].Value)
	require.Equal(t, a.Explicit, b.Explicit)
	require.Len(t, b.ExplicitImages.List, 1)
	require.NotEqual(t, a.ExplicitImages.List[0].at, b.ExplicitImages.List[0].at)
}

// TestPicturesAreTurnedUpright: the size is the stored one, the picture is upright, as training sees it.
func TestPicturesAreTurnedUpright(t *testing.T) {
	for orientation, turned := range map[uint16]bool{1: false, 3: false, 5: true, 6: true, 8: true} {
		im := &Image{Stored: true, at: memory(withOrientation(jpegOf(t, 40, 24), orientation))}
		info, err := im.Info(context.Background())
		require.NoError(t, err)
		require.Equal(t, [2]int{40, 24}, [2]int{info.Width, info.Height})
		p, err := im.Decode(context.Background())
		require.NoError(t, err)
		want := [2]int{40, 24}
		if turned {
			want = [2]int{24, 40}
		}
		require.Equal(t, want, [2]int{p.Width, p.Height}, "orientation %d", orientation)
	}
}

// other types that people's columns may have.
type (
	numberPrompt struct {
		Implicit    int64       `parquet:"implicit_prompt"`
		Explicit    string      `parquet:"explicit_prompt"`
		Superficial string      `parquet:"superficial_prompt"`
		A           []goodImage `parquet:"explicit_image,list"`
		B           []goodImage `parquet:"superficial_image,list"`
	}
	nestedPrompt struct {
		Implicit    [][]string  `parquet:"implicit_prompt,list"`
		Explicit    string      `parquet:"explicit_prompt"`
		Superficial string      `parquet:"superficial_prompt"`
		A           []goodImage `parquet:"explicit_image,list"`
		B           []goodImage `parquet:"superficial_image,list"`
	}
	otherFields struct {
		noImages
		A []struct {
			Bytes []byte `parquet:"data"`
			Path  string `parquet:"path"`
		} `parquet:"explicit_image,list"`
		B []goodImage `parquet:"superficial_image,list"`
	}
	wrongFieldTypes struct {
		noImages
		A []struct {
			Bytes int64  `parquet:"bytes"`
			Path  string `parquet:"path"`
		} `parquet:"explicit_image,list"`
		B []goodImage `parquet:"superficial_image,list"`
	}
)

// TestColumnsOfOtherTypes: each is refused when the file is opened, by a message that names the file, the column and the type
// it must have.
func TestColumnsOfOtherTypes(t *testing.T) {
	const promptTypes, imageTypes = "is neither string nor list<string>", "is not a list of {bytes, path} structs"
	for name, c := range map[string]struct {
		write        func(dir string)
		column, want string
	}{
		"number for a prompt": {func(d string) { write(t, d, []numberPrompt{{}}) }, "implicit_prompt", promptTypes},
		"lists of lists": {func(d string) { write(t, d, []nestedPrompt{{Implicit: [][]string{{"a"}}}}) }, "implicit_prompt",
			promptTypes},
		"other field names": {func(d string) { write(t, d, []otherFields{{}}) }, "explicit_image", imageTypes},
		"other field types": {func(d string) { write(t, d, []wrongFieldTypes{{}}) }, "explicit_image", imageTypes},
	} {
		dir := t.TempDir()
		c.write(dir)
		_, err := Open(dir, "train")
		for _, part := range []string{"train-00000-of-00001.parquet", "column " + c.column + " ", c.want, "; write"} {
			require.ErrorContains(t, err, part, name)
		}
	}
}

// TestMoreColumnsAreKept: what the schema does not name is read where it is a string or a number, else passed over.
func TestMoreColumnsAreKept(t *testing.T) {
	type row struct {
		userRow
		Extra  string             `parquet:"règle"`
		Count  int32              `parquet:"count"`
		Score  float32            `parquet:"score"`
		Flag   bool               `parquet:"flag"`
		Tags   []string           `parquet:"tags,list"`
		Lookup map[string]float64 `parquet:"lookup"`
	}
	dir := t.TempDir()
	write(t, dir, []row{{userRow: goodUserRow(t), Extra: "é", Count: -7, Score: 0.5, Flag: true, Tags: []string{"a"},
		Lookup: map[string]float64{"x": 1}}})
	s, err := Open(dir, "train")
	require.NoError(t, err)
	r, err := s.Row(0)
	require.NoError(t, err)
	require.Equal(t, Cell{"é", true}, r.Cells["règle"])
	require.EqualValues(t, -7, r.Ints["count"])
	require.Equal(t, []float64{0.5}, r.Floats["score"])
	require.NotContains(t, r.Cells, "tags")
	require.NotContains(t, r.Cells, "flag")
	require.True(t, s.Has("flag"))
	require.False(t, s.Has("Flag"))
	require.NoError(t, s.Check(context.Background(), Needs{Explicit: true, Superficial: true, Object: true}))
}

// TestRowsOutliveTheSet: closing twice is no error, texts stay, pictures are gone.
func TestRowsOutliveTheSet(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, []userRow{goodUserRow(t)})
	s, err := Open(dir, "train")
	require.NoError(t, err)
	for r, err := range s.All(context.Background()) { // stopping early is allowed
		require.NoError(t, err)
		require.Equal(t, 0, r.Index)
		break
	}
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	r, err := s.Row(0)
	require.NoError(t, err)
	require.Equal(t, "1", r.Cells["id"].Value)
	_, err = r.ExplicitImages.List[0].Decode(context.Background())
	require.ErrorContains(t, err, "closed")
}

// memory is a picture that is held.
type memory []byte

func (m memory) read(context.Context) ([]byte, error) { return bytes.Clone(m), nil }

// FuzzDecodeOfRows: whatever bytes a row stores as a picture, looking at them gives a size and a picture of that area, or an
// error of one line.
func FuzzDecodeOfRows(f *testing.F) {
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 5, 3))); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(hugePNG(9000, 9000))
	f.Add([]byte("\xff\xd8\xff\xe0"))
	f.Add([]byte("RIFF\x00\x00\x00\x00WEBPVP8 "))
	f.Fuzz(func(t *testing.T, data []byte) {
		im := &Image{Stored: true, at: memory(data), Path: Cell{"p", true}}
		info, err := im.Info(context.Background())
		w, h := info.Width, info.Height
		if err == nil && w*h > 1<<20 {
			return // allowed, but too slow to try
		}
		p, failed := im.Decode(context.Background())
		if failed == nil && (err != nil || p.Width*p.Height != w*h || len(p.Pix) != 3*w*h) {
			t.Fatalf("%d × %d (%v), decoded %d × %d", w, h, err, p.Width, p.Height)
		}
		for _, e := range []error{err, failed} {
			if e != nil && (!strings.HasPrefix(e.Error(), `image "p": `) || strings.Contains(e.Error(), "\n")) {
				t.Fatalf("%v", e)
			}
		}
	})
}
