package clip

import (
	"context"
	"fmt"
	"sync"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/model/weights"
)

// Vision is a CLIP vision tower with its weights. Its methods may be called by several goroutines.
type Vision struct {
	Config VisionConfig
	be     engine.Backend

	class      []float32      // [C]
	patch      *engine.Weight // [C, channels·patch·patch], a convolution whose stride is its size
	positions  *engine.Weight // [1 + patches, C]
	pre, post  norm
	tower      tower
	classStart []float32 // class embedding + position 0
	patchStart []float32 // positions of the patches [patches, C]

	mu    sync.Mutex
	start *engine.Tensor // of takeStart, while nobody uses it
}

func (v *Vision) declare(l *weights.Loader) {
	c := v.Config
	l.Vector(&v.class, "vision_model.embeddings.class_embedding", c.Width)
	l.Conv(&v.patch, "vision_model.embeddings.patch_embedding.weight", c.Width, c.Channels, c.PatchSize)
	l.Matrix(&v.positions, "vision_model.embeddings.position_embedding.weight", 1+c.Patches(), c.Width)
	declareNorm(l, &v.pre, "vision_model.pre_layrnorm", c.Width) // spelt so in the files
	v.tower.declare(l, c.tower(), "vision_model.encoder.layers")
	declareNorm(l, &v.post, "vision_model.post_layernorm", c.Width)
}

// prepare computes what all pictures start with.
func (v *Vision) prepare() {
	c, n := v.Config.Width, v.Config.Patches()
	v.classStart, v.patchStart = make([]float32, c), make([]float32, n*c)
	weights.Row(v.classStart, v.positions, 0)
	for k, x := range v.class {
		v.classStart[k] += x
	}
	for p := range n {
		weights.Row(v.patchStart[p*c:(p+1)*c], v.positions, 1+p)
	}
}

// PatchWidth is the number of values of one patch: channels·patch·patch.
func (c VisionConfig) PatchWidth() int { return c.Channels * c.PatchSize * c.PatchSize }

// Patchify cuts a picture [channels, S, S] into rows for Forward: dst [patches, channels·patch·patch], patches in
// reading order, each channel by channel.
func (c VisionConfig) Patchify(dst, pixels []float32) {
	side, size := c.ImageSize/c.PatchSize, c.PatchSize
	at := 0
	for i := range side {
		for j := range side {
			for ch := range c.Channels {
				for y := range size {
					from := (ch*c.ImageSize+i*size+y)*c.ImageSize + j*size
					at += copy(dst[at:at+size], pixels[from:])
				}
			}
		}
	}
}

// Batch is how many pictures are worked on at once.
func (c VisionConfig) Batch() int { return weights.Chunk(1 + c.Patches()) }

// Forward gives the normalised class state of each picture, post_layernorm included: a host tensor [B, C]. patches are
// rows [B·patches, channels·patch·patch] as Patchify makes them.
//
// The class tokens of all pictures are kept as the text rows of a joint matrix and the patches as its image rows, so the
// patch embedding and the last layer work on contiguous rows.
func (v *Vision) Forward(ctx context.Context, patches []float32) (*engine.Tensor, error) {
	c, width, per := v.Config.Width, v.Config.PatchWidth(), v.Config.Patches()
	if len(patches) == 0 || len(patches)%(per*width) != 0 {
		return nil, fmt.Errorf("encode pictures with clip: %d values, need a multiple of %d patches of %d values", len(patches), per, width)
	}
	batch := len(patches) / (per * width)
	out := engine.Wrap(make([]float32, batch*c), batch, c)
	chunk := min(batch, v.Config.Batch())
	for from := 0; from < batch; from += chunk {
		n := min(chunk, batch-from)
		if err := v.some(ctx, out.Floats()[from*c:(from+n)*c], patches[from*per*width:(from+n)*per*width], n); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// takeStart gives the joint matrix that n pictures begin with, without their patches: the one that was given back last if
// it fits.
func (v *Vision) takeStart(n int) *engine.Tensor {
	c, rows := v.Config.Width, n*(1+v.Config.Patches())
	v.mu.Lock()
	t := v.start
	v.start = nil
	v.mu.Unlock()
	if t != nil {
		if t.Rows() == rows {
			return t
		}
		v.be.Free(t)
	}
	host := make([]float32, 0, rows*c)
	for range n {
		host = append(host, v.classStart...)
	}
	for range n {
		host = append(host, v.patchStart...)
	}
	t = v.be.Alloc(rows, c)
	v.be.Upload(t, host)
	return t
}

// giveStart keeps a matrix of takeStart for the next batch.
func (v *Vision) giveStart(t *engine.Tensor) {
	v.mu.Lock()
	old := v.start
	v.start = t
	v.mu.Unlock()
	if old != nil {
		v.be.Free(old)
	}
}

// some puts the class states of n pictures, all at once, into dst.
func (v *Vision) some(ctx context.Context, dst, patches []float32, n int) (err error) {
	defer engine.Guard(&err)
	be := engine.NewScope(v.be)
	defer be.Close()
	start := v.takeStart(n)
	defer v.giveStart(start)
	c, per := v.Config.Width, v.Config.Patches()
	pixels, joint, normed, class := be.Alloc(n*per, v.Config.PatchWidth()), be.Alloc(n*(1+per), c), be.Alloc(n*(1+per), c), be.Alloc(n, c)
	h, x := engine.All(joint), engine.All(normed)
	be.Upload(pixels, patches)
	be.Copy(h, engine.All(start))
	be.Linear(h.RowRange(n, n*per), engine.All(pixels), v.patch, nil, 1)
	be.LayerNorm(x, h, v.pre.weight, v.pre.bias, v.Config.Eps)
	classRows := func(m engine.View) engine.View { return m.RowRange(0, n) }
	if err := v.tower.run(ctx, v.tower.scratch(be, n*(1+per)), x, engine.Layout{B: n, T: 1, N: per}, false, classRows); err != nil {
		return err
	}
	be.LayerNorm(engine.All(class), classRows(x), v.post.weight, v.post.bias, v.Config.Eps)
	be.Download(dst, class)
	return nil
}
