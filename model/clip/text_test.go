package clip

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/engine/reference"
	"github.com/sciflux/sciflux/model/weights"
)

const textFolder = "../../testdata/golden/clip_text_legacy_eos/model" // 3 layers, width 32, 120 ids, 24 positions

func tinyText(t *testing.T) *Text {
	t.Helper()
	m, err := OpenText(textFolder, reference.New(), weights.AsStored)
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

func difference(a, b []float32) float64 {
	var most float64
	for i := range a {
		most = max(most, math.Abs(float64(a[i]-b[i])))
	}
	return most
}

func TestEndOfText(t *testing.T) {
	for name, c := range map[string]struct {
		eos  int32
		row  []int32
		want int
	}{
		"old config: first of the largest":  {2, []int32{8, 3, 9, 9, 9}, 2},
		"old config: id 2 is nothing":       {2, []int32{8, 2, 9, 9}, 2},
		"old config: largest at the start":  {2, []int32{9, 2, 8}, 0},
		"own id":                            {5, []int32{8, 3, 5, 9, 5}, 2},
		"own id absent":                     {7, []int32{8, 3, 5, 9}, 0},
		"own id at the start":               {8, []int32{8, 3, 8}, 0},
		"own id although larger ones stand": {5, []int32{9, 9, 5}, 2},
	} {
		if got := (TextConfig{EOS: c.eos}).end(c.row); got != c.want {
			t.Errorf("%s: place %d of %v, want %d", name, got, c.row, c.want)
		}
	}
}

func TestPadsAfterTheEndDoNotMatter(t *testing.T) {
	m := tinyText(t)
	ctx := context.Background()
	_, short, err := m.Forward(ctx, []int32{118, 5, 9, 119}, 4)
	if err != nil {
		t.Fatal(err)
	}
	hidden, long, err := m.Forward(ctx, []int32{118, 5, 9, 119, 119, 3, 119, 0}, 8)
	if err != nil {
		t.Fatal(err)
	}
	if d := difference(short.Floats(), long.Floats()); d > 1e-5 {
		t.Errorf("four more tokens move the pooled state by %g", d)
	}
	if d := difference(long.Floats(), hidden.Floats()[3*32:4*32]); d != 0 {
		t.Error("the pooled state is not the one at the end of text")
	}
	_, other, err := m.Forward(ctx, []int32{118, 6, 9, 119}, 4)
	if err != nil {
		t.Fatal(err)
	}
	if d := difference(short.Floats(), other.Floats()); d < 1e-3 {
		t.Errorf("another word moves the pooled state by %g only", d)
	}
}

func TestTextRowsAreIndependentInChunks(t *testing.T) {
	m := tinyText(t)
	const length = 24
	batch := weights.Chunk(length) + 2
	ids := make([]int32, batch*length)
	for i := range ids {
		ids[i] = int32(i*i) % 119
	}
	ctx := context.Background()
	_, all, err := m.Forward(ctx, ids, length)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []int{0, batch - 3, batch - 1} {
		_, one, err := m.Forward(ctx, ids[b*length:(b+1)*length], length)
		if err != nil {
			t.Fatal(err)
		}
		if d := difference(one.Floats(), all.Floats()[b*32:(b+1)*32]); d > 1e-5 {
			t.Errorf("row %d moves by %g beside others", b, d)
		}
	}
}

func TestBadText(t *testing.T) {
	m := tinyText(t)
	for name, c := range map[string]struct {
		ids    []int32
		length int
		says   string
	}{
		"none":     {nil, 4, "0 token ids"},
		"too long": {make([]int32, 25), 25, "24 positions"},
		"foreign":  {[]int32{120}, 1, "token id 120"},
	} {
		if _, _, err := m.Forward(context.Background(), c.ids, c.length); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := m.Forward(ctx, []int32{1}, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := OpenText(t.TempDir(), reference.New(), weights.AsStored); err == nil || !strings.Contains(err.Error(), "config.json") {
		t.Errorf("empty folder: %v", err)
	}
}
