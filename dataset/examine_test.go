package dataset

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// counted is a picture that counts how often it is read.
type counted struct {
	data []byte
	n    *atomic.Int64
}

func (c counted) read(context.Context) ([]byte, error) {
	c.n.Add(1)
	return c.data, nil
}

// TestExamineInOrder: rows come in order, each picture is read once, and an error or the end of the context ends the reading
// soon.
func TestExamineInOrder(t *testing.T) {
	var n atomic.Int64
	var rows []Row
	for i := range 200 {
		data := pngOf(t, 1+i%7, 3)
		if i%10 == 9 {
			data = data[:20]
		}
		rows = append(rows, Row{Index: i, ExplicitImages: one(&Image{Stored: true, at: counted{data, &n}})})
	}
	pick := func(r Row) []*Image { return r.ExplicitImages.Present() }
	next := 0
	require.NoError(t, examine(context.Background(), rows, false, pick, func(r Row, looks []look) error {
		require.Equal(t, next, r.Index)
		require.Len(t, looks, 1)
		require.Equal(t, r.Index%10 == 9, looks[0].err != nil)
		if looks[0].err == nil {
			require.Equal(t, 1+r.Index%7, looks[0].info.Width)
		}
		next++
		return nil
	}))
	require.Equal(t, 200, next)
	require.EqualValues(t, 200, n.Load())
	stop := errors.New("stop")
	require.ErrorIs(t, examine(context.Background(), rows, true, pick, func(r Row, _ []look) error {
		if r.Index == 3 {
			return stop
		}
		return nil
	}), stop)
	ctx, cancel := context.WithCancel(context.Background())
	require.ErrorIs(t, examine(ctx, rows, true, pick, func(r Row, _ []look) error {
		cancel()
		return nil
	}), context.Canceled)
	require.NoError(t, examine(context.Background(), nil, true, pick, nil))
}

// TestTraits: what becomes something else in training is counted by name.
func TestTraits(t *testing.T) {
	dir := t.TempDir()
	for i, file := range []string{"grey_16.png", "rgba.png", "rgba_16.png", "animated_lossless.webp", "gif_frames.gif", "turned_6.jpg", "xmp_attribute.png", "cmyk.jpg", "420_5x4.jpg"} {
		b, err := os.ReadFile(filepath.Join("..", "picture", "testdata", "pillow", file))
		require.NoError(t, err)
		name := fmt.Sprintf("%d%s", i, filepath.Ext(file))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.txt", i)), []byte("a caption"), 0o600))
	}
	sum, err := OpenOptions{}.Inspect(context.Background(), dir, "train")
	require.NoError(t, err)
	require.Empty(t, sum.Problems)
	require.Greater(t, sum.Bytes, int64(500))
	got := map[string]int{}
	for _, trait := range sum.Traits {
		got[trait.Value] = trait.Rows
	}
	require.Equal(t, map[string]int{TraitGrey16: 1, TraitAlpha: 2, TraitDeep: 1, TraitAnimated: 2, TraitTurned: 2, TraitInks: 1}, got)
}

// TestShapes: pictures that are too long, or too small for the training square, are refused with what to do.
func TestShapes(t *testing.T) {
	dir := folderOf(t, map[string]string{"a.txt": "x"})
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.png"), pngOf(t, 60, 64), 0o600))
	s, err := Open(dir, "train")
	require.NoError(t, err)
	defer s.Close()
	for side, ok := range map[int]bool{0: true, 64: true, 480: true, 481: false, 1024: false} {
		for _, heads := range []bool{true, false} {
			err := s.Check(context.Background(), Needs{Explicit: true, Side: side, Heads: heads})
			if ok {
				require.NoError(t, err, side)
				continue
			}
			require.ErrorContains(t, err, "60×64 pixels would be enlarged more than 8 times")
			require.ErrorContains(t, err, "a lower resolution, or remove the row")
		}
	}
}
