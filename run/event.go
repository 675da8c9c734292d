package run

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
)

// Event is one line of a run's metric files: JSON objects, one a line, in the order they happened.
type Event struct {
	Stage  Stage              `json:"stage"`
	Step   int                `json:"step"`
	Epoch  int                `json:"epoch,omitempty"`
	Kind   string             `json:"kind"`   // such as step, pairs, eval
	Values map[string]float64 `json:"values"` // finite numbers by name; JSON sorts the names
	Masks  Masks              `json:"masks,omitzero"`
}

// WriteEvents writes events as JSON lines. A value that is not finite is an error: JSON cannot hold it, and a run that
// met one has failed.
func WriteEvents(w io.Writer, events []Event) error {
	buffered := bufio.NewWriter(w)
	enc := json.NewEncoder(buffered)
	for i, e := range events {
		for name, v := range e.Values {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return Errorf(ClassNonFinite, "write metric", name, "", "event %d of stage %s step %d is %v", i, e.Stage, e.Step, v)
			}
		}
		if err := enc.Encode(e); err != nil {
			return fmt.Errorf("write event %d: %w", i, err)
		}
	}
	if err := buffered.Flush(); err != nil {
		return fmt.Errorf("write events: %w", err)
	}
	return nil
}

// ReadEvents reads what WriteEvents wrote. A last line that was cut off, as by a crash while writing, ends the list
// without error; a broken line before the end is an error.
func ReadEvents(r io.Reader) ([]Event, error) {
	var events []Event
	in := bufio.NewReader(r)
	for line := 1; ; line++ {
		text, err := in.ReadBytes('\n')
		if err == io.EOF {
			return events, nil // whatever follows the last newline was cut off
		}
		if err != nil {
			return events, fmt.Errorf("read events: %w", err)
		}
		var e Event
		if err := json.Unmarshal(text, &e); err != nil {
			return events, fmt.Errorf("read events line %d: %w", line, err)
		}
		events = append(events, e)
	}
}
