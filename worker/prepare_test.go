package worker

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/sciflux/sciflux/engine/cpu"
	"github.com/sciflux/sciflux/models"
	"github.com/sciflux/sciflux/picture"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
)

// freshWorker has an empty folder of its own, so that a test can see whether anything was unpacked or drawn.
func freshWorker(t *testing.T) (s *Worker, dir string) {
	t.Helper()
	be, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	s = New(Options{Objects: &store.Mem{}, Backend: be, Dir: dir, Models: models.Files, CodeVersion: "test"})
	t.Cleanup(func() { _ = s.Close() })
	return s, dir
}

// TestPathsAreCheckedFirst: whichever key names something that is not there, it is told before a model is unpacked or a
// data set drawn, with the key, the path, the class and a cure.
func TestPathsAreCheckedFirst(t *testing.T) {
	empty := t.TempDir()
	halfScorer, cutScorer := t.TempDir(), t.TempDir()
	weights, err := models.Files.ReadFile("world-sciscore/model.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	for path, data := range map[string][]byte{
		halfScorer + "/config.json": []byte("{}"), halfScorer + "/preprocessor_config.json": []byte("{}"),
		cutScorer + "/config.json": []byte("{}"), cutScorer + "/preprocessor_config.json": []byte("{}"), cutScorer + "/model.safetensors": weights[:len(weights)-1],
	} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		key, path string
		more      []string
		class     run.Class
		says      string
	}{
		{"model.pipeline", "/nowhere/flux", nil, run.ClassModel, "no such file"},
		{"model.pipeline", empty, nil, run.ClassModel, "model_index.json"},
		{"model.adapter", "/nowhere/lora.safetensors", nil, run.ClassModel, "no such file"},
		{"data.source", "/nowhere/data", []string{"oft.mask.policy=full"}, run.ClassData, "parquet"},
		{"data.prompts", "/nowhere/p.json", []string{"data.source=" + empty, "oft.mask.policy=full"}, run.ClassData, "JSON list"},
		{"reward.sciscore", "/nowhere/sciscore", nil, run.ClassModel, "no such file"},
		{"reward.sciscore", empty, nil, run.ClassModel, "config.json"},
		{"reward.sciscore", halfScorer, nil, run.ClassModel, "*.safetensors"},
		{"reward.sciscore", cutScorer, nil, run.ClassModel, "model.safetensors"},
	} {
		t.Run(c.key+" "+filepath.Base(c.path), func(t *testing.T) {
			s, dir := freshWorker(t)
			_, err := s.Prepare(context.Background(), testSpec(t, append(c.more, c.key+"="+c.path)...), newWatcher(0))
			if run.ClassOf(err) != c.class {
				t.Errorf("class %q of %v", run.ClassOf(err), err)
			}
			for _, word := range []string{"open " + c.key + " " + c.path + ": ", c.says, "; name a"} {
				if err == nil || !strings.Contains(err.Error(), word) {
					t.Errorf("no %q in %v", word, err)
				}
			}
			if made, _ := os.ReadDir(dir); len(made) > 0 {
				t.Errorf("%v was made before the path was looked at", made)
			}
		})
	}
}

// TestAllWrongPathsAreToldAtOnce: whoever has yet to fetch models and data learns in one go what is missing.
func TestAllWrongPathsAreToldAtOnce(t *testing.T) {
	s, _ := freshWorker(t)
	_, err := s.Prepare(context.Background(), testSpec(t, "model.pipeline=/nowhere/flux", "data.source=/nowhere/data", "reward.sciscore=/nowhere/sciscore",
		"oft.mask.policy=full"), newWatcher(0))
	if run.ClassOf(err) != run.ClassModel {
		t.Errorf("class %q of %v", run.ClassOf(err), err)
	}
	for _, words := range []string{"model.pipeline /nowhere/flux: no such file", "; name a pipeline folder", "data.source /nowhere/data: no such file", "; name a folder of Science-T2I",
		"reward.sciscore /nowhere/sciscore: no such file", "; name a CLIP model folder"} {
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("no %q in %v", words, err)
		}
	}
}

// TestPathsThatNobodyReadsMayBeWrong: a detector that the mask policy does not ask for is not looked for.
func TestPathsThatNobodyReadsMayBeWrong(t *testing.T) {
	s := newWorker(t, &store.Mem{})
	if _, err := s.Prepare(context.Background(), testSpec(t, "oft.mask.detector=/nowhere", "oft.mask.policy=full"), newWatcher(0)); err != nil {
		t.Error(err)
	}
}

