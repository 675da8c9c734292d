package dataset

import (
	"bytes"
	"context"
	"encoding/json"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func pngOf(t *testing.T, w, h int) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, png.Encode(&b, image.NewRGBA(image.Rect(0, 0, w, h))))
	return b.Bytes()
}

func TestCheckNamesTheRow(t *testing.T) {
	good := goodRow{
		noImages: noImages{"An unripe Apple", "a green apple", "a red apple"},
		A:        []goodImage{{pngOf(t, 4, 4), "a"}}, B: []goodImage{{pngOf(t, 4, 4), "b"}}, Object: "apple",
	}
	all := Needs{Explicit: true, Superficial: true, Object: true}
	for _, c := range []struct {
		name, want string
		needs      Needs
		spoil      func(r *goodRow)
	}{
		{"fine", "", all, func(*goodRow) {}},
		{"no implicit", "row 1: no implicit prompt", Needs{}, func(r *goodRow) { r.Implicit = "  " }},
		{"no explicit", "row 1: no explicit prompt", all, func(r *goodRow) { r.Explicit = "" }},
		{"explicit not needed", "", Needs{Superficial: true}, func(r *goodRow) { r.Explicit, r.A = "", nil }},
		{"no picture", "superficial picture: column superficial_image: there is none", all, func(r *goodRow) { r.B = nil }},
		{"broken picture", `row 1: explicit picture: column explicit_image: number 0: image "z.png"`, all,
			func(r *goodRow) { r.A = []goodImage{{[]byte("oops"), "z.png"}} }},
		{"cut picture", "may be cut off or damaged; write the picture again", all,
			func(r *goodRow) { r.A = []goodImage{{r.A[0].Bytes[:40], "z.png"}} }},
		{"no noun", "row 1: no object noun", all, func(r *goodRow) { r.Object = "" }},
		{"another noun", `object noun "pear" is not in the prompt "An unripe Apple"`, all, func(r *goodRow) { r.Object = "pear" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, bad := t.TempDir(), good
			c.spoil(&bad)
			write(t, dir, []goodRow{good, bad})
			s, err := Open(dir, "train")
			require.NoError(t, err)
			err = s.Check(context.Background(), c.needs)
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestCheckWantsTheObjectColumn(t *testing.T) {
	s, err := Open(fixtures, "snappy_v1_strings")
	require.NoError(t, err)
	require.ErrorContains(t, s.Check(context.Background(), Needs{Object: true}), "no column object")
}

func TestPathIsReadBesideTheFile(t *testing.T) {
	dir := t.TempDir()
	copyFile(t, filepath.Join(fixtures, "snappy_v1_strings-00000-of-00001.parquet"), filepath.Join(dir, "t-00000-of-00001.parquet"))
	s, err := Open(dir, "t")
	require.NoError(t, err)
	r, err := s.Row(4)
	require.NoError(t, err)
	im := r.ExplicitImages.Present()[0]
	_, err = im.Decode(context.Background())
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "b.png"), pngOf(t, 9, 2), 0o644))
	pic, err := im.Decode(context.Background())
	require.NoError(t, err)
	require.Equal(t, image.Pt(9, 2), image.Pt(pic.Width, pic.Height))
	_, err = (&Image{}).Data(context.Background())
	require.ErrorContains(t, err, "neither bytes nor a path")
}

func TestInspect(t *testing.T) {
	s, err := OpenOptions{}.Inspect(context.Background(), fixtures, "zstd_item_lists")
	require.NoError(t, err)
	require.Equal(t, 7, s.Rows)
	require.Equal(t, []Tally{{"rust", 4}, {"gravity", 3}}, s.Laws)
	require.Equal(t, []Tally{{"physics", 3}, {"biology", 2}, {"", 1}, {"chemistry", 1}}, s.Categories)
	require.Equal(t, Column{"implicit_prompt", "list<string>"}, s.Columns[0])
	require.Equal(t, Column{"explicit_image", "list<image>"}, s.Columns[3])
	require.Equal(t, Column{"flag", "other"}, s.Columns[9])
	require.Equal(t, 8, s.ExplicitPictures)
	require.Equal(t, 8, s.SuperficialPictures)
	require.Contains(t, s.Sizes, Tally{"3x4", 2})
	require.NotEmpty(t, s.Problems)
	require.Contains(t, s.Problems[0], "row 0: ")
	info, err := os.Stat(filepath.Join(fixtures, "zstd_item_lists-00000-of-00001.parquet"))
	require.NoError(t, err)
	require.Equal(t, info.Size(), s.Bytes)
	b, err := json.Marshal(s)
	require.NoError(t, err)
	require.Contains(t, string(b), `"picture_sizes"`)
}
