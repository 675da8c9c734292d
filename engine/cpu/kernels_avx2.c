//go:build cgo && amd64

// The kernels for processors with avx2, fma.
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#define V 8
#define MR 6
#define NR 16
#define NAME(x) avx2_##x
#include "variant.h"

#ifdef __clang__
#pragma clang attribute pop
#endif
