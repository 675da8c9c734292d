package pages

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/parquet-go/parquet-go/encoding/rle"
	"github.com/parquet-go/parquet-go/format"
)

// countRuns counts the values of a run-length and bit-packed hybrid (parquet's Encodings.md, RLE = 3) by its headers, so
// that a few bytes that promise a billion values are refused before the library makes room for them.
func countRuns(b []byte, width int) (total int64, err error) {
	for len(b) > 0 {
		header, n := binary.Uvarint(b)
		if n <= 0 || header>>1 > maxValues {
			return 0, errors.New("a run of values is damaged")
		}
		count, size := int64(header>>1), int64(width+7)/8
		if header&1 == 1 {
			count, size = count*8, count*int64(width)
		}
		b = b[n:]
		if size > int64(len(b)) {
			return 0, errors.New("a run of values is cut off")
		}
		if total += count; total > 2*maxValues {
			return 0, errors.New("runs of more values than a page may have")
		}
		b = b[size:]
	}
	return total, nil
}

// checkRuns wants n values at least; more fill the last groups of bit-packed ones.
func checkRuns(b []byte, width, n int) error {
	got, err := countRuns(b, width)
	if err == nil && (got < int64(n) || got > int64(n)+511) {
		err = fmt.Errorf("runs of %d values in a page of %d", got, n)
	}
	return err
}

func decodeLevels(b []byte, most, n int, encoding format.Encoding) ([]byte, error) {
	if encoding != format.RLE {
		return nil, fmt.Errorf("levels in encoding %s are not read; write the file with a newer writer", encoding)
	}
	width := bits.Len8(uint8(most))
	if err := checkRuns(b, width, n); err != nil {
		return nil, err
	}
	levels, err := (&rle.Encoding{BitWidth: width}).DecodeLevels(make([]byte, 0, n+8), b)
	if err != nil {
		return nil, err
	}
	for _, v := range levels[:n] {
		if int(v) > most {
			return nil, fmt.Errorf("a level of %d where %d is the highest", v, most)
		}
	}
	return levels[:n], nil
}

// decodeIndices decodes the n dictionary indices of a page's values: a byte with their width, then runs.
func decodeIndices(b []byte, n int) ([]int32, error) {
	if len(b) == 0 {
		if n == 0 {
			return nil, nil
		}
		return nil, errors.New("dictionary indices are missing")
	}
	if b[0] > 32 {
		return nil, fmt.Errorf("dictionary indices of %d bits", b[0])
	}
	if err := checkRuns(b[1:], int(b[0]), n); err != nil {
		return nil, err
	}
	out, err := (&rle.Encoding{BitWidth: int(b[0])}).DecodeInt32(make([]int32, 0, n+8), b[1:])
	if err == nil && len(out) < n {
		err = fmt.Errorf("%d dictionary indices for %d values", len(out), n)
	}
	if err != nil {
		return nil, err
	}
	return out[:n], nil
}
