package graph

import (
	"sync"
	"unsafe"

	"gorgonia.org/tensor"
)

const (
	tokenStride = 64
	maxTokens   = 1 << 16 // nodes of one graph
)

// tokenSpace is address space for tokens, shared by all graphs: a token means something only to its own device.
var tokenSpace = sync.OnceValues(func() (unsafe.Pointer, error) { return reserve(maxTokens * tokenStride) })

// newToken is the value that stands for node id of shape rows × cols. Its memory must never be touched.
func newToken(d *device, id, rows, cols int) (*tensor.Dense, error) {
	base, err := tokenSpace()
	if err != nil {
		return nil, err
	}
	return tensor.New(tensor.Of(tensor.Float32), tensor.WithShape(rows, cols), tensor.WithEngine(d),
		tensor.FromMemory(uintptr(base)+uintptr(id*tokenStride), uintptr(rows*cols*4))), nil
}

// tokenID is the node that a token stands for.
func tokenID(t interface{ Uintptr() uintptr }) int {
	base, _ := tokenSpace()
	return int(t.Uintptr()-uintptr(base)) / tokenStride
}
