//go:build cgo

// The kernels for what the compiler takes for granted: SSE2 on x86-64, NEON on arm64.
#define V 4
#define MR 6
#define NR 8
#define NAME(x) base_##x
#include "variant.h"
