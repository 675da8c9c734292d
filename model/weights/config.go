package weights

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ReadConfig decodes the JSON file name in dir into a struct. Fields that the struct lacks are ignored: the files carry
// many that do not change the arithmetic.
func ReadConfig(dir, name string, into any) error {
	path := filepath.Join(dir, name)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read config %s: %w; point to a model folder in Hugging Face layout, with %s beside the weights", path, fs.ErrNotExist, name)
	}
	if err != nil {
		return fmt.Errorf("read config %s: %w; check that it can be read", path, err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("read config %s: %w; fetch or export the model again", path, err)
	}
	return nil
}

// Positive checks that sizes of a config are at least 1; names[i] is the JSON key of values[i].
func Positive(names []string, values ...int) error {
	for i, v := range values {
		if v < 1 {
			return fmt.Errorf("%s is %d, need at least 1", names[i], v)
		}
	}
	return nil
}
