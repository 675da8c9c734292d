package enginetest

import "github.com/sciflux/sciflux/engine"

// memories checks the books: what is freed is free, and nothing is lost.
func memories(b *bench) {
	before, _ := b.e.Memory()
	b.e.ResetPeak()
	t := b.e.Alloc(3, 1000)
	if live, _ := b.e.Memory(); live < before+12000 {
		b.t.Errorf("live bytes %d after 12000 more than %d", live, before)
	}
	b.e.Free(t)
	b.e.Free(t) // a second time does nothing
	if live, peak := b.e.Memory(); live != before || peak < before+12000 {
		b.t.Errorf("live %d, want %d; peak %d", live, before, peak)
	}
	data := []float32{1, 2, 3}
	w := engine.Wrap(data, 3)
	b.e.Free(w)
	if w.Floats()[2] != 3 {
		b.t.Error("free touched a wrapped slice")
	}
}
