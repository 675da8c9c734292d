package data

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sciflux/sciflux/dataset/world"
)

// The drawing that the tiny models inside the binary were trained on. A change of the drawing code is a new version.
const (
	worldSeed    = 1
	worldVersion = 1
)

// worldName names the drawn world: the same name, the same pictures.
func worldName(side int) string { return fmt.Sprintf("world-%d-%d", worldVersion, side) }

// drawWorld is the folder of the world's parquet files, drawn once for each picture side into a folder of dir.
func drawWorld(ctx context.Context, dir string, side int) (string, error) {
	final := filepath.Join(dir, "data", worldName(side))
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
			return final, nil // another process was faster
		}
		return "", fmt.Errorf("draw the world: %w", err)
	}
	return final, nil
}
