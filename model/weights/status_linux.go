package weights

import (
	"os"
	"syscall"
)

// statusTime is when a file's content or metadata changed last, in nanoseconds.
func statusTime(info os.FileInfo) int64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Ctim.Nano()
	}
	return 0
}
