package stages

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/sciflux/sciflux/dataset"
	"github.com/sciflux/sciflux/dataset/world"
	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/eval"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/model/flux"
	"github.com/sciflux/sciflux/model/lora"
	"github.com/sciflux/sciflux/model/vae"
	"github.com/sciflux/sciflux/picture"
	"github.com/sciflux/sciflux/random"
	"github.com/sciflux/sciflux/reward"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
)

// row is one tuple as training and evaluation use it.
type row struct {
	Index                           int
	ID, Law, Category, Object       string
	Implicit, Explicit, Superficial []string
	Tuple                           world.Tuple // of the procedural world; zero for other data
	right                           []*dataset.Image
}

// Pictures is the number of right pictures of the row.
func (r row) Pictures() int { return len(r.right) }

// prompt is the wording that evaluation uses: the first one.
func (r row) prompt(k eval.Kind) string {
	return map[eval.Kind][]string{eval.Implicit: r.Implicit, eval.Explicit: r.Explicit, eval.Superficial: r.Superficial}[k][0]
}

// openData reads the training rows and the prompts of stage 2, drawing the world first where the config asks for it.
func (d *desk) openData(ctx context.Context) error {
	folder, err := d.dataFolder(ctx)
	if err != nil {
		return err
	}
	c := d.cfg.Data
	var isWorld bool
	if d.rows, isWorld, err = readRows(folder, c.TrainSplit, c.TrainTuples); err != nil {
		return err
	}
	if isWorld {
		d.judge = world.NewJudge()
	}
	for _, r := range d.rows {
		if len(r.right) == 0 {
			return dataError(folder, c.TrainSplit, r.Index, "it has no explicit picture; SFT trains on right pictures")
		}
	}
	d.prompts, err = d.openPrompts(folder)
	return err
}

// dataFolder is where the parquet files are. The world is drawn into the cache folder once for each picture size.
func (d *desk) dataFolder(ctx context.Context) (string, error) {
	if d.cfg.Data.Source != "world" {
		return d.cfg.Data.Source, nil
	}
	side := d.cfg.Data.Resolution
	final := filepath.Join(d.studio.options.Dir, "data", fmt.Sprintf("world-%d-%d", worldVersion, side))
	if _, err := os.Stat(final); err == nil {
		return final, nil
	}
	if err := os.MkdirAll(filepath.Dir(final), 0o755); err != nil {
		return "", fmt.Errorf("draw the world: %w; is the disk full or read-only?", err)
	}
	temp, err := os.MkdirTemp(filepath.Dir(final), ".world-")
	if err != nil {
		return "", fmt.Errorf("draw the world: %w", err)
	}
	defer os.RemoveAll(temp)
	if err := world.Export(ctx, temp, world.ExportOptions{Seed: worldSeed, Side: side}); err != nil {
		return "", fmt.Errorf("draw the world: %w", err)
	}
	if err := os.Rename(temp, final); err != nil {
		if _, there := os.Stat(final); there == nil {
			return final, nil
		}
		return "", fmt.Errorf("draw the world: %w", err)
	}
	return final, nil
}

// The drawing that the tiny models inside the binary were trained on. A change of the drawing code is a new version.
const (
	worldSeed    = 1
	worldVersion = 1
)

// readRows reads a split, the first limit rows of it unless limit is 0, and says whether it is the world's.
func readRows(folder, split string, limit int) (rows []row, isWorld bool, err error) {
	set, err := dataset.Open(folder, split)
	if err != nil {
		return nil, false, run.Errorf(run.ClassData, "open data set", folder, "", "%w", err)
	}
	defer func() {
		if err != nil {
			_ = set.Close()
		}
	}() // else the rows read their pictures from it
	n := set.Len()
	if limit > 0 {
		n = min(n, limit)
	}
	isWorld = true
	for i := range n {
		r, err := set.Row(i)
		if err != nil {
			return nil, false, run.Errorf(run.ClassData, "read data set", folder, "", "%w", err)
		}
		out := row{Index: i, ID: r.Cells["id"].Value, Law: r.Law(), Category: r.Category(), Object: r.Object(),
			Implicit: r.Implicit.Wordings(), Explicit: r.Explicit.Wordings(), Superficial: r.Superficial.Wordings(), right: r.ExplicitImages.Present()}
		if out.ID == "" {
			out.ID = fmt.Sprintf("%s-%d", split, i)
		}
		if len(out.Implicit) == 0 || len(out.Explicit) == 0 || len(out.Superficial) == 0 {
			return nil, false, dataError(folder, split, i, "an implicit, explicit or superficial prompt is missing; every tuple needs all three")
		}
		var ok bool
		if out.Tuple, ok = world.FromRow(r); !ok {
			isWorld = false
		}
		rows = append(rows, out)
	}
	if len(rows) == 0 {
		return nil, false, run.Errorf(run.ClassData, "open data set", folder, "check data.source and the split's name", "split %s has no rows", split)
	}
	return rows, isWorld, nil
}

