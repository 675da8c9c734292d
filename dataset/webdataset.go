package dataset

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"strings"
)

// archive is a tar file of the webdataset form: files whose names are equal up to the first dot are one sample.
type archive struct {
	file *dataFile
}

func openArchive(in *folder, name string) (*archive, error) {
	file, err := openData(filepath.Join(in.dir, name))
	if err != nil {
		return nil, err
	}
	return &archive{file}, nil
}

func (a *archive) close() error { return a.file.f.Close() }

// sample is what an archive holds under one name.
type sample struct {
	key, picture string
	at           *archivePlace
	text, json   []byte
}

// rows reads the names and captions of an archive; pictures are only found.
func (a *archive) rows(ctx context.Context, b *budget, yield func(Row) error) error {
	samples, err := readArchive(ctx, a.file.f, a.file.size, func(at, size int64) *archivePlace { return &archivePlace{a.file, at, size} })
	if err != nil {
		return fmt.Errorf("open dataset %s: %w", a.file.path, err)
	}
	for _, s := range samples {
		r, err := s.row(b)
		if err != nil {
			return fmt.Errorf("open dataset %s: sample %q: %w", a.file.path, s.key, err)
		}
		r.origin = fmt.Sprintf("sample %q of %s", s.key, filepath.Base(a.file.path))
		if err := yield(r); err != nil {
			return err
		}
	}
	return nil
}

// maxEntries bounds the files of an archive.
const maxEntries = 10_000_000

// readArchive lists the samples of a tar file in the order of their first files.
func readArchive(ctx context.Context, r io.ReaderAt, size int64, find func(at, size int64) *archivePlace) ([]*sample, error) {
	section := io.NewSectionReader(r, 0, size)
	if head, _ := bufio.NewReader(io.NewSectionReader(r, 0, size)).Peek(2); string(head) == "\x1f\x8b" {
		return nil, errors.New("the tar file is compressed with gzip; unpack it first (gunzip), pictures are read where they lie")
	}
	t := tar.NewReader(section)
	var out []*sample
	byKey := map[string]*sample{}
	for n := 0; ; n++ {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return out, ended(section)
		}
		if err == nil && n == maxEntries {
			err = fmt.Errorf("more than %d files", n)
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return nil, fmt.Errorf("tar: %w; the file may be cut off or damaged", err)
		}
		key, ext := splitKey(h.Name)
		if h.Typeflag != tar.TypeReg || key == "" {
			continue
		}
		s := byKey[key]
		if s == nil {
			s = &sample{key: key}
		}
		used, err := s.add(t, section, h, ext, find)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", h.Name, err)
		}
		if used && byKey[key] == nil {
			byKey[key] = s
			out = append(out, s)
		}
	}
}

// ended wants zeros where the reader stopped: two blocks of them end an archive. Without them it was cut off between two files,
// which the reader takes for its end; and behind them may stand another archive, which it does not see.
func ended(r *io.SectionReader) error {
	const end = 1024
	at, err := r.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	if at < end || at > r.Size() {
		return errors.New("tar: the end of the archive is missing; the file may be cut off or damaged")
	}
	rest := bufio.NewReader(io.NewSectionReader(r, at-end, r.Size()-at+end))
	for {
		b, err := rest.ReadByte()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case b != 0:
			return errors.New("tar: the archive does not end where the file does; " +
				"it may be cut off, or several archives behind one another: keep them apart")
		}
	}
}

// splitKey takes a name apart: the sample's name up to the first dot of the last part, and what the file is.
func splitKey(name string) (key, ext string) {
	dir, file := path.Split(path.Clean(name))
	stem, ext, ok := strings.Cut(file, ".")
	if !ok || stem == "" {
		return "", "" // hidden files, and files without an ending
	}
	return dir + stem, strings.ToLower(ext)
}

// add takes a file of the archive into its sample; used is false for kinds that are not read.
func (s *sample) add(t io.Reader, at io.Seeker, h *tar.Header, ext string, find func(at, size int64) *archivePlace) (used bool, err error) {
	switch {
	case isPicture(ext):
		if s.at != nil {
			return true, fmt.Errorf("the sample has the picture %q already", s.picture)
		}
		for k := range h.PAXRecords {
			if strings.HasPrefix(k, "GNU.sparse.") {
				return true, errors.New("the file is stored sparse; write the archive without")
			}
		}
		start, err := at.Seek(0, io.SeekCurrent)
		s.picture, s.at = h.Name, find(start, h.Size)
		return true, err
	case ext == "txt" && s.text == nil:
		s.text, err = readLimited(t, h.Size, maxText)
		return true, err
	case ext == "json" && s.json == nil:
		s.json, err = readLimited(t, h.Size, maxText)
		return true, err
	case ext == "txt" || ext == "json":
		return true, errors.New("the sample has such a file already")
	}
	return false, nil
}

// row makes a row of a sample: its json, and its txt as the caption where the json has none.
func (s *sample) row(b *budget) (Row, error) {
	r, err := newRow(), error(nil)
	if s.at == nil {
		return r, errors.New("it has no picture; add one or remove the sample")
	}
	if s.json != nil {
		object, err := fields(s.json)
		if err == nil {
			if s.text != nil {
				for _, key := range captionColumns {
					delete(object, key)
				}
			}
			r, err = rowOf(object, b)
		}
		if err != nil {
			return r, fmt.Errorf("json: %w", err)
		}
	}
	if s.text != nil && len(r.Implicit.Wordings()) == 0 {
		t, err := captionText("txt", s.text, b)
		if err != nil {
			return r, fmt.Errorf("txt: %w", err)
		}
		r.caption(t)
	}
	if len(r.Implicit.Wordings()) == 0 {
		return r, errors.New("it has no caption; add a txt, or a json with caption or the three prompts")
	}
	r.ExplicitImages = one(&Image{Stored: true, Path: Cell{s.picture, true}, at: s.at})
	if r.Cells["id"].Value == "" {
		r.Cells["id"] = Cell{s.key, true}
	}
	err = b.take("id", len(s.key)+len(s.picture))
	return r, errors.Join(err, b.row())
}

// archivePlace is a picture inside a tar file.
type archivePlace struct {
	file     *dataFile
	at, size int64
}

func (p *archivePlace) read(context.Context) ([]byte, error) {
	if err := p.file.check(); err != nil {
		return nil, err
	}
	if p.size > maxPicture {
		return nil, fmt.Errorf("%d bytes are more than the limit of %d", p.size, maxPicture)
	}
	return readLimited(io.NewSectionReader(p.file.f, p.at, p.size), p.size, maxPicture)
}
