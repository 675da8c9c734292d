package safetensors

import (
	"errors"
	"fmt"
	"strings"
)

// Class says which kind of fault made a file or a model unreadable.
type Class string

// The classes of refusal.
const (
	IO               Class = "io"                // the operating system refused, or the file is not there
	Truncated        Class = "truncated"         // the length field, the header or the data end beyond the file
	HeaderTooLong    Class = "header_too_long"   // a header of more than MaxHeader bytes
	BadJSON          Class = "bad_json"          // header or index is not UTF-8, not JSON, or lacks a field
	BadDType         Class = "dtype"             // a dtype that does not exist, or one a model cannot use
	BadShape         Class = "shape"             // a shape that is negative, overflows, or does not fit its bytes
	Duplicate        Class = "duplicate"         // one name twice
	Overlap          Class = "overlap"           // two tensors share bytes
	Hole             Class = "hole"              // bytes that belong to no tensor
	MissingTensor    Class = "missing_tensor"    // a tensor that is needed and not given
	UnexpectedTensor Class = "unexpected_tensor" // a tensor that the model does not have
	Quantised        Class = "quantised"         // weights packed by a quantiser
	NotFinite        Class = "not_finite"        // a weight that is infinite or not a number
	Foreign          Class = "foreign"           // a file of another format
	Ambiguous        Class = "ambiguous"         // several files that could be meant
	BadPath          Class = "path"              // an index that names a file outside its folder
)

// hints tells, for each class, what the user can do about it.
var hints = map[Class]string{
	IO:               "check that the path exists and can be read",
	Truncated:        "the file is incomplete: download or copy it again and compare its size with the source",
	HeaderTooLong:    "this is not a safetensors file, or it is damaged: fetch it again",
	BadJSON:          "the file is damaged or was not written as safetensors: fetch or export it again",
	BadDType:         "convert the weights to F32, F16 or BF16",
	BadShape:         "the weights do not belong to this model or are damaged: compare them with config.json",
	Duplicate:        "export the file again with unique tensor names",
	Overlap:          "the file is damaged or forged: fetch it again",
	Hole:             "the file is damaged or has bytes appended: fetch it again",
	MissingTensor:    "check that all files of the model are there and that config.json belongs to them",
	UnexpectedTensor: "check that config.json belongs to these weights",
	Quantised:        "quantised weights cannot be trained on: use the original F32, F16 or BF16 weights",
	NotFinite:        "the file is damaged or was saved after training diverged: fetch it again, or take an earlier checkpoint",
	Foreign:          "give weights in the safetensors format",
	Ambiguous:        "keep one of them in the folder, or give the one that is meant the usual name",
	BadPath: "an index may only name files in its own folder: do not use this model unless you trust its source, and " +
		"correct the index",
}

// Error is the refusal of a file, a tensor or a model. It unwraps to the cause when there is one, so
// errors.Is(err, fs.ErrNotExist) works.
type Error struct {
	Class  Class
	File   string // path or name of the file, "" if unknown
	Tensor string // name of the tensor, "" if the fault is not one tensor's
	Detail string // what is wrong, with the numbers
	Err    error  // the cause, or nil
}

// Error says file, tensor and fault.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("read safetensors")
	if e.File != "" {
		fmt.Fprintf(&b, " %s", e.File)
	}
	if e.Tensor != "" {
		fmt.Fprintf(&b, ": tensor %q", e.Tensor)
	}
	fmt.Fprintf(&b, ": %s", e.Detail)
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	if hint := hints[e.Class]; hint != "" {
		fmt.Fprintf(&b, "; %s", hint)
	}
	return b.String()
}

// Unwrap is the cause below the refusal, nil for most.
func (e *Error) Unwrap() error { return e.Err }

// ClassOf returns the class of the first *Error in err's chain, or "" if there is none.
func ClassOf(err error) Class {
	var e *Error
	if errors.As(err, &e) {
		return e.Class
	}
	return ""
}

func refuse(class Class, tensor, format string, args ...any) *Error {
	return &Error{Class: class, Tensor: tensor, Detail: fmt.Sprintf(format, args...)}
}

// inFile adds the file's name to an *Error that was made without knowing it.
func inFile(err error, file string) error {
	var e *Error
	if errors.As(err, &e) && e.File == "" {
		e.File = file
	}
	return err
}
