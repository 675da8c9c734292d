// World answers tools/golden about the procedural world. `world rows N` prints the first N tuples of the training split
// that a run draws, with their prompts. `world boxes` reads a JSON list of {"tuple", "side", "pixels"} (RGB bytes, base64)
// and prints where the detector finds each subject: [cx, cy, w, h], null where it does not.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strconv"

	"github.com/sciflux/sciflux/dataset/world"
)

// seed is that of the drawing which the tiny models were trained on.
const seed = 1

func main() {
	answer, err := ask(os.Args[1:])
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(answer)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func ask(args []string) (any, error) {
	switch {
	case len(args) == 2 && args[0] == "rows":
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return nil, err
		}
		return rows(n), nil
	case len(args) == 1 && args[0] == "boxes":
		return boxes()
	}
	return nil, fmt.Errorf("usage: world rows N | world boxes <pictures.json")
}

type row struct {
	Tuple       world.Tuple `json:"tuple"`
	Implicit    []string    `json:"implicit"`
	Explicit    []string    `json:"explicit"`
	Superficial []string    `json:"superficial"`
	Object      string      `json:"object"`
}

func rows(n int) []row {
	var out []row
	for _, t := range world.Tuples(world.Train, seed, 0)[:n] {
		p := t.Prompts()
		out = append(out, row{t, p.Implicit, p.Explicit, p.Superficial, t.Noun()})
	}
	return out
}

func boxes() ([]*[4]float64, error) {
	var asked []struct {
		Tuple  world.Tuple `json:"tuple"`
		Side   int         `json:"side"`
		Pixels []byte      `json:"pixels"`
	}
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		return nil, err
	}
	judge, found := world.NewJudge(), make([]*[4]float64, len(asked))
	for i, a := range asked {
		box, ok, err := judge.Detect(world.Picture{Side: a.Side, Pix: a.Pixels}, a.Tuple)
		if err != nil {
			return nil, err
		}
		if ok {
			found[i] = &[4]float64{box.CX, box.CY, box.W, box.H}
		}
	}
	return found, nil
}
