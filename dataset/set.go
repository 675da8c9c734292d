package dataset

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"sync"
)

// Set is one split: its rows without the bytes of their pictures, which Image reads when they are asked for. It is safe for
// concurrent use.
type Set struct {
	Dir, Split string
	Layout     string // parquet, webdataset or image folder
	rows       []Row
	columns    []column // of the first parquet file
	shards     []*shard
	archives   []*archive
	folder     *folder
	options    OpenOptions

	mu       sync.Mutex
	closed   bool
	identity map[int]string // by number of rows
}

// OpenOptions says how far data are trusted. The zero value is for data from anywhere.
type OpenOptions struct {
	// Outside lets paths of pictures inside the data lead out of the data folder.
	Outside bool
}

// Open opens a split with the zero options.
func Open(dir, split string) (*Set, error) {
	return OpenOptions{}.Open(context.Background(), dir, split)
}

// Open opens a split of the folder dir: parquet files, webdataset archives or a folder of pictures with captions. All rows are
// read, checked against the schema and kept, but no picture is; the files stay open until Close.
func (o OpenOptions) Open(ctx context.Context, dir, split string) (*Set, error) {
	s := &Set{Dir: dir, Split: split, options: o}
	if err := s.open(ctx); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Set) open(ctx context.Context) (err error) {
	if s.folder, err = openFolder(s.Dir, s.options.Outside); err != nil {
		return fmt.Errorf("%w; give the folder that holds the data", err)
	}
	l, err := find(s.folder, s.Split)
	if err != nil {
		return err
	}
	s.Layout = l.kind
	b := &budget{left: maxTexts}
	switch l.kind {
	case layoutParquet:
		err = s.openShards(ctx, l, b)
	case layoutTar:
		err = s.openArchives(ctx, l, b)
	default:
		if err = imageRows(ctx, s.folder, l, b, s.add); err != nil {
			err = fmt.Errorf("open dataset %s split %s: %w", s.Dir, s.Split, err)
		}
	}
	if err == nil && len(s.rows) == 0 {
		err = fmt.Errorf("open dataset %s split %s: no rows; choose another split or write the files again", s.Dir, s.Split)
	}
	return err
}

// add takes a row into the set.
func (s *Set) add(r Row) error {
	r.Index = len(s.rows)
	s.rows = append(s.rows, r)
	return nil
}

func (s *Set) openShards(ctx context.Context, l layout, b *budget) error {
	for _, name := range l.files { // all of them before the first row is read
		sh, err := openShard(s.folder, name)
		if err != nil {
			return err
		}
		s.shards = append(s.shards, sh)
	}
	s.columns = s.shards[0].cols
	for _, sh := range s.shards {
		first := len(s.rows)
		err := sh.rows(ctx, b, func(r Row) error {
			if len(s.shards) > 1 {
				r.origin = fmt.Sprintf("row %d of %s", len(s.rows)-first, filepath.Base(sh.file.path))
			}
			return s.add(r)
		})
		if err != nil {
			return fmt.Errorf("open dataset %s: row %d: %w", sh.file.path, len(s.rows)-first, err)
		}
	}
	return nil
}

func (s *Set) openArchives(ctx context.Context, l layout, b *budget) error {
	for _, name := range l.files {
		a, err := openArchive(s.folder, name)
		if err != nil {
			return err
		}
		s.archives = append(s.archives, a)
		if err := a.rows(ctx, b, s.add); err != nil {
			return err
		}
	}
	return nil
}

// Len is the number of rows.
func (s *Set) Len() int { return len(s.rows) }

// Row gives row i. Rows are shared: do not write into them.
func (s *Set) Row(i int) (Row, error) {
	if i < 0 || i >= len(s.rows) {
		return Row{}, fmt.Errorf("dataset %s split %s: row %d of %d", s.Dir, s.Split, i, len(s.rows))
	}
	return s.rows[i], nil
}

// where names row i, and of a split of several files also the place it has in one, for messages.
func (s *Set) where(i int) string {
	text := fmt.Sprintf("dataset %s split %s row %d", s.Dir, s.Split, i)
	if o := s.rows[i].origin; o != "" {
		text += fmt.Sprintf(" (%s)", o)
	}
	return text
}

// All gives the rows in order until the context ends.
func (s *Set) All(ctx context.Context) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for _, r := range s.rows {
			if err := ctx.Err(); !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// Close closes the files. Rows stay readable, their pictures do not.
func (s *Set) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	var errs []error
	for _, sh := range s.shards {
		errs = append(errs, sh.close())
	}
	for _, a := range s.archives {
		errs = append(errs, a.close())
	}
	if s.folder != nil {
		errs = append(errs, s.folder.root.Close())
	}
	return errors.Join(errs...)
}

// RowGroups gives the rows of every row group, a list a parquet file.
func (s *Set) RowGroups() [][]int {
	var out [][]int
	for _, sh := range s.shards {
		out = append(out, append([]int{}, sh.pq.Groups...))
	}
	return out
}

// Has says whether every parquet file has the column; of other data, whether every row has the text.
func (s *Set) Has(name string) bool {
	if s.Layout != layoutParquet {
		return !slices.ContainsFunc(s.rows, func(r Row) bool { return !r.Cells[name].Valid })
	}
	for _, sh := range s.shards {
		if !slices.ContainsFunc(sh.cols, func(c column) bool { return c.name == name }) {
			return false
		}
	}
	return true
}

// files lists the open data files.
func (s *Set) files() (out []*dataFile) {
	for _, sh := range s.shards {
		out = append(out, sh.file)
	}
	for _, a := range s.archives {
		out = append(out, a.file)
	}
	return out
}
