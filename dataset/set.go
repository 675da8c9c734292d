package dataset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/parquet-go/parquet-go"
)

// preloadLimit is the size of a split, in bytes of its files, up to which Open reads all rows into memory.
const preloadLimit = 64 << 20

// Set is one split, read from its shards in name order. It is safe for concurrent use.
type Set struct {
	Dir, Split string
	shards     []*shard
	rows       []Row // all rows, when the split is small
	count      int
}

// shard is one file.
type shard struct {
	name  string
	file  *os.File
	pq    *parquet.File
	cols  []column
	first int // index of its first row in the split
}

// Open opens the shards SPLIT-*-of-*.parquet in dir, or in dir/data. It checks that every shard is there and has the
// columns of the schema. A small split is read whole; of a large one, rows are read when they are asked for.
func Open(dir, split string) (*Set, error) {
	s, err := open(dir, split)
	if err != nil {
		return nil, err
	}
	size := int64(0)
	for _, sh := range s.shards {
		size += sh.pq.Size()
	}
	if size > preloadLimit {
		return s, nil
	}
	defer func() { _ = s.Close() }()
	rows := make([]Row, 0, s.count)
	for r, err := range s.All(context.Background()) {
		if err != nil {
			return nil, err
		}
		rows = append(rows, r)
	}
	s.rows = rows
	return s, nil
}

func open(dir, split string) (*Set, error) {
	dir, names, err := shardNames(dir, split)
	if err != nil {
		return nil, err
	}
	s := &Set{Dir: dir, Split: split}
	for _, name := range names {
		sh, err := openShard(filepath.Join(dir, name))
		if err != nil {
			_ = s.Close()
			return nil, err
		}
		sh.first = s.count
		s.shards = append(s.shards, sh)
		s.count += int(sh.pq.NumRows())
	}
	if s.count == 0 {
		_ = s.Close()
		return nil, fmt.Errorf("open dataset %s split %s: no rows; choose another split or write the files again", dir, split)
	}
	return s, nil
}

// shardName is PREFIX-00000-of-00002.parquet, with an optional hash after the total.
var shardName = regexp.MustCompile(`^(.+)-(\d+)-of-(\d+)(-[0-9a-f]+)?\.parquet$`)

// shardNames finds the folder and the files of a split and checks that none is missing.
func shardNames(dir, split string) (string, []string, error) {
	for _, d := range []string{dir, filepath.Join(dir, "data")} {
		entries, err := os.ReadDir(d)
		if err != nil {
			if d == dir {
				return "", nil, fmt.Errorf("open dataset: %w; give the folder that holds %s-00000-of-0000N.parquet", err, split)
			}
			continue
		}
		var names []string
		totals := map[string]bool{}
		for _, e := range entries {
			if m := shardName.FindStringSubmatch(e.Name()); m != nil && m[1] == split {
				names = append(names, e.Name())
				totals[m[3]] = true
			}
		}
		if len(names) == 0 {
			continue
		}
		slices.Sort(names)
		return d, names, complete(d, split, names, totals)
	}
	found, err := Splits(dir)
	if err != nil || len(found) == 0 {
		return "", nil, fmt.Errorf("open dataset %s: no files %s-*-of-*.parquet there", dir, split)
	}
	return "", nil, fmt.Errorf("open dataset %s: no split %q; there are %s", dir, split, strings.Join(found, ", "))
}

func complete(dir, split string, names []string, totals map[string]bool) error {
	m := shardName.FindStringSubmatch(names[0])
	want, err := strconv.Atoi(m[3])
	if err != nil || len(totals) > 1 || want != len(names) {
		return fmt.Errorf("open dataset %s: %d files of split %s, their names speak of %s; remove leftovers of another export or fetch what is missing",
			dir, len(names), split, m[3])
	}
	for i, name := range names {
		if n, err := strconv.Atoi(shardName.FindStringSubmatch(name)[2]); err != nil || n != i {
			return fmt.Errorf("open dataset %s: %s stands where number %d of split %s should be; remove leftovers of another export or fetch what is missing",
				dir, name, i, split)
		}
	}
	return nil
}

