package data

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/dataset/world"
	"github.com/sciflux/sciflux/eval"
	"github.com/sciflux/sciflux/picture"
)

const side = 16 // of the pictures

type storedPicture struct {
	Bytes []byte `parquet:"bytes"`
	Path  string `parquet:"path"`
}

type storedRow struct {
	ID          string          `parquet:"id"`
	Law         string          `parquet:"law"`
	Category    string          `parquet:"category"`
	Object      string          `parquet:"object"`
	Implicit    []string        `parquet:"implicit_prompt,list"`
	Explicit    []string        `parquet:"explicit_prompt,list"`
	Superficial []string        `parquet:"superficial_prompt,list"`
	Right       []storedPicture `parquet:"explicit_image,list"`
	Wrong       []storedPicture `parquet:"superficial_image,list"`
}

// level is the byte of a colour at a place of picture k of a row: no two of them are alike in more than a few places.
func level(row, k, x, y, colour int) byte {
	return byte(11*x + 5*y*colour + 3*y + 64*colour + 37*row + 101*k)
}

func drawn(t *testing.T, row, k int) storedPicture {
	t.Helper()
	p := picture.New(side, side)
	for i := range side * side {
		for colour := range 3 {
			p.Pix[3*i+colour] = level(row, k, i%side, i/side, colour)
		}
	}
	data, err := p.PNG()
	if err != nil {
		t.Fatal(err)
	}
	return storedPicture{data, ""}
}

