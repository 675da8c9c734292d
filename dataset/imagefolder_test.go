package dataset

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// folderOf writes files; pictures get the width that their text says, "5" for 5×4 pixels.
func folderOf(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		data := []byte(text)
		if isPicture(filepath.Ext(name)) && len(text) == 1 {
			data = pngOf(t, int(text[0]-'0'), 4)
		}
		require.NoError(t, os.WriteFile(path, data, 0o600))
	}
	return dir
}

// described is a row in words: id, prompts, width of the picture.
func described(t *testing.T, s *Set) (out []string) {
	t.Helper()
	for r, err := range s.All(context.Background()) {
		require.NoError(t, err)
		p, err := r.ExplicitImages.Present()[0].Decode(context.Background())
		require.NoError(t, err)
		words := strings.Join([]string{strings.Join(r.Implicit.Wordings(), "+"), strings.Join(r.Explicit.Wordings(), "+"),
			strings.Join(r.Superficial.Wordings(), "+")}, "/")
		if r.OneCaption {
			require.Equal(t, r.Implicit, r.Superficial)
			words = r.Implicit.Wordings()[0]
		}
		out = append(out, r.Cells["id"].Value+": "+words+" "+string(rune('0'+p.Width)))
	}
	return out
}

// TestImageFolders: pictures with captions in text files or in metadata.jsonl, in a folder a split or in one for all.
func TestImageFolders(t *testing.T) {
	const three = `{"file_name": "b.png", "implicit_prompt": ["an unripe apple", "a young apple"], "explicit_prompt": "a green apple", "superficial_prompt": "a red apple", "law": "ripeness", "n": 3, "box": [1]}`
	for name, c := range map[string]struct {
		files  map[string]string
		splits string
		rows   []string // of train
	}{
		"text files": {map[string]string{"train/b.PNG": "5", "train/b.txt": "\ufeff a green\napple \n", "train/a/c.jpg": "6",
			"train/a/c.txt": "a red apple", "train/notes.md": "x", "train/.hidden.png": "x", "test/x.png": "1"},
			"test train", []string{"train/a/c.jpg: a red apple 6", "train/b.PNG: a green apple 5"}},
		"flat": {map[string]string{"a.png": "5", "a.txt": "one", "b.webp.png": "6", "b.webp.txt": "two"},
			"train", []string{"a.png: one 5", "b.webp.png: two 6"}},
		"lines": {map[string]string{"train/b.png": "5", "train/c/a.png": "6",
			"train/metadata.jsonl": three + "\n\n" + `{"file_name": "c/a.png", "text": "one caption", "id": "x7"}`},
			"train", []string{"b.png: an unripe apple+a young apple/a green apple/a red apple 5", "x7: one caption 6"}},
		"lines above": {map[string]string{"train/b.png": "5", "test/c.png": "6",
			"metadata.jsonl": `{"file_name": "train/b.png", "caption": "one"}` + "\n" + `{"file_name": "test/c.png", "text": "two"}`},
			"test train", []string{"train/b.png: one 5"}},
		"pictures apart": {map[string]string{"images/b.png": "5", "metadata.jsonl": `{"file_name": "images/b.png", "prompt": "one"}`},
			"train", []string{"images/b.png: one 5"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := folderOf(t, c.files)
			splits, err := Splits(dir)
			require.NoError(t, err)
			require.Equal(t, c.splits, strings.Join(splits, " "))
			s, err := Open(dir, "train")
			require.NoError(t, err)
			defer s.Close()
			require.Equal(t, "image folder", s.Layout)
			require.Equal(t, c.rows, described(t, s))
			require.NoError(t, s.Check(context.Background(), Needs{Explicit: true}))
			sum, err := OpenOptions{}.Inspect(context.Background(), dir, "train")
			require.NoError(t, err)
			require.Empty(t, sum.Problems)
			if name == "lines" {
				r, _ := s.Row(0)
				require.Equal(t, "ripeness", r.Law())
				require.EqualValues(t, 3, r.Ints["n"])
				require.Equal(t, 1, sum.OneCaption)
				require.False(t, s.Has("object"))
				require.ErrorContains(t, s.Check(context.Background(), Needs{Superficial: true}),
					`row 0 (picture "b.png"): superficial picture`)
			}
		})
	}
}

// TestImageFolderBesideParquet: a folder of pictures may be the training split of data whose test split is a parquet file; a
// folder of pictures that the files name by path is no split.
func TestImageFolderBesideParquet(t *testing.T) {
	dir := folderOf(t, map[string]string{"train/a.png": "5", "train/a.txt": "one", "images/b.png": "6", "c.png": "7"})
	put(t, filepath.Join(dir, "test_S.parquet"), "a prompt")
	splits, err := Splits(dir)
	require.NoError(t, err)
	require.Equal(t, []string{"test_S", "train"}, splits)
	s, err := Open(dir, "train")
	require.NoError(t, err)
	defer s.Close()
	require.Equal(t, []string{"train/a.png: one 5"}, described(t, s))
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "train")))
	_, err = Open(dir, "train")
	require.ErrorContains(t, err, `no split "train"; there are test_S`)
}

