// Package lora holds low-rank adapters of FLUX (Hu et al. 2021): for a frozen linear layer W [out, in] the matrices
// A [r, in] and B [out, r] that change its output to x·Wᵀ + scale·(x·Aᵀ)·Bᵀ.
//
// All numbers of an adapter lie in one flat float32 buffer, so that an optimiser, a checksum or an average is one pass.
// The layers that multiply the same input (to_q, to_k, to_v) form a group: their As follow each other, then their Bs, so
// that x·Aᵀ of a group is one product.
//
// The scale is alpha/rank, or alpha/√rank (rsLoRA), as the float32 number that kernels multiply with.
//
// Files are read in the namings of diffusers, peft, kohya's scripts, ComfyUI and ai-toolkit, OneTrainer, LyCORIS, XLabs and
// of the original model, and written as diffusers', peft's and kohya's. A file is a stranger's: it is bounded, and what is
// no plain LoRA of the unchanged base is refused by name.
package lora
