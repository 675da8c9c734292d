package safetensors

import (
	"bytes"
	"fmt"
	"os"
	"unsafe"
)

// Source is a set of named tensors: a *File or a *Set.
type Source interface {
	// Names returns the tensor names in lexical order.
	Names() []string
	// Info returns dtype and shape of a tensor, and whether it is there.
	Info(name string) (Info, bool)
	// Bytes returns the stored bytes of a tensor: a view that must not be written and dies with Close.
	Bytes(name string) ([]byte, error)
	// Float32 returns the elements of a tensor as a new slice; see File.Float32.
	Float32(name string, shape ...int) ([]float32, error)
	// BFloat16 returns the elements of a tensor as bfloat16 bits; see File.BFloat16.
	BFloat16(name string, shape ...int) ([]uint16, error)
}

var _, _ Source = (*File)(nil), (*Set)(nil)

// File is an open safetensors file. Its methods may be used by several goroutines at once, Close not.
type File struct {
	*Header
	path  string
	data  []byte // what follows the header
	close func() error
}

// Open maps a file into memory and checks its header. The file must not be truncated while it is open.
// Errors are *Error; an absent file is Class IO and satisfies errors.Is(err, fs.ErrNotExist).
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &Error{Class: IO, File: path, Detail: "open", Err: err}
	}
	defer f.Close() // a map outlives its descriptor
	stat, err := f.Stat()
	if err != nil {
		return nil, &Error{Class: IO, File: path, Detail: "stat", Err: err}
	}
	if !stat.Mode().IsRegular() {
		return nil, &Error{Class: IO, File: path, Detail: fmt.Sprintf("not a regular file but %s", stat.Mode().Type())}
	}
	header, err := ReadHeader(f, stat.Size())
	if err != nil {
		begin := make([]byte, 32)
		n, _ := f.ReadAt(begin, 0)
		if known := foreign(begin[:n]); known != nil {
			err = known
		}
		return nil, inFile(err, path)
	}
	all, unmap, err := mapFile(f, stat.Size())
	if err != nil {
		return nil, &Error{Class: IO, File: path, Detail: "map into memory", Err: err}
	}
	return &File{Header: header, path: path, data: all[header.DataStart:], close: unmap}, nil
}

// Parse reads a file that is already in memory; name is for error messages. The result keeps content.
func Parse(name string, content []byte) (*File, error) {
	header, err := ReadHeader(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return nil, inFile(err, name)
	}
	return &File{Header: header, path: name, data: content[header.DataStart:], close: func() error { return nil }}, nil
}

// Close releases the memory map. Views from Bytes and BFloat16 must not be used afterwards.
func (f *File) Close() error {
	f.data = nil
	return f.close()
}

// Path returns the path the file was opened by.
func (f *File) Path() string { return f.path }

// Metadata returns the string map of the header, nil if there is none. It must not be written.
func (f *File) Metadata() map[string]string { return f.Header.Metadata }

// find returns a tensor's description and checks its shape when one is asked for; -1 stands for any size.
func (f *File) find(name string, shape []int) (Info, error) {
	info, ok := f.Info(name)
	if !ok {
		return info, inFile(refuse(MissingTensor, name, "not in the file"), f.path)
	}
	if shape != nil && !shapeFits(info.Shape, shape) {
		return info, inFile(refuse(BadShape, name, "shape %v, expected %v", info.Shape, shape), f.path)
	}
	return info, nil
}

func shapeFits(have, want []int) bool {
	if len(have) != len(want) {
		return false
	}
	for i := range have {
		if want[i] >= 0 && have[i] != want[i] {
			return false
		}
	}
	return true
}

// Bytes returns a view of a tensor's bytes (row-major, little-endian). It must not be written.
func (f *File) Bytes(name string) ([]byte, error) {
	info, err := f.find(name, nil)
	if err != nil {
		return nil, err
	}
	return f.data[info.Begin:info.End:info.End], nil
}

// Float32 returns all elements of a tensor, converted to float32 (integers and F64 are rounded to nearest
// even, BOOL gives 0 and 1). With a shape, the tensor must have that shape; -1 stands for any size. F8_E8M0,
// F6, F4 and complex tensors are refused with class dtype.
func (f *File) Float32(name string, shape ...int) ([]float32, error) {
	info, err := f.find(name, shape)
	if err != nil {
		return nil, err
	}
	out := make([]float32, info.Elements())
	if err := DecodeFloat32(out, info.DType, f.data[info.Begin:info.End]); err != nil {
		return nil, inFile(inTensor(err, name), f.path)
	}
	return out, nil
}

// BFloat16 returns all elements as bfloat16 bits. A BF16 tensor that is aligned is returned as a view of the
// file (which must not be written and dies with Close); anything else is converted by way of float32.
func (f *File) BFloat16(name string, shape ...int) ([]uint16, error) {
	info, err := f.find(name, shape)
	if err != nil {
		return nil, err
	}
	raw := f.data[info.Begin:info.End]
	if info.DType == BF16 && len(raw) > 0 && littleEndian && uintptr(unsafe.Pointer(&raw[0]))%2 == 0 {
		return unsafe.Slice((*uint16)(unsafe.Pointer(&raw[0])), len(raw)/2), nil
	}
	wide, err := f.Float32(name)
	if err != nil {
		return nil, err
	}
	out := make([]uint16, len(wide))
	for i, v := range wide {
		out[i] = ToBFloat16(v)
	}
	return out, nil
}

// Int64 returns all elements of an integer or BOOL tensor. U64 values beyond 63 bits are refused.
func (f *File) Int64(name string, shape ...int) ([]int64, error) {
	info, err := f.find(name, shape)
	if err != nil {
		return nil, err
	}
	out := make([]int64, info.Elements())
	if err := DecodeInt64(out, info.DType, f.data[info.Begin:info.End]); err != nil {
		return nil, inFile(inTensor(err, name), f.path)
	}
	return out, nil
}
