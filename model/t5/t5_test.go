package t5

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/reference"
	"github.com/sciflux/sciflux/model/weights"
	"github.com/sciflux/sciflux/store/safetensors"
)

const folder = "../../testdata/golden/t5_encoder_sharded/model" // 2 layers, 4 heads of 16, width 48, 128 ids, four shards

func tinyT5(t *testing.T) *T5 {
	t.Helper()
	m, err := Open(folder, reference.New(), weights.AsStored)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.Close()
		if live, _ := m.be.Memory(); live != 0 {
			t.Errorf("%d bytes are still allocated", live)
		}
	})
	return m
}

// The table of transformers for 32 buckets up to distance 128, by distance, in each half.
func TestBucketsOfFlux(t *testing.T) {
	starts := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91}
	for d := range 300 {
		want := 0
		for b, from := range starts {
			if d >= from {
				want = b
			}
		}
		if got := bucket(-d, 32, 128); got != want {
			t.Errorf("key %d behind: bucket %d, want %d", d, got, want)
		}
		if got := bucket(d, 32, 128); d > 0 && got != 16+want {
			t.Errorf("key %d ahead: bucket %d, want %d", d, got, 16+want)
		}
	}
}

func TestBucketsOfOtherSizes(t *testing.T) {
	for _, c := range [][2]int{{16, 40}, {16, 128}, {64, 256}} {
		buckets, far := c[0], c[1]
		last := -1
		for d := range far {
			b := bucket(-d, buckets, far)
			if b < last || b > last+1 && d < buckets/4 || b >= buckets/2 {
				t.Errorf("%d buckets to %d: distance %d in bucket %d after %d", buckets, far, d, b, last)
			}
			last = b
		}
		if got := bucket(-far, buckets, far); got != buckets/2-1 {
			t.Errorf("%d buckets to %d: the farthest distance is in bucket %d", buckets, far, got)
		}
	}
}

func TestPositionBiasFollowsTheTable(t *testing.T) {
	const heads, length = 3, 11
	table := make([]float32, 32*heads)
	for i := range table {
		table[i] = float32(i)
	}
	bias := positionBias(table, heads, length, 32, 128)
	for h := range heads {
		for i := range length {
			for j := range length {
				want := float32(bucket(j-i, 32, 128)*heads + h)
				if got := bias[(h*length+i)*length+j]; got != want {
					t.Fatalf("head %d, query %d, key %d: %g, want %g", h, i, j, got, want)
				}
			}
		}
	}
}

func difference(a, b []float32) float64 {
	var most float64
	for i := range a {
		most = max(most, math.Abs(float64(a[i]-b[i])))
	}
	return most
}

func TestRowsOfABatchAreIndependent(t *testing.T) {
	m := tinyT5(t)
	ctx := context.Background()
	ids := []int32{5, 9, 1, 0, 0, 7, 8, 11, 64, 1}
	both, err := m.Forward(ctx, ids, 5)
	if err != nil {
		t.Fatal(err)
	}
	second, err := m.Forward(ctx, ids[5:], 5)
	if err != nil {
		t.Fatal(err)
	}
	if d := difference(both.Floats()[5*48:], second.Floats()); d > 1e-5 {
		t.Errorf("a row moves by %g beside another", d)
	}
}

// Without a mask the states of real tokens depend on how many pads follow.
func TestPaddingIsSeen(t *testing.T) {
	m := tinyT5(t)
	ctx := context.Background()
	short, err := m.Forward(ctx, []int32{5, 9, 1, 0}, 4)
	if err != nil {
		t.Fatal(err)
	}
	long, err := m.Forward(ctx, []int32{5, 9, 1, 0, 0, 0, 0, 0}, 8)
	if err != nil {
		t.Fatal(err)
	}
	if d := difference(short.Floats()[:48], long.Floats()[:48]); d < 1e-3 {
		t.Errorf("four more pads move the first state by %g only", d)
	}
}

// TestManyRowsAreWorkedOnInChunks: prompts on both sides of every chunk's edge are what they are alone.
func TestManyRowsAreWorkedOnInChunks(t *testing.T) {
	m := tinyT5(t)
	const length = 64
	chunk := weights.Chunk(length)
	batch := 2*chunk + 1
	ids := make([]int32, length*batch)
	for i := range ids {
		ids[i] = int32((i*7 + i/length*13) % 120)
	}
	states, err := m.Forward(context.Background(), ids, length)
	if err != nil {
		t.Fatal(err)
	}
	per := length * 48
	for _, b := range []int{0, 1, chunk - 1, chunk, chunk + 1, 2*chunk - 1, 2 * chunk} {
		alone, err := m.Forward(context.Background(), ids[b*length:(b+1)*length], length)
		if err != nil {
			t.Fatal(err)
		}
		if d := difference(alone.Floats(), states.Floats()[b*per:(b+1)*per]); d > 1e-5 {
			t.Errorf("prompt %d of %d differs by %g from itself alone", b, batch, d)
		}
	}
}

