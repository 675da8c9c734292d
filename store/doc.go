// Package store keeps every byte that must survive: objects in memory, on disk or in S3 behind one interface,
// and checkpoints on top of them.
//
// A checkpoint is committed in three steps, so that a process may die between any two of them:
//
//  1. its parts are written under a prefix that no other attempt uses;
//  2. a manifest with the size and SHA-256 of every part is created if it does not exist yet;
//  3. the pointer latest.json is moved if nobody moved it meanwhile.
//
// Only step 2 makes a checkpoint. Readers trust manifests alone, verify every hash, and step back to the
// checkpoint before when one is damaged. Nothing is deleted but by Prune, and that only after a newer
// checkpoint was seen to be whole.
package store