// TestImageFoldersThatAreRefused names the file, the line and what to do.
func TestImageFoldersThatAreRefused(t *testing.T) {
	line := func(text string) map[string]string {
		return map[string]string{"train/a.png": "5", "train/metadata.jsonl": text}
	}
	for name, c := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"no caption": {map[string]string{"train/a.png": "5"}, []string{`"train/a.png" has no caption`, `"train/a.txt"`,
			"metadata.jsonl"}},
		"empty caption":     {map[string]string{"train/a.png": "5", "train/a.txt": " \n"}, nil},
		"caption not utf-8": {map[string]string{"train/a.png": "5", "train/a.txt": "gr\xfcn"}, []string{`"train/a.txt"`, "not UTF-8"}},
		"csv": {map[string]string{"train/a.png": "5", "train/metadata.csv": "file_name,text\na.png,x"},
			[]string{"metadata.csv", "are not read; write them as metadata.jsonl"}},
		"no file name": {line(`{"image": "a.png", "text": "x"}`), []string{"line 1", "no file_name; found image, text"}},
		"no text":      {line(`{"file_name": "a.png", "title": "x"}`), []string{"line 1", "no caption: give text", "found title"}},
		"null text":    {line(`{"file_name": "a.png", "text": null}`), []string{"line 1", "no caption"}},
		"two texts": {line(`{"file_name": "a.png", "text": "x", "caption": "y"}`), []string{"line 1",
			"caption and text are there; keep one"}},
		"a number": {line(`{"file_name": "a.png", "text": 3}`), []string{"line 1",
			"text is neither a string nor a list of strings"}},
		"not listed": {map[string]string{"train/a.png": "5", "train/b.png": "5",
			"train/metadata.jsonl": `{"file_name": "a.png", "text": "x"}`}, []string{`1 pictures have no line`, `"train/b.png"`}},
		"listed twice": {line(`{"file_name": "a.png", "text": "x"}` + "\n" + `{"file_name": "./a.png", "text": "x"}`),
			[]string{"line 2", "has a caption already"}},
		"no json":   {line(`file_name: a.png`), []string{"line 1", "not a JSON object"}},
		"a list":    {line(`[{"file_name": "a.png", "text": "x"}]`), []string{"line 1", "not a JSON object"}},
		"key twice": {line(`{"file_name": "a.png", "text": "x", "text": "y"}`), []string{"line 1", `"text" stands there twice`}},
		"a long line": {line(`{"file_name": "a.png", "text": "` + strings.Repeat("x", 2*maxText) + `"}`), []string{"line 1",
			"too long"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Open(folderOf(t, c.files), "train")
			if c.want == nil { // a blank text is a row that Check refuses
				require.NoError(t, err)
				defer s.Close()
				require.ErrorContains(t, s.Check(context.Background(), Needs{}), "no implicit prompt")
				return
			}
			for _, part := range c.want {
				require.ErrorContains(t, err, part)
			}
		})
	}
	dir := folderOf(t, line(`{"file_name": "b.png", "text": "x"}`+"\n"+`{"file_name": "a.png", "text": "x"}`+"\n"+`{"file_name": "../../b.png", "text": "x"}`))
	s, err := Open(dir, "train")
	require.NoError(t, err)
	defer s.Close()
	require.ErrorContains(t, s.Check(context.Background(), Needs{Explicit: true}), `row 0 (picture "b.png")`)
	r, _ := s.Row(2)
	_, err = r.ExplicitImages.List[0].Data(context.Background())
	require.ErrorContains(t, err, "outside the data folder")
	for ext := range map[string]bool{"bmp": true, "tiff": true, "avif": true, "heic": true} {
		dir := folderOf(t, map[string]string{"a." + ext: "not a picture of this kind", "a.txt": "x"})
		sum, err := OpenOptions{}.Inspect(context.Background(), dir, "train")
		require.NoError(t, err)
		require.Len(t, sum.Problems, 1, "%s is not passed over", ext)
	}
}

func FuzzRowOfJSON(f *testing.F) {
	f.Add([]byte(`{"file_name": "a.png", "text": "x", "n": 3, "f": 0.5, "tags": ["a"], "none": null}`))
	f.Add([]byte(`{"implicit_prompt": ["a", null], "explicit_prompt": "b", "superficial_prompt": null}`))
	f.Add([]byte(`{"text": "x", "caption": "y"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		object, err := fields(b)
		if err != nil {
			return
		}
		r, err := rowOf(object, &budget{left: 1 << 20})
		if err == nil && r.OneCaption && len(r.Implicit.Values) != len(r.Superficial.Values) {
			t.Fatalf("%+v", r)
		}
	})
}
