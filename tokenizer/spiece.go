package tokenizer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// spiece is what the fast T5 tokenizer takes from a SentencePiece model file.
type spiece struct {
	pieces       []piece
	modelType    uint64 // 1 is unigram
	unknown      int
	byteFallback bool
	charsmap     []byte // empty: no character map
}

// parseSpiece reads a ModelProto: field 1 the pieces, 2 the trainer's and 3 the normaliser's settings.
func parseSpiece(data []byte) (spiece, error) {
	s := spiece{modelType: 1}
	err := eachField(data, func(f field) error {
		switch {
		case f.number == 1 && f.wire == wireBytes:
			p, err := parsePiece(f.bytes)
			if err != nil {
				return fmt.Errorf("piece %d: %w", len(s.pieces), err)
			}
			s.pieces = append(s.pieces, p)
		case f.number == 2 && f.wire == wireBytes:
			return eachField(f.bytes, s.trainerField)
		case f.number == 3 && f.wire == wireBytes:
			return eachField(f.bytes, func(f field) error {
				if f.number == 2 && f.wire == wireBytes {
					s.charsmap = f.bytes
				}
				return nil
			})
		}
		return nil
	})
	return s, err
}

func (s *spiece) trainerField(f field) error {
	switch {
	case f.number == 3 && f.wire == wireVarint:
		s.modelType = f.value
	case f.number == 35 && f.wire == wireVarint:
		s.byteFallback = f.value != 0
	case f.number == 40 && f.wire == wireVarint:
		s.unknown = int(int32(f.value))
	}
	return nil
}

func parsePiece(data []byte) (piece, error) {
	var p piece
	err := eachField(data, func(f field) error {
		switch {
		case f.number == 1 && f.wire == wireBytes:
			p.text = string(f.bytes)
		case f.number == 2 && f.wire == wireFixed32:
			p.score = float64(math.Float32frombits(uint32(f.value)))
		}
		return nil
	})
	return p, err
}

// Wire types of the protocol buffer encoding.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// field is one field of an encoded message; value or bytes is set by its wire type.
type field struct {
	number uint64
	wire   uint64
	value  uint64
	bytes  []byte
}

var errProtobuf = errors.New("not a protocol buffer message, or cut off")

// eachField calls visit for every field of an encoded message, in order.
func eachField(data []byte, visit func(field) error) error {
	for len(data) > 0 {
		tag, n := binary.Uvarint(data)
		if n <= 0 || tag>>3 == 0 {
			return errProtobuf
		}
		data = data[n:]
		f := field{number: tag >> 3, wire: tag & 7}
		size := 0
		switch f.wire {
		case wireVarint:
			if f.value, size = binary.Uvarint(data); size <= 0 {
				return errProtobuf
			}
		case wireFixed64:
			if size = 8; len(data) >= size {
				f.value = binary.LittleEndian.Uint64(data)
			}
		case wireFixed32:
			if size = 4; len(data) >= size {
				f.value = uint64(binary.LittleEndian.Uint32(data))
			}
		case wireBytes:
			length, n := binary.Uvarint(data)
			if n <= 0 || length > uint64(len(data)-n) {
				return errProtobuf
			}
			size = n + int(length)
			f.bytes = data[n:size]
		default:
			return errProtobuf
		}
		if size > len(data) {
			return errProtobuf
		}
		if err := visit(f); err != nil {
			return err
		}
		data = data[size:]
	}
	return nil
}
