package dataset

import (
	"context"
	"runtime"

	"github.com/sciflux/sciflux/picture"
)

// look is what was seen of one picture.
type look struct {
	image *Image
	bytes int // of the encoded picture
	info  picture.Info
	err   error
}

// examine looks at the pictures that pick chooses of each row, at their heads or decoding them whole, and calls each with the
// rows in order. One goroutine reads, so that pages of pictures are read forward; all cores decode.
func examine(ctx context.Context, all []Row, heads bool, pick func(Row) []*Image, each func(Row, []look) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	workers := runtime.GOMAXPROCS(0)
	slots := make(chan struct{}, workers)
	rows := make(chan chan []look, workers)
	go func() {
		defer close(rows)
		for _, r := range all {
			looks, data := readAll(ctx, pick(r))
			done := make(chan []look, 1)
			select {
			case rows <- done:
			case <-ctx.Done():
				return
			}
			slots <- struct{}{}
			go func() {
				for i := range looks {
					looks[i].see(data[i], heads)
				}
				done <- looks
				<-slots
			}()
		}
	}()
	for _, r := range all {
		done, ok := <-rows
		if err := ctx.Err(); err != nil || !ok {
			return err
		}
		if err := each(r, <-done); err != nil {
			return err
		}
	}
	return nil
}

// readAll reads the encoded pictures.
func readAll(ctx context.Context, images []*Image) ([]look, [][]byte) {
	looks, data := make([]look, len(images)), make([][]byte, len(images))
	for i, im := range images {
		looks[i].image = im
		data[i], looks[i].err = im.Data(ctx)
		looks[i].bytes = len(data[i])
	}
	return looks, data
}

func (l *look) see(data []byte, heads bool) {
	if l.err != nil {
		return
	}
	if l.info, l.err = l.image.info(data); l.err == nil && !heads {
		_, l.err = l.image.decode(data)
	}
}
