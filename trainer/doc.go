// Package trainer takes the gradient steps of both stages: supervised rectified flow (Learner.SFT) and masked online DPO
// (Rollout, Learner.DPO) on an adapter over a frozen FLUX base.
//
// Nothing here knows files, stores or workflows: a step is a function of the adapter, its moments and the batch it is
// handed. Gradients come from Gorgonia graphs through flux.Session; losses enter as their analytic derivative by the
// network's velocity (package flow), so one backward pass a batch is all there is. A step is micro-batches of one network
// call each, whose gradients add up (SFTGradient, DPOGradient), and one update (Apply).
package trainer
