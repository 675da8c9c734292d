// Package data makes a run's data ready: the rows of its splits, its prompts, its pictures as pixels, the procedural world
// drawn where the config asks for it. It reads files and knows nothing of models and training.
package data
