package pipeline

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/sciflux/sciflux/model/flux"
	"github.com/sciflux/sciflux/model/vae"
	"github.com/sciflux/sciflux/model/weights"
)

// encoderBase is how the weights of the text encoders are called.
const encoderBase = "model"

// Identity names the content of a pipeline folder: of every file that Open and the encoders read, and of no other. See
// weights.Identity.
func Identity(ctx context.Context, dir string, o weights.IdentityOptions) (string, error) {
	files, err := Files(dir)
	if err != nil {
		return "", fmt.Errorf("identify pipeline %s: %w", dir, err)
	}
	return weights.Identity(ctx, dir, files, o)
}

// Files lists the files of a pipeline folder that Open and the encoders read.
func Files(dir string) ([]string, error) {
	files := []string{filepath.Join(dir, "model_index.json")}
	scheduler, err := weights.FilesOf(filepath.Join(dir, "scheduler"), "")
	if err != nil {
		return nil, err
	}
	text, err := textFiles(dir)
	if err != nil {
		return nil, err
	}
	files = append(append(files, scheduler...), text...)
	for _, kind := range []weights.Kind{flux.Part(), vae.Part()} {
		part, err := kind.Files(dir)
		if err != nil {
			return nil, err
		}
		files = append(files, part...)
	}
	return files, nil
}

// textFiles are those that the conditioning of a prompt depends on.
func textFiles(dir string) ([]string, error) {
	var files []string
	for _, folder := range []string{"text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"} {
		list, err := weights.FilesOf(filepath.Join(dir, folder), encoderBase)
		if err != nil {
			return nil, err
		}
		files = append(files, list...)
	}
	return files, nil
}