func dataError(folder, split string, i int, what string) error {
	return run.Errorf(run.ClassData, "read data set", folder, "", "row %d of %s: %s", i, split, what)
}

// testRows are the rows that a split is evaluated on.
func (d *desk) testRows(ctx context.Context, split string) ([]row, error) {
	d.studio.mu.Lock()
	defer d.studio.mu.Unlock()
	if rows, ok := d.tests[split]; ok {
		return rows, nil
	}
	folder, err := d.dataFolder(ctx)
	if err != nil {
		return nil, err
	}
	rows, _, err := readRows(folder, split, 0)
	if err != nil {
		return nil, err
	}
	if limit := d.cfg.Eval.Tuples; limit > 0 {
		rows = spread(rows, limit)
	}
	d.tests[split] = rows
	return rows, nil
}

// spread picks n rows evenly over the tasks: one of each task in turn, in the order of the split.
func spread(rows []row, n int) []row {
	var laws []string
	byLaw := map[string][]row{}
	for _, r := range rows {
		if byLaw[r.Law] == nil {
			laws = append(laws, r.Law)
		}
		byLaw[r.Law] = append(byLaw[r.Law], r)
	}
	var out []row
	for k := 0; len(out) < min(n, len(rows)); k++ {
		for _, law := range laws {
			if k < len(byLaw[law]) && len(out) < n {
				out = append(out, byLaw[law][k])
			}
		}
	}
	return out
}

// openPrompts are the prompts of stage 2: those of the config's file, else the rows' own implicit ones.
func (d *desk) openPrompts(folder string) ([]prompt, error) {
	needsObject := d.cfg.OFT.Epochs > 0 && d.cfg.OFT.Mask.Policy == reward.MaskDetector
	var prompts []prompt
	if path := d.cfg.Data.Prompts; path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, run.Errorf(run.ClassData, "read prompts", path, "", "%w", err)
		}
		var list []struct {
			Prompt string `json:"prompt"`
			Object string `json:"object"`
		}
		if err := json.Unmarshal(text, &list); err != nil {
			return nil, run.Errorf(run.ClassData, "read prompts", path, `it must be a JSON list of {"prompt", "object"}`, "%w", err)
		}
		for _, p := range list {
			prompts = append(prompts, prompt{Text: p.Prompt, Object: p.Object, Row: -1})
		}
		folder = path
	} else {
		for i, r := range d.rows {
			prompts = append(prompts, prompt{Text: r.Implicit[0], Object: r.Object, Row: i})
		}
	}
	for i, p := range prompts {
		if needsObject && p.Object == "" {
			return nil, run.Errorf(run.ClassData, "read prompts", folder, "add the object, or set oft.mask.policy to full or none", "prompt %d %q names no object for the detector", i, p.Text)
		}
	}
	if len(prompts) == 0 && d.cfg.OFT.Epochs > 0 {
		return nil, run.Errorf(run.ClassData, "read prompts", folder, "", "there are none")
	}
	return prompts, nil
}

// pictureKey names a training picture.
type pictureKey struct{ row, picture int }

// posterior is the encoder's distribution of one picture's latents.
type posterior = vae.Posterior