// TestWholeModel: a T5 with its decoder gives the same encoder.
func TestWholeModel(t *testing.T) {
	src, err := safetensors.OpenDir(folder, "model")
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	var list []safetensors.Tensor
	for _, name := range src.Names() {
		info, _ := src.Info(name)
		raw, err := src.Bytes(name)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, safetensors.Raw(name, info.DType, info.Shape, raw))
	}
	for _, name := range []string{"decoder.embed_tokens.weight", "decoder.block.0.layer.1.EncDecAttention.q.weight",
		"decoder.final_layer_norm.weight", "lm_head.weight"} {
		list = append(list, safetensors.Float32s(name, safetensors.F32, []int{1}, []float32{1}))
	}
	dir := t.TempDir()
	if err := safetensors.WriteFile(filepath.Join(dir, "t5xxl.safetensors"), list, nil); err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(filepath.Join(folder, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), config, 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := Open(dir, reference.New(), weights.AsStored)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	ids := []int32{5, 6, 7, 1, 0}
	want, err := tinyT5(t).Forward(context.Background(), ids, len(ids))
	if err != nil {
		t.Fatal(err)
	}
	got, err := m.Forward(context.Background(), ids, len(ids))
	if err != nil {
		t.Fatal(err)
	}
	if d := difference(got.Floats(), want.Floats()); d != 0 {
		t.Errorf("states differ by %g", d)
	}
}

func TestBadIDs(t *testing.T) {
	m := tinyT5(t)
	for name, c := range map[string]struct {
		ids    []int32
		length int
		says   string
	}{
		"none":    {nil, 4, "0 token ids"},
		"ragged":  {[]int32{1, 2, 3}, 2, "3 token ids in rows of 2"},
		"foreign": {[]int32{1, 128}, 2, "128 entries"},
		"below":   {[]int32{-1}, 1, "token id -1"},
	} {
		if _, err := m.Forward(context.Background(), c.ids, c.length); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := m.Forward(ctx, []int32{1}, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestConfigs(t *testing.T) {
	good := func() Config {
		c := libraryDefaults()
		c.FeedForwards = "gated-gelu"
		return c
	}
	if err := good().Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Config){
		"relu":    func(c *Config) { c.FeedForwards = "relu" },
		"heads":   func(c *Config) { c.Heads = 0 },
		"buckets": func(c *Config) { c.Buckets = 30 },
		"far":     func(c *Config) { c.MaxDistance = 8 },
		"eps":     func(c *Config) { c.Eps = 0 },
	} {
		c := good()
		if change(&c); c.Validate() == nil {
			t.Errorf("%s: a wrong config is accepted", name)
		}
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	config, err := os.ReadFile(filepath.Join(folder, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	copyTo := func(text string, shards ...string) string {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, name := range append(shards, "model.safetensors.index.json") {
			data, err := os.ReadFile(filepath.Join(folder, name))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	one, two, three, four := "model-00001-of-00004.safetensors", "model-00002-of-00004.safetensors", "model-00003-of-00004.safetensors", "model-00004-of-00004.safetensors"
	for name, c := range map[string]struct{ dir, says string }{
		"empty":         {t.TempDir(), "config.json"},
		"shard absent":  {copyTo(string(config), one, two, four), three},
		"another layer": {copyTo(strings.Replace(string(config), `"num_layers": 2`, `"num_layers": 3`, 1), one, two, three, four), "9 tensors are missing: encoder.block.2."},
		"fewer layers":  {copyTo(strings.Replace(string(config), `"num_layers": 2`, `"num_layers": 1`, 1), one, two, three, four), "do not belong to the model: encoder.block.1."},
	} {
		if _, err := Open(c.dir, reference.New(), weights.AsStored); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want mention of %q", name, err, c.says)
		}
	}
}

func TestStorage(t *testing.T) {
	m, err := Open(folder, reference.New(), weights.Float32)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if tinyT5(t).blocks[0].q.DType() != engine.BFloat16 || m.blocks[0].q.DType() != engine.Float32 {
		t.Error("storage is not passed on")
	}
}
