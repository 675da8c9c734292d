package pages

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// split gives the definition levels of a data page and its values.
func (c *chunk) split(p *page, data []byte) (definition, values []byte, err error) {
	r := bytes.NewReader(data[p.levelBytes():])
	_, definition, err = c.levelsOf(p, r)
	return definition, data[len(data)-r.Len():], err
}

// plainDictionary is the name that old writers give to dictionary encoding; the format's later versions deprecate it.
const plainDictionary format.Encoding = 2

// checkValues wants the encoded values of a page to be n.
func (c *chunk) checkValues(p *page, values []byte, n, dictionary int) error {
	switch p.encoding() {
	case format.Plain:
		return c.checkPlain(values, n)
	case format.RLEDictionary, plainDictionary:
		if p.Type == format.DictionaryPage {
			return c.checkPlain(values, n)
		}
		_, err := indicesBelow(values, n, dictionary)
		return err
	case format.DeltaBinaryPacked, format.DeltaLengthByteArray, format.DeltaByteArray:
		return checkDelta(values, n)
	}
	return nil
}

// checkPlain counts values that stand one behind the other.
func (c *chunk) checkPlain(b []byte, n int) error {
	size := map[parquet.Kind]int{parquet.Int32: 4, parquet.Float: 4, parquet.Int64: 8, parquet.Double: 8, parquet.Int96: 12,
		parquet.FixedLenByteArray: c.column.Type().Length()}
	kind := c.column.Type().Kind()
	if kind != parquet.ByteArray {
		if len(b) < n*size[kind] {
			return fmt.Errorf("%d bytes for %d values of %d bytes", len(b), n, size[kind])
		}
		return nil
	}
	for i := range n {
		if len(b) < 4 || uint64(binary.LittleEndian.Uint32(b)) > uint64(len(b)-4) {
			return fmt.Errorf("value %d of %d is cut off", i, n)
		}
		b = b[4+binary.LittleEndian.Uint32(b):]
	}
	if len(b) > 0 {
		return fmt.Errorf("%d bytes behind the last of %d values", len(b), n)
	}
	return nil
}

// indicesBelow decodes n indices into a dictionary.
func indicesBelow(b []byte, n, dictionary int) ([]int32, error) {
	indices, err := decodeIndices(b, n)
	for _, i := range indices {
		if i < 0 || int(i) >= dictionary {
			return nil, fmt.Errorf("value %d of a dictionary of %d", i, dictionary)
		}
	}
	return indices, err
}

// checkDelta reads the header of delta-encoded integers (Encodings.md, DELTA_BINARY_PACKED): values of a block, miniblocks,
// values in all.
func checkDelta(b []byte, n int) error {
	r := bytes.NewReader(b)
	var head [3]uint64
	for i := range head {
		var err error
		if head[i], err = binary.ReadUvarint(r); err != nil {
			if n == 0 && errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("a delta header is cut off: %w", err)
		}
	}
	if head[0] > maxValues || head[1] > head[0] || head[2] != uint64(n) {
		return fmt.Errorf("delta-encoded values: %d in blocks of %d, %d were announced", head[2], head[0], n)
	}
	return nil
}
