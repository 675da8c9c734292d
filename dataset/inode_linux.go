package dataset

import (
	"io/fs"
	"syscall"
)

// inodeOf is a file's inode and the time of its last change of any kind, which no program can set back.
func inodeOf(info fs.FileInfo) (inode, changed int64) {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return int64(s.Ino), s.Ctim.Nano()
	}
	return 0, 0
}
