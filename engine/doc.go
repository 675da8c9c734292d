// Package engine is the contract between models and the machines that compute them.
//
// A Backend owns memory and runs kernels on Tensors: float32 matrices, row-major. What it allocates lies outside the Go
// heap; Wrap makes tensors of slices, which host backends take as operands too, and frozen weights, biases and norms are
// slices, of mapped files mostly. Every kernel has a plain-Go twin in engine/reference that is its specification.
// engine/cpu is the fast backend of every machine; engine/graph puts Gorgonia's graphs over the same kernels for everything
// that needs gradients. Networks compute through kernels; Go loops over numbers remain around them, where there are few:
// embedding tables, patches, sinusoids, rotation tables, and the maths of flow matching and of losses, a latent at a time.
//
// Shape letters, here and in the models: B batch, L tokens, T text tokens, N image tokens, C width, H heads, D head
// width, R rows of a matrix, r rank of an adapter.
//
// Joint sequences. FLUX attends over text and image tokens together but multiplies them by different weights. A joint
// matrix therefore keeps the text rows of all samples first and the image rows of all samples after them:
//
//	row b·T + t            text token t of sample b
//	row B·T + b·N + n      image token n of sample b
//
// so each weight meets one contiguous run of rows whatever the batch, and only attention (see Layout) gathers the rows
// of one sample.
//
// Determinism. The result of a kernel is a pure function of its inputs: the split of work into tiles and the order of
// every reduction depend on shapes alone, never on the number of threads.
//
// Failures. Kernels panic on operands that do not fit, which is a mistake of the program. Alloc, and kernels that need
// working space, panic with an *OutOfMemory when there is none; what returns errors turns that into one (Guard).
package engine