// written writes splits of rows with two wordings of each prompt, two right pictures and a wrong one; the laws of a split
// come in blocks of two rows.
func written(t *testing.T, rows map[string]int) string {
	t.Helper()
	dir := t.TempDir()
	for split, n := range rows {
		var all []storedRow
		for i := range n {
			two := func(kind string) []string {
				return []string{fmt.Sprintf("%s %s %d", split, kind, i), fmt.Sprintf("%s other %s %d", split, kind, i)}
			}
			all = append(all, storedRow{fmt.Sprintf("%s/%d", split, i), fmt.Sprint("law ", i/2), "category", fmt.Sprint("object ", i),
				two("implicit"), two("explicit"), two("superficial"), []storedPicture{drawn(t, i, 0), drawn(t, i, 1)}, []storedPicture{drawn(t, i, 2)}})
		}
		if err := parquet.WriteFile(filepath.Join(dir, split+"-00000-of-00001.parquet"), all); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func open(t *testing.T, dir string, set ...string) *Set {
	t.Helper()
	base := []string{"data.source=" + dir, "data.resolution=16", "oft.mask.policy=full"}
	cfg, err := configs.Load(configs.Sources{Name: "world", Set: append(base, set...)})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), cfg, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestPicturesReachTheAutoencoderAsStored: red, green and blue planes in −1…1, rows from the top, the right pictures of the
// row and none of the wrong ones.
func TestPicturesReachTheAutoencoderAsStored(t *testing.T) {
	s := open(t, written(t, map[string]int{"train": 3}))
	for row := range 3 {
		if n := s.Rows[row].Pictures(); n != 2 {
			t.Fatalf("row %d has %d pictures, want its 2 right ones", row, n)
		}
		for k := range 2 {
			planes, err := s.Planes(t.Context(), s.Rows[row], k)
			if err != nil {
				t.Fatal(err)
			}
			if len(planes) != 3*side*side {
				t.Fatalf("%d values", len(planes))
			}
			for i, got := range planes {
				colour, y, x := i/(side*side), i/side%side, i%side
				if want := (float32(level(row, k, x, y, colour)) - 127.5) / 127.5; got-want > 1e-6 || want-got > 1e-6 {
					t.Fatalf("row %d, picture %d, colour %d at column %d of line %d: %v, want %v", row, k, colour, x, y, got, want)
				}
			}
		}
	}
}

// TestPicturesHaveNamesOfTheirOwn: the name of a picture's content differs from picture to picture and is that of its bytes.
func TestPicturesHaveNamesOfTheirOwn(t *testing.T) {
	s := open(t, written(t, map[string]int{"train": 3}))
	seen := map[string]string{}
	for range 2 { // the second time from memory
		for row := range 3 {
			for k := range 2 {
				name, err := s.PictureHash(t.Context(), s.Rows[row], k)
				if err != nil {
					t.Fatal(err)
				}
				at := fmt.Sprintf("row %d, picture %d", row, k)
				if other, there := seen[name]; there && other != at || len(name) != 64 {
					t.Errorf("%s has the name %q of %s", at, name, other)
				}
				seen[name] = at
			}
		}
	}
	if len(seen) != 6 {
		t.Errorf("%d names of 6 pictures", len(seen))
	}
}

// TestRowsSayWhatTheyAreAbout: prompts by kind, the first wording in evaluations, id, law and object.
func TestRowsSayWhatTheyAreAbout(t *testing.T) {
	s := open(t, written(t, map[string]int{"train": 5}))
	for i, r := range s.Rows {
		for kind, got := range map[eval.Kind][]string{eval.Implicit: r.Implicit, eval.Explicit: r.Explicit, eval.Superficial: r.Superficial} {
			want := []string{fmt.Sprintf("train %s %d", kind, i), fmt.Sprintf("train other %s %d", kind, i)}
			if !slices.Equal(got, want) || r.Prompt(kind) != want[0] {
				t.Errorf("row %d: %s prompts %q, in evaluations %q", i, kind, got, r.Prompt(kind))
			}
		}
		got := fmt.Sprint(r.Index, " ", r.ID, " ", r.Law, " ", r.Category, " ", r.Object)
		if want := fmt.Sprintf("%d train/%d law %d category object %d", i, i, i/2, i); got != want {
			t.Errorf("row %d is %s, want %s", i, got, want)
		}
		if p := s.Prompts[i]; p != (Prompt{Text: r.Implicit[0], Object: r.Object, Row: i}) {
			t.Errorf("prompt %d of stage 2: %+v", i, p)
		}
	}
	if s.Judge != nil {
		t.Error("pictures that are not the world's are judged")
	}
}

// TestSplitsAreTheOnesAskedFor: training takes the first rows of its split, evaluation a part of its own that is spread
// over the laws.
func TestSplitsAreTheOnesAskedFor(t *testing.T) {
	dir := written(t, map[string]int{"train": 7, "held": 9, "test_S": 10})
	s := open(t, dir, "data.train_split=held", "data.train_tuples=4", "eval.tuples=6", "oft.prompts_per_epoch=4", "oft.accumulate_pairs=1")
	ids := func(rows []Row) (out []string) {
		for _, r := range rows {
			out = append(out, r.ID)
		}
		return out
	}
	if got := ids(s.Rows); !slices.Equal(got, []string{"held/0", "held/1", "held/2", "held/3"}) {
		t.Errorf("training rows %v", got)
	}
	if len(s.Prompts) != 4 {
		t.Errorf("%d prompts of 4 rows", len(s.Prompts))
	}
	for range 2 { // the second time from memory
		rows, err := s.Test(t.Context(), "test_S")
		if err != nil {
			t.Fatal(err)
		}
		if got := ids(rows); !slices.Equal(got, []string{"test_S/0", "test_S/2", "test_S/4", "test_S/6", "test_S/8", "test_S/1"}) {
			t.Errorf("evaluated rows %v", got)
		}
	}
	few := open(t, dir, "data.train_tuples=2", "eval.tuples=0", "oft.prompts_per_epoch=2", "oft.accumulate_pairs=1")
	all, err := few.Test(t.Context(), "train")
	if err != nil || len(all) != 7 {
		t.Errorf("%d rows of a whole split, %v", len(all), err)
	}
}

// TestPromptsOfAFile: they replace the rows' own, with the object that the file names.
func TestPromptsOfAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "prompts.json")
	writeText(t, file, `[{"prompt": "an old nail", "object": "nail"}, {"prompt": "a falling stone", "object": "stone"}]`)
	s := open(t, written(t, map[string]int{"train": 3}), "data.prompts="+file)
	if want := []Prompt{{"an old nail", "nail", -1}, {"a falling stone", "stone", -1}}; !slices.Equal(s.Prompts, want) {
		t.Errorf("%+v, want %+v", s.Prompts, want)
	}
}

// TestTheWorldIsJudged: the world's own rows know their tuples, and there is a judge of them.
func TestTheWorldIsJudged(t *testing.T) {
	dir := t.TempDir()
	if err := world.Export(t.Context(), dir, world.ExportOptions{Train: 3, Side: side, Seed: 1}); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	if s.Judge == nil || len(s.Rows) != 3 {
		t.Fatalf("%d rows, judge %v", len(s.Rows), s.Judge)
	}
	for _, r := range s.Rows {
		if r.Tuple.Validate() != nil || r.Object == "" {
			t.Errorf("row %d: %+v", r.Index, r)
		}
	}
}

func writeText(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
