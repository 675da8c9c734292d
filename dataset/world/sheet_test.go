package world

import (
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"testing"
)

// TestContactSheet draws every subject right and superficial for a person to look at, when SCIFLUX_WORLD_SHEET names a folder.
func TestContactSheet(t *testing.T) {
	dir := os.Getenv("SCIFLUX_WORLD_SHEET")
	if dir == "" {
		t.Skip("set SCIFLUX_WORLD_SHEET to a folder to draw the contact sheets")
	}
	const side, scale = 64, 2
	for part := range 4 {
		im := image.NewRGBA(image.Rect(0, 0, 20*side, 4*side))
		for i := range 4 {
			k := tasks[part*4+i]
			for j, s := range k.subjects {
				u := Tuple{Task: k.abbr, Subject: s.name, Scene: scenes[(j*7+i*3+part)%len(scenes)].name, Pose: uint64(j + 1)}
				paste(im, u.Draw(true, side), 2*j*side, i*side)
				paste(im, u.Draw(false, side), (2*j+1)*side, i*side)
			}
		}
		save(t, filepath.Join(dir, "sheet"+string(rune('0'+part))+".png"), im)
	}
	im := image.NewRGBA(image.Rect(0, 0, 9*side*scale, 2*side*scale))
	for i, s := range scenes {
		p := Tuple{Task: "RI", Subject: "apple", Scene: s.name}.Draw(true, side*scale)
		paste(im, p, i%9*side*scale, i/9*side*scale)
	}
	save(t, filepath.Join(dir, "scenes.png"), im)
}

func paste(im *image.RGBA, p Picture, x, y int) {
	for j := range p.Side {
		for i := range p.Side {
			q := p.Pix[(j*p.Side+i)*3:]
			im.Set(x+i, y+j, color.RGBA{q[0], q[1], q[2], 255})
		}
	}
}

func save(t *testing.T, path string, im image.Image) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := png.Encode(f, im); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
