// Package parity judges this program's numbers against stored numbers of the reference implementations.
//
// A case is a folder with a case.json: a kind, a model, arguments, input tensors and the outputs that the reference
// gave for them. Run finds the cases below the given folders, hands each to the Runner of its kind (registry.go) and
// compares what comes back, one Row per output. Runners call the public code that a training run calls; there is no
// second implementation for tests, so a passing case says something about the run itself, on this machine, this
// driver and this build.
//
// The error of a float tensor is max|ours - expected| / max|expected|. Integer tensors and JSON values must be equal.
package parity