// storedPicture and storedRow are the columns of a data set of somebody's own.
type storedPicture struct {
	Bytes []byte `parquet:"bytes"`
	Path  string `parquet:"path"`
}

type storedRow struct {
	Implicit    string          `parquet:"implicit_prompt"`
	Explicit    string          `parquet:"explicit_prompt"`
	Superficial string          `parquet:"superficial_prompt"`
	Right       []storedPicture `parquet:"explicit_image,list"`
	Wrong       []storedPicture `parquet:"superficial_image,list"`
	Object      string          `parquet:"object"`
}

// ownData writes a data set with splits train and test of n rows; damage may spoil a row.
func ownData(t *testing.T, n int, damage func(i int, r *storedRow)) string {
	t.Helper()
	dir := t.TempDir()
	var rows []storedRow
	for i := range n {
		p := picture.New(64, 64)
		for k := range p.Pix {
			p.Pix[k] = byte(i + k)
		}
		data, err := p.PNG()
		if err != nil {
			t.Fatal(err)
		}
		pictures := []storedPicture{{data, fmt.Sprintf("%d-a.png", i)}, {bytes.Clone(data), fmt.Sprintf("%d-b.png", i)}}
		r := storedRow{fmt.Sprintf("an apple %d", i), "a green apple", "a red apple", pictures, pictures[:1:1], "apple"}
		damage(i, &r)
		rows = append(rows, r)
	}
	for _, split := range []string{"train", "test"} {
		if err := parquet.WriteFile(filepath.Join(dir, split+"-00000-of-00001.parquet"), rows); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func ownSpec(t *testing.T, dir string, set ...string) run.Spec {
	return testSpec(t, append([]string{"data.source=" + dir, "data.train_tuples=0", "oft.mask.policy=full", "eval.splits=test"}, set...)...)
}

// TestBrokenPicturesAreToldBeforeTraining: every picture that SFT would read is decoded by Prepare; the first broken one
// is named by row and number. Those that nobody will read may be broken.
func TestBrokenPicturesAreToldBeforeTraining(t *testing.T) {
	const rows = 40 // two pictures each: more than one part
	broken := ownData(t, rows, func(i int, r *storedRow) {
		if i == 37 || i == 38 {
			r.Right[1].Bytes = r.Right[1].Bytes[:len(r.Right[1].Bytes)-40]
		}
	})
	s := newWorker(t, &store.Mem{})
	_, err := s.Prepare(context.Background(), ownSpec(t, broken), newWatcher(0))
	if run.ClassOf(err) != run.ClassData {
		t.Errorf("class %q", run.ClassOf(err))
	}
	for _, word := range []string{broken, "split train row 37", "explicit picture", "number 1", "sciflux data inspect"} {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("no %q in %v", word, err)
		}
	}
	if _, err := s.Prepare(context.Background(), ownSpec(t, broken, "data.train_tuples=37", "name=part"), newWatcher(0)); err != nil {
		t.Errorf("rows that are not used: %v", err)
	}
	m := newWatcher(0)
	whole := ownData(t, rows, func(int, *storedRow) {})
	out, err := s.Prepare(context.Background(), ownSpec(t, whole, "name=whole"), m)
	if err != nil || out.Tuples["train"] != rows || out.Tuples["test"] != 3 {
		t.Errorf("%+v %v", out, err)
	}
	for note, total := range map[string]int{"checking pictures": rows, "encoding prompts": 24} {
		at := slices.IndexFunc(m.reports, func(p run.Progress) bool { return p.Note == note && p.Step == p.StepsTotal })
		if at < 0 || m.reports[at].StepsTotal != total {
			t.Errorf("no report of all %d at %s among %d", total, note, len(m.reports))
		}
	}
}

// TestCheckingPicturesCanBeLeft: a worker that has to go does not look through the rest of a large data set.
func TestCheckingPicturesCanBeLeft(t *testing.T) {
	s, dir := newWorker(t, &store.Mem{}), ownData(t, 70, func(int, *storedRow) {})
	m := newWatcher(1)
	if _, err := s.Prepare(context.Background(), ownSpec(t, dir), m); run.ClassOf(err) != run.ClassPreempted {
		t.Errorf("%v", err)
	}
	if len(m.reports) != 1 {
		t.Errorf("%d reports", len(m.reports))
	}
}
