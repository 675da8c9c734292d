package safetensors

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
)

// kinds are files that people take for safetensors, by how they begin.
var kinds = []struct {
	begins string
	class  Class
	detail string
}{
	{"GGUF", Quantised, "this is a GGUF file, whose weights are quantised for other programs"},
	{"PK\x03\x04", Foreign, "this is a PyTorch file, a pickle that can run code when it is read; save the weights as safetensors"},
	{"\x80\x02", Foreign, "this is a Python pickle, which can run code when it is read; save the weights as safetensors"},
	{"version https://git-lfs", Foreign,
		"this is a git LFS pointer and not the file itself: run git lfs pull in the folder, or download the file"},
	{"<!DOCTYPE", Foreign, "this is a web page: the download was refused, probably for want of a login or an accepted licence"},
	{"<html", Foreign, "this is a web page: the download was refused, probably for want of a login or an accepted licence"},
	{"{", Foreign, "this is JSON without the length that a safetensors file begins with"},
}

// foreign tells what a file is that has no safetensors header; nil if that is not known.
func foreign(begin []byte) *Error {
	for _, k := range kinds {
		if bytes.HasPrefix(begin, []byte(k.begins)) {
			return refuse(k.class, "", "%s", k.detail)
		}
	}
	return nil
}

// foreignIn names a file in dir that holds weights in a form that is not read, "" if there is none.
func foreignIn(dir string) string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ""
	}
	for _, e := range entries {
		switch strings.ToLower(filepath.Ext(e.Name())) {
		case ".gguf", ".bin", ".pt", ".pth", ".ckpt", ".msgpack", ".h5", ".onnx":
			return e.Name()
		}
	}
	return ""
}
