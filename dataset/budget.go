package dataset

import "fmt"

// A split's texts and numbers are kept in memory, its pictures are not. The limits are far above any real data set: a
// hostile file of a few kilobytes can repeat one text a billion times.
const (
	maxText  = 1 << 20 // bytes of one text
	maxTexts = 1 << 30 // bytes of all texts and numbers of a split
	rowCost  = 512     // bytes of a row beside its texts
	itemCost = 32      // ... of an element of a list
)

// budget counts the memory of a split.
type budget struct{ left int64 }

// take counts a value of a column.
func (b *budget) take(column string, bytes int) error {
	if bytes > maxText {
		return fmt.Errorf("column %q: a text of %d bytes; the limit is %d", column, bytes, maxText)
	}
	b.left -= int64(bytes) + itemCost
	return b.check()
}

// row counts a row.
func (b *budget) row() error {
	b.left -= rowCost
	return b.check()
}

func (b *budget) check() error {
	if b.left < 0 {
		return fmt.Errorf("the texts and numbers of the split take more than %d MiB; "+
			"leave out columns that training does not use, or rows", maxTexts>>20)
	}
	return nil
}
