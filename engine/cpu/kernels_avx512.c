//go:build cgo && amd64

// The kernels for processors with avx512f, avx2, fma.
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx2,fma")
#endif

#define V 16
#define MR 14
#define NR 32
#define NAME(x) avx512_##x
#include "variant.h"

#ifdef __clang__
#pragma clang attribute pop
#endif
