// Package stages does the work that activities ask for: it opens what a run's config names (model, data, scorer, judge),
// keeps it warm between activities, and turns chunks, shards and jobs into calls of trainer, reward and eval, with every
// result in the object store.
//
// A Studio holds nothing that a run depends on: kill it at any moment and another one, anywhere, continues from the
// store to the same bits.
package stages
