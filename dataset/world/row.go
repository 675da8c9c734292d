package world

import (
	"github.com/sciflux/sciflux/dataset"
)

// FromRow gives the tuple that a row of the world's files was drawn from; ok is false for a row of any other data set.
func FromRow(r dataset.Row) (t Tuple, ok bool) {
	pose, has := r.Ints["pose"]
	t = Tuple{Task: r.Cells["task"].Value, Subject: r.Cells["subject"].Value, Scene: r.Cells["scene"].Value, Pose: uint64(pose)}
	if !has || pose < 0 || t.Validate() != nil {
		return Tuple{}, false
	}
	return t, true
}
