package picture

import (
	"errors"
	"fmt"
)

// bitReader reads the entropy-coded data of one scan; FF 00 stands for FF, any other FF ends it.
type bitReader struct {
	data  []byte
	pos   int
	bits  uint32 // the next n bits, left-aligned below bit n
	n     int
	ended bool
}

// fill makes at least 25 bits ready if the data has them, zeros after its end.
func (r *bitReader) fill() {
	for r.n <= 24 {
		b := byte(0)
		switch {
		case r.ended:
		case r.pos >= len(r.data):
			r.ended = true
		case r.data[r.pos] != 0xff:
			b = r.data[r.pos]
			r.pos++
		case r.pos+1 < len(r.data) && r.data[r.pos+1] == 0:
			b = 0xff
			r.pos += 2
		default:
			r.ended = true
		}
		if r.ended {
			return
		}
		r.bits, r.n = r.bits<<8|uint32(b), r.n+8
	}
}

// peek16 gives the next 16 bits, zeros where the data has ended.
func (r *bitReader) peek16() uint32 {
	if r.n < 16 {
		r.fill()
	}
	if r.n >= 16 {
		return r.bits >> (r.n - 16) & 0xffff
	}
	return r.bits << (16 - r.n) & 0xffff
}

func (r *bitReader) skip(n int) error {
	if n > r.n {
		return errCut
	}
	r.n -= n
	return nil
}

// take reads n bits, at most 16.
func (r *bitReader) take(n int) (int32, error) {
	v := int32(r.peek16() >> (16 - n))
	return v, r.skip(n)
}

// signed reads n bits as JPEG writes signed values: a leading 0 means negative.
func (r *bitReader) signed(n int) (int32, error) {
	v, err := r.take(n)
	if n > 0 && v < 1<<(n-1) {
		v += -1<<n + 1
	}
	return v, err
}

// symbol reads one Huffman code.
func (r *bitReader) symbol(h *huffman) (byte, error) {
	next := r.peek16()
	if e := h.short[next>>8]; e != 0 {
		return byte(e >> 8), r.skip(int(e & 0xff))
	}
	for length := 9; length <= 16; length++ {
		if int32(next) < h.limit[length] {
			return h.values[int32(next>>(16-length))+h.offset[length]], r.skip(length)
		}
	}
	if r.n < 16 && r.ended {
		return 0, errCut
	}
	return 0, errors.New("a Huffman code that its table does not have")
}

// scanPart is a component in a scan with its tables.
type scanPart struct {
	*jpegPart
	dc, ac *huffman
}

// scanner decodes one scan: coefficients start…end, bits from low on; refine says that earlier scans gave higher bits.
type scanner struct {
	file       *jpegFile
	bits       bitReader
	parts      []scanPart
	start, end int
	low        int
	refine     bool
	endRun     int32 // blocks that are still at their end (EOBRUN)
	block      [64]int32
}

func (f *jpegFile) scan(body []byte) error {
	if f.scans++; f.scans > maxScans {
		return fmt.Errorf("more than %d scans", maxScans)
	}
	if err := f.allocate(); err != nil {
		return err
	}
	s, err := f.newScanner(body)
	if err != nil {
		return err
	}
	s.bits = bitReader{data: f.data, pos: f.pos}
	if err := s.run(); err != nil {
		return err
	}
	f.pos = s.bits.pos
	return nil
}

func (f *jpegFile) newScanner(body []byte) (*scanner, error) {
	if len(body) < 1 || len(body) < 4+2*int(body[0]) {
		return nil, errCut
	}
	n := int(body[0])
	tail := body[1+2*n:]
	s := &scanner{file: f, start: int(tail[0]), end: int(tail[1]), low: int(tail[2] & 15), refine: tail[2]>>4 != 0}
	if !f.progressive {
		s.start, s.end, s.low, s.refine = 0, 63, 0, false
	}
	if s.start > s.end || s.end > 63 || s.low > 13 || n < 1 || n > 4 || f.progressive && (s.start == 0 && s.end != 0 || s.start > 0 && n != 1) {
		return nil, errors.New("a scan header is damaged")
	}
	blocks := 0
	for i := range n {
		part, err := f.scanPart(body[1+2*i], body[2+2*i], s)
		if err != nil {
			return nil, err
		}
		for _, other := range s.parts {
			if other.jpegPart == part.jpegPart {
				return nil, errors.New("a scan names a component twice")
			}
		}
		blocks += part.across * part.down
		s.parts = append(s.parts, part)
	}
	if n > 1 && blocks > 10 {
		return nil, fmt.Errorf("%d blocks in an MCU, at most 10 are allowed", blocks)
	}
	return s, nil
}

func (f *jpegFile) scanPart(id, tables byte, s *scanner) (scanPart, error) {
	for _, p := range f.parts {
		if p.id != id {
			continue
		}
		part := scanPart{p, f.dc[tables>>4&3], f.ac[tables&3]}
		if p.quant == nil {
			p.quant = f.quant[p.table]
		}
		if part.dc == nil && s.start == 0 && !s.refine || part.ac == nil && s.end > 0 || p.quant == nil {
			return part, errors.New("a scan uses a table that was not given")
		}
		p.seen, p.prediction = true, 0
		return part, nil
	}
	return scanPart{}, fmt.Errorf("a scan uses component %d, which the frame does not have", id)
}

// run decodes all MCUs of the scan.
func (s *scanner) run() error {
	across, down := s.file.mcusAcross(), s.file.mcusDown()
	if len(s.parts) == 1 { // not interleaved: block by block, without those that only fill up MCUs
		across, down = s.parts[0].wide, s.parts[0].high
	}
	for mcu := range across * down {
		if s.file.interval > 0 && mcu > 0 && mcu%s.file.interval == 0 {
			if err := s.restart(); err != nil {
				return err
			}
		}
		if err := s.mcu(mcu%across, mcu/across); err != nil {
			return fmt.Errorf("MCU %d of %d: %w", mcu, across*down, err)
		}
	}
	return nil
}

