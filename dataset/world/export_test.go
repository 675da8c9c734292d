package world

import (
	"context"
	"os"
	"strconv"
	"testing"
)

// TestExportTo writes the whole world to the folder SCIFLUX_WORLD_OUT (with SCIFLUX_WORLD_PRETRAIN pictures of pretrain).
func TestExportTo(t *testing.T) {
	dir := os.Getenv("SCIFLUX_WORLD_OUT")
	if dir == "" {
		t.Skip("set SCIFLUX_WORLD_OUT to a folder to export the world")
	}
	n, _ := strconv.Atoi(os.Getenv("SCIFLUX_WORLD_PRETRAIN"))
	err := Export(context.Background(), dir, ExportOptions{Seed: 1, Pretrain: n, Progress: func(s string, done, total int) { t.Log(s, done, total) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Log("words", len(Vocabulary()))
}

func BenchmarkDraw(b *testing.B) {
	ts := Tuples(Pretrain, 1, 512)
	for i := 0; b.Loop(); i++ {
		ts[i%len(ts)].Draw(i%2 == 0, 64)
	}
}
func BenchmarkBox(b *testing.B) {
	ts := Tuples(Pretrain, 1, 512)
	for i := 0; b.Loop(); i++ {
		ts[i%len(ts)].Box()
	}
}
