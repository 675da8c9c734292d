// Package lora holds low-rank adapters of FLUX (Hu et al. 2021): for a frozen linear layer W [out, in] the matrices
// A [r, in] and B [out, r] that change its output to x·Wᵀ + scale·(x·Aᵀ)·Bᵀ.
//
// All numbers of an adapter lie in one flat float32 buffer, so that an optimiser, a checksum or an average is one pass.
// The layers that multiply the same input (to_q, to_k, to_v) form a group: their As follow each other, then their Bs, so
// that x·Aᵀ of a group is one product.
//
// Files: the diffusers naming (also bare, with lora_down and lora_up, with .alpha scalars), folders of peft, and the kohya
// naming over the original fused layers.
package lora
