package configs

import (
	"math"
	"reflect"
	"strconv"
)

// Shift is none, dynamic, or a number above 0 as text: the a by which noise levels are shifted.
type Shift string

// The names among the values of a Shift.
const (
	shiftNone    = "none"
	shiftDynamic = "dynamic"
)

var shiftOf = reflect.TypeFor[Shift]()

// newShift is the value of a text. Numbers have one spelling, so that 3 and 3.0 are the same config.
func newShift(text string) Shift {
	if a, ok := Shift(text).number(); ok {
		return Shift(strconv.FormatFloat(a, 'g', -1, 64))
	}
	return Shift(text)
}

// number is the shift that is given as such.
func (s Shift) number() (a float64, ok bool) {
	a, err := strconv.ParseFloat(string(s), 64)
	return a, err == nil && a > 0 && !math.IsInf(a, 0)
}

// valid reports whether it is one of the names or a number above 0.
func (s Shift) valid() bool {
	_, number := s.number()
	return number || s == shiftNone || s == shiftDynamic
}

// value is what JSON shows: a number or a name.
func (s Shift) value() any {
	if a, ok := s.number(); ok {
		return a
	}
	return string(s)
}
