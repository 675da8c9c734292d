// Package configs is the settings of a run: one typed Config whose field comments are the manual and whose defaults
// stand beside the fields.
//
// A config is built in layers, each over the one before: defaults, preset, file, SCIFLUX_* environment, --set. Loading is
// strict: an unknown key, a key given twice, a value of the wrong type or out of range, and settings that contradict each
// other are all reported together, each with its full path, where it was set and what to do. Secrets are never part of a
// config; it names the environment variable or file that holds them.
//
// Resolved writes the complete config of a run, Parse reads it back, Hash covers what can change a result.
package configs