// Splits lists the splits that have files in dir or dir/data, sorted.
func Splits(dir string) ([]string, error) {
	seen := map[string]bool{}
	for _, d := range []string{dir, filepath.Join(dir, "data")} {
		entries, err := os.ReadDir(d)
		if err != nil && d == dir {
			return nil, fmt.Errorf("list dataset: %w", err)
		}
		for _, e := range entries {
			if m := shardName.FindStringSubmatch(e.Name()); m != nil {
				seen[m[1]] = true
			}
		}
	}
	out := make([]string, 0, len(seen))
	for s := range seen {
		out = append(out, s)
	}
	slices.Sort(out)
	return out, nil
}

func openShard(path string) (*shard, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open dataset: %w", err)
	}
	info, err := f.Stat()
	if err == nil {
		var sh *shard
		if sh, err = parse(f, info.Size()); err == nil {
			sh.name, sh.file = path, f
			return sh, nil
		}
	}
	_ = f.Close()
	return nil, fmt.Errorf("open dataset %s: %w", path, err)
}

// parse reads the footer of a parquet file. Damage of any kind is an error, never a panic.
func parse(r io.ReaderAt, size int64) (sh *shard, err error) {
	defer guard(&err)
	if err := checkEnds(r, size); err != nil {
		return nil, err
	}
	pq, err := parquet.OpenFile(r, size, parquet.SkipBloomFilters(true))
	if err != nil {
		return nil, fmt.Errorf("parquet footer: %w; the file is damaged, fetch or write it again", err)
	}
	sh = &shard{pq: pq, cols: columnsOf(pq.Root())}
	total := int64(0)
	for _, g := range pq.RowGroups() {
		if g.NumRows() < 0 {
			return nil, errors.New("a row group with a negative number of rows; the file is damaged")
		}
		total += g.NumRows()
	}
	if total != pq.NumRows() {
		return nil, fmt.Errorf("row groups hold %d rows, the footer says %d; the file is damaged", total, pq.NumRows())
	}
	return sh, checkColumns(sh.cols)
}

// checkEnds looks at the marks at both ends and at the footer's length before the footer is trusted.
func checkEnds(r io.ReaderAt, size int64) error {
	var head [4]byte
	var tail [8]byte
	if size < 12 {
		return fmt.Errorf("%d bytes are too few for a parquet file", size)
	}
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return err
	}
	if _, err := r.ReadAt(tail[:], size-8); err != nil {
		return err
	}
	if string(tail[4:]) == "PARE" {
		return errors.New("the file is encrypted; write it without encryption")
	}
	if string(head[:]) != "PAR1" || string(tail[4:]) != "PAR1" {
		return errors.New("not a whole parquet file (PAR1 is missing); fetch or write it again")
	}
	n := int64(tail[0]) | int64(tail[1])<<8 | int64(tail[2])<<16 | int64(tail[3])<<24
	if n > size-12 {
		return fmt.Errorf("a footer of %d bytes in a file of %d; the file is damaged", n, size)
	}
	return nil
}

// guard turns a panic of the parquet library on damaged input into an error.
func guard(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("parquet data is damaged: %v", p)
	}
}

// Len is the number of rows.
func (s *Set) Len() int { return s.count }

// Row reads row i. Rows of a small split are shared: do not write into them.
func (s *Set) Row(i int) (Row, error) {
	if i < 0 || i >= s.count {
		return Row{}, fmt.Errorf("dataset %s split %s: row %d of %d", s.Dir, s.Split, i, s.count)
	}
	if s.rows != nil {
		return s.rows[i], nil
	}
	at := s.shardOf(i)
	for r, err := range at.from(s.Dir, i-at.first) {
		return s.finish(r, err, i)
	}
	return Row{}, fmt.Errorf("dataset %s: row %d is missing; the file is damaged", at.name, i)
}

func (s *Set) finish(r Row, err error, i int) (Row, error) {
	r.Index = i
	if err != nil {
		err = fmt.Errorf("%s: %w", s.where(i), err)
	}
	return r, err
}

