// Package workflows decides what happens in which order in a run, and nothing else: no clock, file, map order or tensor
// enters a decision, so that a run is replayed from its history after any interruption.
//
//	FineTune  prepare, then the stages as children: SFT → OFT → Compare → Evaluate, then export and report
//	SFT       chunks of steps, each ending in a committed checkpoint
//	OFT       epochs: generate pairs → score them → one DPO chunk; stop rules; continue-as-new when the history is long
//	Compare   SFT continued for as long as OFT worked
//	Evaluate  every variant on every split, sharded
//
// The manifests in the store are the truth about progress. A workflow whose history is lost starts again from what
// Recover finds there, and the result is the same. Runs is the client side: start, attach, state, pause, resume, cancel.
package workflows
