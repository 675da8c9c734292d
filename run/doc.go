// Package run holds the nouns that travel between the command line, the workflows, the activities and the store: what a
// run is (Spec, Job, Plan), where it stands (Stage, State, Progress), what it made (CheckpointRef, ObjectRef,
// EvalResult), what it reports (Event) and how it can fail (Error, Class).
//
// The package knows no technology: nothing here imports Temporal, S3 or tensor code, and every value is small and
// marshals to JSON, because most of them are stored in a workflow's history. Tensors, pictures and metric series never
// travel; their object keys do.
package run
