package dataset

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
)

// IdentityOptions say what the identity covers and how it is found.
type IdentityOptions struct {
	Rows     int                   // the first rows of the split; 0 takes all
	Cache    string                // folder that keeps identities of files that did not change; "" keeps none
	Progress func(done, total int) // rows
}

// identityVersion begins what is hashed. A change of the form below is a new version.
const identityVersion = "sciflux data 1\n"

// Identity is a SHA-256 of what is read of a split: the rows in order with all their texts and numbers, and the bytes of
// their pictures. It does not depend on where the files lie, how they are named, packed or compressed, so the same data
// written again are the same data; and any change of a text or a picture changes it.
//
// To know it every picture is read once. The cache saves that while no file of the data set has another size, time of change
// or inode.
func (s *Set) Identity(ctx context.Context, o IdentityOptions) (string, error) {
	rows := s.rows
	if o.Rows > 0 && o.Rows < len(rows) {
		rows = rows[:o.Rows]
	}
	s.mu.Lock()
	known, ok := s.identity[len(rows)]
	s.mu.Unlock()
	if ok {
		return known, nil
	}
	id, err := s.findIdentity(ctx, rows, o)
	if err != nil {
		return "", fmt.Errorf("identity of dataset %s split %s: %w", s.Dir, s.Split, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.identity == nil {
		s.identity = map[int]string{}
	}
	s.identity[len(rows)] = id
	return id, nil
}

func (s *Set) findIdentity(ctx context.Context, rows []Row, o IdentityOptions) (string, error) {
	cached := ""
	if o.Cache != "" {
		stamp, err := s.stamp(rows)
		if err != nil {
			return "", err
		}
		cached = filepath.Join(o.Cache, stamp+".json")
		if id := readIdentity(cached); id != "" {
			return id, nil
		}
	}
	id, err := hashRows(ctx, rows, o.Progress)
	if err == nil && cached != "" {
		_ = writeIdentity(cached, id) // what cannot be kept is computed again
	}
	return id, err
}

// hashRows hashes rows: every field with its length, so that nothing can move from one into the next.
func hashRows(ctx context.Context, rows []Row, progress func(done, total int)) (string, error) {
	h := &fieldHash{sha256.New()}
	h.text(identityVersion)
	for i, r := range rows {
		h.prompt(r.Implicit)
		h.prompt(r.Explicit)
		h.prompt(r.Superficial)
		h.columns(r)
		for _, images := range []Images{r.ExplicitImages, r.SuperficialImages} {
			if err := h.images(ctx, images); err != nil {
				return "", fmt.Errorf("row %d: %w", i, err)
			}
		}
		if progress != nil {
			progress(i+1, len(rows))
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// fieldHash writes fields that cannot be mistaken for one another.
type fieldHash struct{ hash.Hash }

func (h *fieldHash) number(n int64) {
	_, _ = h.Write(binary.LittleEndian.AppendUint64(nil, uint64(n)))
}

func (h *fieldHash) text(s string) {
	h.number(int64(len(s)))
	_, _ = h.Write([]byte(s))
}

func (h *fieldHash) cell(c Cell) {
	if !c.Valid {
		h.number(-1)
		return
	}
	h.text(c.Value)
}

// prompt hashes the wordings: whether one stands in a list or alone changes nothing.
func (h *fieldHash) prompt(t Text) {
	words := t.Wordings()
	h.number(int64(len(words)))
	for _, w := range words {
		h.text(w)
	}
}

func (h *fieldHash) columns(r Row) {
	h.number(int64(len(r.Cells) + len(r.Ints) + len(r.Floats)))
	for _, name := range slices.Sorted(maps.Keys(r.Cells)) {
		h.text("text " + name)
		h.cell(r.Cells[name])
	}
	for _, name := range slices.Sorted(maps.Keys(r.Ints)) {
		h.text("integer " + name)
		h.number(r.Ints[name])
	}
	for _, name := range slices.Sorted(maps.Keys(r.Floats)) {
		h.text("number " + name)
		h.number(int64(len(r.Floats[name])))
		for _, x := range r.Floats[name] {
			h.number(int64(math.Float64bits(x)))
		}
	}
}

func (h *fieldHash) images(ctx context.Context, v Images) error {
	present := v.Present()
	h.number(int64(len(present)))
	for _, im := range present {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := im.Data(ctx)
		switch {
		case errors.Is(err, fs.ErrNotExist) || im.at == nil: // a picture that is not there is a property of the data
			h.number(-1)
		case err != nil:
			return err
		default:
			sum := sha256.Sum256(b)
			_, _ = h.Write(sum[:])
		}
	}
	return nil
}

// stamp names the state of all files that rows are read from: what changes when one of them is written.
func (s *Set) stamp(rows []Row) (string, error) {
	h := &fieldHash{sha256.New()}
	h.text(identityVersion)
	h.text(s.Split)
	h.number(int64(len(rows)))
	for _, f := range s.files() {
		info, err := f.f.Stat()
		if err != nil {
			return "", withoutPath(err)
		}
		h.text(f.path)
		h.file(info)
	}
	for _, r := range rows {
		for _, im := range slices.Concat(r.ExplicitImages.Present(), r.SuperficialImages.Present()) {
			if p, ok := im.at.(*filePlace); ok {
				h.text(p.name)
				h.filePlace(p)
			}
		}
		if s.Layout == layoutFolder { // captions are files too; what they said is in the row
			h.prompt(r.Implicit)
			h.prompt(r.Explicit)
			h.prompt(r.Superficial)
			h.columns(r)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func (h *fieldHash) filePlace(p *filePlace) {
	f, info, err := p.folder.open(p.at, p.name)
	if err != nil {
		h.text(err.Error())
		return
	}
	_ = f.Close()
	h.file(info)
}

func (h *fieldHash) file(info fs.FileInfo) {
	h.number(info.Size())
	h.number(info.ModTime().UnixNano())
	inode, changed := inodeOf(info)
	h.number(inode)
	h.number(changed)
}

// identityFile is what the cache keeps.
type identityFile struct {
	Identity string `json:"identity"`
}

func readIdentity(path string) string {
	b, err := os.ReadFile(path)
	var f identityFile
	if err != nil || json.Unmarshal(b, &f) != nil || len(f.Identity) != 2*sha256.Size {
		return ""
	}
	return f.Identity
}

func writeIdentity(path, id string) error {
	b, err := json.Marshal(identityFile{id})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("%w; is the disk full or read-only?", err)
	}
	temp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = temp.Write(append(b, '\n'))
	if err = errors.Join(err, temp.Close()); err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		os.Remove(temp.Name())
	}
	return err
}
