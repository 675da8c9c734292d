// Package safetensors reads and writes the safetensors file format.
//
// A file is an unsigned 64-bit little-endian length N, then N bytes of JSON, then the data:
//
//	{"__metadata__": {"format": "pt"}, "layer.weight": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}}
//
// Reading maps the file into memory and looks at the header alone, so opening a 24 GB model costs some
// kilobytes; tensors are views into the map until they are converted. A header is believed only as far as
// the file can back it: the tensors have to tile the data from the first byte to the last, and nothing is
// allocated by a number that was not checked against the size of the file. Every refusal is an *Error with
// a Class.
//
// Writing is streamed and deterministic: the same tensors give the same bytes, which are also the bytes the
// reference implementation writes.
package safetensors
