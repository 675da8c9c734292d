package world

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/parquet-go/parquet-go"
)

// ExportOptions size the world's files. Zero values give the defaults.
type ExportOptions struct {
	Seed     uint64 // of poses and order
	Side     int    // picture side in pixels, default 64
	Pretrain int    // pictures of the pretrain split (two a row); 0 leaves the split out
	Train    int    // rows of train; 0 = every combination once
	Shard    int    // rows a file, default 1000
	Progress func(split string, done, total int)
}

type imageCell struct {
	Bytes []byte `parquet:"bytes"`
	Path  string `parquet:"path"`
}

// extra columns are what the world adds to the Science-T2I columns: enough to draw the scene again.
type extra struct {
	Object  string    `parquet:"object"`
	Task    string    `parquet:"task"`
	Subject string    `parquet:"subject"`
	Scene   string    `parquet:"scene"`
	Pose    int64     `parquet:"pose"`
	Box     []float64 `parquet:"box,list"` // cx, cy, w, h
	ID      string    `parquet:"id"`
}

type pictures struct {
	Explicit    []imageCell `parquet:"explicit_image,list"`
	Superficial []imageCell `parquet:"superficial_image,list"`
	Category    string      `parquet:"category"`
	Law         string      `parquet:"law"`
}

// trainRow has every wording, as the training splits of Science-T2I.
type trainRow struct {
	Implicit    []string `parquet:"implicit_prompt,list"`
	Explicit    []string `parquet:"explicit_prompt,list"`
	Superficial []string `parquet:"superficial_prompt,list"`
	pictures
	extra
}

// testRow has one wording and the grading questions, as the test splits.
type testRow struct {
	Implicit    string `parquet:"implicit_prompt"`
	Explicit    string `parquet:"explicit_prompt"`
	Superficial string `parquet:"superficial_prompt"`
	pictures
	SceneScoring string `parquet:"scene_scoring"`
	RealScoring  string `parquet:"real_scoring"`
	extra
}

// Export writes the world as Science-T2I parquet files, DIR/SPLIT-00000-of-0000N.parquet. The same options give the same
// bytes in every picture and row.
func Export(ctx context.Context, dir string, o ExportOptions) error {
	o = o.withDefaults()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("export world %s: %w; choose a folder that can be written", dir, err)
	}
	if o.Pretrain > 0 {
		if err := exportSplit(ctx, dir, Pretrain, Tuples(Pretrain, o.Seed, (o.Pretrain+1)/2), o, asTrain); err != nil {
			return err
		}
	}
	if err := exportSplit(ctx, dir, Train, Tuples(Train, o.Seed, o.Train), o, asTrain); err != nil {
		return err
	}
	for _, split := range []string{Validation, TestS, TestC} {
		if err := exportSplit(ctx, dir, split, Tuples(split, o.Seed, 0), o, asTest); err != nil {
			return err
		}
	}
	return nil
}

func (o ExportOptions) withDefaults() ExportOptions {
	if o.Side <= 0 {
		o.Side = 64
	}
	if o.Shard <= 0 {
		o.Shard = 1000
	}
	return o
}

func exportSplit[R any](ctx context.Context, dir, split string, ts []Tuple, o ExportOptions, row func(Tuple, int) (R, error)) error {
	n := (len(ts) + o.Shard - 1) / o.Shard
	for i := range n {
		part := ts[i*o.Shard : min(len(ts), (i+1)*o.Shard)]
		rows, err := drawRows(ctx, part, o.Side, row)
		if err != nil {
			return fmt.Errorf("export world %s: %w", split, err)
		}
		path := filepath.Join(dir, fmt.Sprintf("%s-%05d-of-%05d.parquet", split, i, n))
		if err := writeShard(path, rows); err != nil {
			return fmt.Errorf("export world %s: %w; is the disk full?", path, err)
		}
		if o.Progress != nil {
			o.Progress(split, i*o.Shard+len(part), len(ts))
		}
	}
	return nil
}

// drawRows draws on all cores; the rows keep the order of the tuples.
func drawRows[R any](ctx context.Context, ts []Tuple, side int, row func(Tuple, int) (R, error)) ([]R, error) {
	rows, errs := make([]R, len(ts)), make([]error, len(ts))
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(ts) && ctx.Err() == nil; i += workers {
				rows[i], errs[i] = row(ts[i], side)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return rows, ctx.Err()
}

// writeShard writes beside the target and renames, so that a file under its final name is whole.
func writeShard[R any](path string, rows []R) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".shard-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	w := parquet.NewGenericWriter[R](f, parquet.Compression(&parquet.Snappy), parquet.MaxRowsPerRowGroup(500), parquet.KeyValueMetadata("huggingface", features[R]()))
	if _, err = w.Write(rows); err != nil {
		return err
	}
	if err = w.Close(); err != nil {
		return err
	}
	if err = f.Chmod(0o644); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// features is the feature description the datasets library reads, so that it shows the image columns as pictures.
func features[R any]() string {
	const str, im = `{"dtype":"string","_type":"Value"}`, `{"feature":{"_type":"Image"},"_type":"List"}`
	prompt, more := `{"feature":`+str+`,"_type":"List"}`, ""
	if _, test := any(*new(R)).(testRow); test {
		prompt, more = str, `"scene_scoring":`+str+`,"real_scoring":`+str+`,`
	}
	return `{"info":{"features":{"implicit_prompt":` + prompt + `,"explicit_prompt":` + prompt + `,"superficial_prompt":` + prompt +
		`,"explicit_image":` + im + `,"superficial_image":` + im + `,"category":` + str + `,"law":` + str + `,` + more +
		`"object":` + str + `,"task":` + str + `,"subject":` + str + `,"scene":` + str +
		`,"pose":{"dtype":"int64","_type":"Value"},"box":{"feature":{"dtype":"float64","_type":"Value"},"_type":"List"},"id":` + str + `}}}`
}

func asTrain(t Tuple, side int) (trainRow, error) {
	pics, err := cells(t, side)
	p := t.Prompts()
	return trainRow{Implicit: p.Implicit, Explicit: p.Explicit, Superficial: p.Superficial, pictures: pics, extra: extraOf(t)}, err
}

func asTest(t Tuple, side int) (testRow, error) {
	pics, err := cells(t, side)
	p := t.Prompts()
	i := newStream(t.Pose, "wording").intn(len(p.Implicit))
	return testRow{
		Implicit: p.Implicit[i], Explicit: p.Explicit[i], Superficial: p.Superficial[i], pictures: pics,
		SceneScoring: fmt.Sprintf("is this a picture of %s %s?", t.Subject, t.Scene), RealScoring: fmt.Sprintf("does it show %s?", p.Explicit[i]),
		extra: extraOf(t),
	}, err
}

func extraOf(t Tuple) extra {
	b := t.Box()
	return extra{Object: t.Noun(), Task: t.Task, Subject: t.Subject, Scene: t.Scene, Pose: int64(t.Pose), Box: []float64{b.CX, b.CY, b.W, b.H}, ID: t.ID()}
}

func cells(t Tuple, side int) (pictures, error) {
	right, err := t.Draw(true, side).PNG()
	if err != nil {
		return pictures{}, err
	}
	wrong, err := t.Draw(false, side).PNG()
	return pictures{
		Explicit: []imageCell{{right, "explicit.png"}}, Superficial: []imageCell{{wrong, "superficial.png"}},
		Category: t.Category(), Law: t.Law(),
	}, err
}
