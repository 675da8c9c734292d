package run

import (
	"bytes"
	"reflect"
	"testing"
)

// FuzzReadEvents: no file makes the reader panic, what it accepts it can write and read again, and cutting the file
// anywhere loses nothing but the events from there on.
func FuzzReadEvents(f *testing.F) {
	f.Add([]byte("{\"stage\":\"sft\",\"step\":3,\"kind\":\"step\",\"values\":{\"loss\":0.5}}\n{\"step\":4}\n"), 20)
	f.Add([]byte("\n\n"), 1)
	f.Add([]byte("{\"values\":{\"a\":1e999}}\n"), 0)
	f.Add([]byte("null\n[]\n"), 5)
	f.Add([]byte("{\"at\":\"2026-01-01T00:00:00Z\",\"seconds\":1e-3}\n{\"step"), 30)
	f.Fuzz(func(t *testing.T, text []byte, cut int) {
		events, err := ReadEvents(bytes.NewReader(text))
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := WriteEvents(&b, events); err != nil {
			t.Fatalf("events that were read cannot be written: %v", err)
		}
		again, err := ReadEvents(&b)
		if err != nil || len(again) != len(events) {
			t.Fatalf("%d events, read again %d: %v", len(events), len(again), err)
		}
		if cut < 0 || cut > len(text) {
			return
		}
		part, err := ReadEvents(bytes.NewReader(text[:cut]))
		if err != nil || len(part) > len(events) {
			t.Fatalf("cut at %d: %d events, %v", cut, len(part), err)
		}
		for i := range part {
			if !reflect.DeepEqual(part[i], events[i]) {
				t.Fatalf("cut at %d: event %d is another one", cut, i)
			}
		}
	})
}
