package pages

import (
	"errors"
	"io"
)

// errFar is a copy of bytes from further back than the window keeps.
var errFar = errors.New("a copy reaches further back than the decoder keeps")

// window is what a block decoder has written: bytes to be read and the history that copies are taken from. Decoders of
// whole blocks would need the block in memory; with a window a page of any size is read as a stream.
type window struct {
	buf     []byte // history, then buf[r:] that nobody has read yet
	r       int
	history int
	decode  func() error // writes something, or gives an error; io.EOF at the end of the data
	err     error
}

// step is the most that decoders write at once.
const step = 64 << 10

// Read implements io.Reader.
func (w *window) Read(p []byte) (int, error) {
	for w.r == len(w.buf) {
		if w.err != nil {
			return 0, w.err
		}
		w.slide()
		w.err = w.decode()
	}
	n := copy(p, w.buf[w.r:])
	w.r += n
	return n, nil
}

// slide forgets what is older than the history, once that is as much again.
func (w *window) slide() {
	if len(w.buf) < 2*w.history+step {
		return
	}
	kept := copy(w.buf, w.buf[len(w.buf)-w.history:])
	w.buf, w.r = w.buf[:kept], kept
}

// literal writes n bytes from the input.
func (w *window) literal(in io.Reader, n int) error {
	at := len(w.buf)
	w.buf = append(w.buf, make([]byte, n)...)
	if _, err := io.ReadFull(in, w.buf[at:]); err != nil {
		w.buf = w.buf[:at]
		return cut(err)
	}
	return nil
}

// copyBack writes n bytes again from offset bytes before the end; the two may overlap.
func (w *window) copyBack(offset, n int) error {
	if offset <= 0 {
		return errors.New("a copy from nowhere")
	}
	if offset > len(w.buf) {
		return errFar
	}
	for range n {
		w.buf = append(w.buf, w.buf[len(w.buf)-offset])
	}
	return nil
}

// cut makes the end of the input in the middle of something an error of its own.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
