// Package flux is the FLUX.1 transformer (diffusers 0.31 FluxTransformer2DModel): the velocity network of a rectified-flow
// text-to-image model.
//
// The forward pass is written once, in forward.go, over engine.Ops. Velocity runs it at once, for pictures. A Session
// runs it as Gorgonia graphs, for gradients of LoRA adapters (model/lora).
//
// Text and image tokens live in one joint matrix [B·(T+N), C], text rows of all samples first; see package engine.
package flux