// restart goes past a restart marker and forgets what earlier blocks have left.
func (s *scanner) restart() error {
	r := &s.bits
	for r.pos+1 < len(r.data) && r.data[r.pos] == 0xff && r.data[r.pos+1] == 0xff {
		r.pos++
	}
	if r.n >= 8 || r.pos+1 >= len(r.data) || r.data[r.pos] != 0xff || r.data[r.pos+1]&0xf8 != markRestart {
		return errors.New("a restart marker is missing")
	}
	s.bits = bitReader{data: r.data, pos: r.pos + 2}
	s.endRun = 0
	for _, p := range s.parts {
		p.prediction = 0
	}
	return nil
}

func (s *scanner) mcu(x, y int) error {
	if len(s.parts) == 1 {
		return s.decode(s.parts[0], x, y)
	}
	for _, p := range s.parts {
		for v := range p.down {
			for h := range p.across {
				if err := s.decode(p, x*p.across+h, y*p.down+v); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// decode reads the block of p at column x and row y.
func (s *scanner) decode(p scanPart, x, y int) error {
	at := y*p.stride + x
	if !s.file.progressive {
		s.block = [64]int32{}
		if err := s.baseline(p); err != nil {
			return err
		}
		p.inverse(&s.block, at)
		return nil
	}
	c := p.coefficients[64*at:][:64]
	switch {
	case s.start == 0 && !s.refine:
		v, err := s.difference(p)
		c[0] = int16(v << s.low)
		return err
	case s.start == 0:
		bit, err := s.bits.take(1)
		c[0] |= int16(bit << s.low)
		return err
	case !s.refine:
		return s.firstPass(p, c)
	}
	return s.refinePass(p, c)
}

// difference reads a block's first coefficient, which is stored as a step from the block before.
func (s *scanner) difference(p scanPart) (int32, error) {
	size, err := s.bits.symbol(p.dc)
	if err != nil {
		return 0, err
	}
	if size > 15 {
		return 0, errors.New("a step of more than 15 bits")
	}
	d, err := s.bits.signed(int(size))
	p.prediction += d
	return p.prediction, err
}

func (s *scanner) baseline(p scanPart) error {
	v, err := s.difference(p)
	if err != nil {
		return err
	}
	s.block[0] = int32(int16(v))
	for k := 1; k < 64; k++ {
		code, err := s.bits.symbol(p.ac)
		if err != nil {
			return err
		}
		run, size := int(code>>4), int(code&15)
		if size == 0 {
			if run < 15 {
				return nil // end of block
			}
			k += 15
			continue
		}
		if k += run; k > 63 {
			return errors.New("more than 64 coefficients in a block")
		}
		if s.block[zigzag[k]], err = s.bits.signed(size); err != nil {
			return err
		}
	}
	return nil
}

// firstPass reads the upper bits of the coefficients start…end.
func (s *scanner) firstPass(p scanPart, c []int16) error {
	if s.endRun > 0 {
		s.endRun--
		return nil
	}
	for k := s.start; k <= s.end; k++ {
		code, err := s.bits.symbol(p.ac)
		if err != nil {
			return err
		}
		run, size := int(code>>4), int(code&15)
		if size == 0 && run < 15 {
			if err := s.readEndRun(run); err != nil {
				return err
			}
			s.endRun--
			return nil
		}
		if k += run; k > 63 {
			return errors.New("more than 64 coefficients in a block")
		}
		if size > 0 {
			v, err := s.bits.signed(size)
			if err != nil {
				return err
			}
			c[zigzag[k]] = int16(v << s.low)
		}
	}
	return nil
}

// readEndRun reads how many blocks, this one included, have no more coefficients.
func (s *scanner) readEndRun(bits int) error {
	extra, err := s.bits.take(bits)
	s.endRun = 1<<bits + extra
	return err
}

// refinePass reads one more bit of the coefficients start…end.
func (s *scanner) refinePass(p scanPart, c []int16) error {
	k := s.start
	for s.endRun == 0 && k <= s.end {
		code, err := s.bits.symbol(p.ac)
		if err != nil {
			return err
		}
		run, size := int(code>>4), int(code&15)
		fresh := int16(0)
		switch {
		case size == 1:
			bit, err := s.bits.take(1)
			if err != nil {
				return err
			}
			if fresh = -1 << s.low; bit == 1 {
				fresh = 1 << s.low
			}
		case size > 1:
			return errors.New("a new coefficient of more than one bit in a refinement")
		case run < 15:
			if err := s.readEndRun(run); err != nil {
				return err
			}
			continue
		}
		if k, err = s.refineZeros(c, k, run, fresh); err != nil {
			return err
		}
	}
	if s.endRun > 0 {
		s.endRun--
		_, err := s.refineZeros(c, k, 64, 0)
		return err
	}
	return nil
}

// refineZeros goes on from k past run coefficients that are still zero, refining those that are not, and puts fresh at
// the zero after them. It returns the place after that.
func (s *scanner) refineZeros(c []int16, k, run int, fresh int16) (int, error) {
	for ; k <= s.end; k++ {
		at := &c[zigzag[k]]
		if *at == 0 {
			if run == 0 {
				*at = fresh
				return k + 1, nil
			}
			run--
			continue
		}
		bit, err := s.bits.take(1)
		if err != nil {
			return k, err
		}
		if step := int16(1) << s.low; bit == 1 && *at&step == 0 {
			if *at < 0 {
				step = -step
			}
			*at += step
		}
	}
	return k, nil
}