// where names row i, and of a split of several files also the one it is in, for messages.
func (s *Set) where(i int) string {
	text := fmt.Sprintf("dataset %s split %s row %d", s.Dir, s.Split, i)
	if len(s.shards) > 1 {
		at := s.shardOf(i)
		text += fmt.Sprintf(" (row %d of %s)", i-at.first, filepath.Base(at.name))
	}
	return text
}

// shardOf is the file that holds row i.
func (s *Set) shardOf(i int) *shard {
	at := len(s.shards) - 1
	for at > 0 && s.shards[at].first > i {
		at--
	}
	return s.shards[at]
}

// All streams the rows in order; it stops at the first error.
func (s *Set) All(ctx context.Context) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for i, r := range s.rows {
			if err := ctx.Err(); !yield(r, err) || err != nil || i == s.count-1 {
				return
			}
		}
		i := 0
		for _, sh := range s.shards {
			for r, err := range sh.from(s.Dir, 0) {
				if err == nil {
					err = ctx.Err()
				}
				r, err = s.finish(r, err, i)
				if !yield(r, err) || err != nil {
					return
				}
				i++
			}
		}
		if i != s.count {
			yield(s.finish(Row{}, fmt.Errorf("the files end after %d of %d rows; they are damaged", i, s.count), i))
		}
	}
}

// Close closes the files. Rows of a split that was read whole stay readable.
func (s *Set) Close() error {
	var errs []error
	for _, sh := range s.shards {
		if sh.file != nil {
			errs = append(errs, sh.file.Close())
			sh.file = nil
		}
	}
	return errors.Join(errs...)
}

// RowGroups gives the rows of every row group, a list a shard.
func (s *Set) RowGroups() [][]int {
	var out [][]int
	for _, sh := range s.shards {
		groups := []int{}
		for _, g := range sh.pq.RowGroups() {
			groups = append(groups, int(g.NumRows()))
		}
		out = append(out, groups)
	}
	return out
}

// Has says whether every shard has the column.
func (s *Set) Has(name string) bool {
	for _, sh := range s.shards {
		if !slices.ContainsFunc(sh.cols, func(c column) bool { return c.name == name }) {
			return false
		}
	}
	return true
}

// from streams the rows of a shard from row i on.
func (sh *shard) from(dir string, i int) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for _, g := range sh.pq.RowGroups() {
			if n := int(g.NumRows()); i >= n {
				i -= n
				continue
			}
			if !sh.group(g, dir, i, yield) {
				return
			}
			i = 0
		}
	}
}

// group streams one row group; false ends the iteration.
func (sh *shard) group(g parquet.RowGroup, dir string, skip int, yield func(Row, error) bool) bool {
	rows := &groupRows{cols: sh.cols, dir: dir, left: int(g.NumRows()) - skip}
	if err := rows.open(g, skip); err != nil {
		yield(Row{}, err)
		return false
	}
	defer rows.close()
	for rows.left > 0 {
		r, err := rows.next()
		if !yield(r, err) || err != nil {
			return false
		}
	}
	return true
}

// groupRows reads a row group one row at a time.
type groupRows struct {
	cols []column
	dir  string
	rows parquet.Rows
	left int
	buf  [1]parquet.Row
}

func (r *groupRows) open(g parquet.RowGroup, skip int) (err error) {
	defer guard(&err)
	r.rows = g.Rows()
	return r.rows.SeekToRow(int64(skip))
}

func (r *groupRows) next() (row Row, err error) {
	defer guard(&err)
	n, err := r.rows.ReadRows(r.buf[:])
	if n == 0 {
		if err == nil || errors.Is(err, io.EOF) {
			err = fmt.Errorf("a row group ends %d rows early", r.left)
		}
		return Row{}, fmt.Errorf("parquet page: %w; the file is damaged, fetch or write it again", err)
	}
	r.left--
	return assemble(r.cols, r.buf[0], r.dir)
}

func (r *groupRows) close() {
	var err error
	defer guard(&err)
	_ = r.rows.Close()
}
