// Package models carries the tiny world models inside the binary: a FLUX pipeline (world) and a SciScore
// (world-sciscore), each an ordinary Hugging Face folder. README.md says how they were made.
package models

import "embed"

// Files holds the folders world and world-sciscore.
//
//go:embed all:world all:world-sciscore
var Files embed.FS
