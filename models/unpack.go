package models

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Unpack writes a folder of files into dir under a name that holds their hash, unless it is there, and returns its path.
func Unpack(files fs.FS, folder, dir string) (string, error) {
	sub, err := fs.Sub(files, folder)
	if err != nil {
		return "", fmt.Errorf("unpack model %s: %w", folder, err)
	}
	sum, err := hashFiles(sub)
	if err != nil {
		return "", fmt.Errorf("unpack model %s: %w", folder, err)
	}
	final := filepath.Join(dir, folder+"-"+sum[:12])
	if _, err := os.Stat(final); err == nil {
		return final, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("unpack model %s: %w; is the disk full or read-only?", folder, err)
	}
	temp, err := os.MkdirTemp(dir, "."+folder+"-")
	if err != nil {
		return "", fmt.Errorf("unpack model %s: %w", folder, err)
	}
	defer os.RemoveAll(temp)
	if err := os.CopyFS(filepath.Join(temp, "x"), sub); err != nil {
		return "", fmt.Errorf("unpack model %s: %w; is the disk full?", folder, err)
	}
	if err := os.Rename(filepath.Join(temp, "x"), final); err != nil {
		if _, there := os.Stat(final); there == nil {
			return final, nil // another process was faster
		}
		return "", fmt.Errorf("unpack model %s: %w", folder, err)
	}
	return final, nil
}

func hashFiles(files fs.FS) (string, error) {
	h := sha256.New()
	err := fs.WalkDir(files, ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := fs.ReadFile(files, path)
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%s %d\n", path, len(data))
		h.Write(data)
		return nil
	})
	return hex.EncodeToString(h.Sum(nil)), err
}
