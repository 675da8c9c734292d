package configs

import (
	"fmt"
	"os"
	"strings"
)

// Value reads the secret: from the file when one is named, else from the variable. name is the key it is configured
// under, for the error. A secret that is named nowhere is empty; one that is named but missing is an error.
func (s Secret) Value(name string) (string, error) {
	if s.File != "" {
		text, err := os.ReadFile(s.File)
		if err != nil {
			return "", fmt.Errorf("read secret %s.file %s: %w; check path and permissions", name, s.File, cause(err))
		}
		value := strings.TrimRight(string(text), "\r\n")
		if value == "" {
			return "", fmt.Errorf("read secret %s.file %s: empty; write the secret into it", name, s.File)
		}
		return value, nil
	}
	if s.Env == "" {
		return "", nil
	}
	value := os.Getenv(s.Env)
	if value == "" {
		return "", fmt.Errorf("read secret %s.env: variable %s is not set; export it, or name a file in %s.file", name, s.Env, name)
	}
	return value, nil
}