// latents draws the packed latents of a training picture from the encoder's distribution.
func (d *desk) latents(ctx context.Context, r row, k int, key random.Key) ([]float32, error) {
	p, err := d.posterior(ctx, r, k)
	if err != nil {
		return nil, err
	}
	noise := make([]float32, p.Mean.Len())
	key.Normal(noise)
	z, err := d.pipe.VAE.Sample(p, noise)
	if err != nil {
		return nil, err
	}
	return flux.Pack(z.Floats(), 1, z.Shape[1], z.Shape[2], z.Shape[3]), nil
}

func (d *desk) posterior(ctx context.Context, r row, k int) (posterior, error) {
	at := pictureKey{r.Index, k}
	d.mu.Lock()
	p, ok := d.moments[at]
	d.mu.Unlock()
	if ok {
		return p, nil
	}
	pic, err := r.right[k].Decode(ctx)
	if err != nil {
		return posterior{}, dataError(d.cfg.Data.Source, d.cfg.Data.TrainSplit, r.Index, err.Error())
	}
	side := d.cfg.Data.Resolution
	square, err := pic.Square(side)
	if err != nil {
		return posterior{}, dataError(d.cfg.Data.Source, d.cfg.Data.TrainSplit, r.Index, err.Error())
	}
	planes := make([]float32, 3*side*side)
	for i := range side * side {
		for c := range 3 {
			planes[c*side*side+i] = float32(square.Pix[3*i+c])/127.5 - 1
		}
	}
	p, err = d.pipe.VAE.Encode(ctx, engine.Wrap(planes, 1, 3, side, side))
	if err == nil && d.cfg.Data.CacheLatents {
		d.mu.Lock()
		d.moments[at] = p
		d.mu.Unlock()
	}
	return p, err
}

// initialA draws the A of a module: gaussian with standard deviation 1/rank, as the authors, or uniform in ±1/√in.
func initialA(kind string, key random.Key, a []float32, m lora.Module) {
	if kind == "kaiming" {
		bound := 1 / math.Sqrt(float64(m.In))
		for i := range a {
			a[i] = float32((2*key.Float64(uint64(i)) - 1) * bound)
		}
		return
	}
	key.Normal(a)
	for i := range a {
		a[i] /= float32(m.Rank)
	}
}

// worldDetector finds subjects in pictures of the world, by pixels alone.
type worldDetector struct {
	judge  *world.Judge
	tuples []world.Tuple // of the pictures, in order
}

// Detect implements reward.Detector.
func (w worldDetector) Detect(_ context.Context, images reward.Images, objects []string) ([][]flow.Box, error) {
	found := make([][]flow.Box, images.B)
	for b := range images.B {
		box, ok, err := w.judge.Detect(worldPicture(images, b), w.tuples[b])
		if err != nil {
			return nil, fmt.Errorf("find %s: %w", objects[b], err)
		}
		if ok {
			found[b] = []flow.Box{{CX: float32(box.CX), CY: float32(box.CY), W: float32(box.W), H: float32(box.H)}}
		}
	}
	return found, nil
}

// subjects asks the masker; the world's detector is told which tuple each picture is of.
func (d *desk) subjects(ctx context.Context, r *rollouts, objects []string) ([]reward.Subject, error) {
	masker := d.masker
	if d.judge != nil {
		w := worldDetector{judge: d.judge}
		samples := d.cfg.OFT.ImagesPerPrompt
		for b := range objects {
			w.tuples = append(w.tuples, d.rows[r.Prompts[b/samples].Row].Tuple)
		}
		m := d.cfg.OFT.Mask
		var err error
		if masker, err = reward.NewMasker(m.Policy, m.OnEmpty, d.forms(), w); err != nil {
			return nil, err
		}
	}
	return masker.Find(ctx, r.Images, objects)
}

func putEvents(ctx context.Context, o store.Objects, key string, events []run.Event) error {
	var b bytes.Buffer
	if err := run.WriteEvents(&b, events); err != nil {
		return err
	}
	_, err := o.Put(ctx, key, &b)
	return err
}

// encodePNG is picture b as a PNG file.
func encodePNG(images reward.Images, b int) ([]byte, error) {
	size := 3 * images.H * images.W
	p, err := picture.FromFloats(images.Data[b*size:(b+1)*size], images.W, images.H)
	if err != nil {
		return nil, err
	}
	return p.PNG()
}
