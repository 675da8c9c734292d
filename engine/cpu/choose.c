//go:build cgo

#include "kernels.h"

#include <string.h>

extern const kernels base_kernels, avx2_kernels, avx512_kernels;

const kernels *choose(const char *wanted, const char **name) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  int avx512 = avx2 && __builtin_cpu_supports("avx512f");
  if (avx512 && (!*wanted || !strcmp(wanted, "avx512"))) {
    *name = "avx512";
    return &avx512_kernels;
  }
  if (avx2 && (!*wanted || !strcmp(wanted, "avx2") || !strcmp(wanted, "avx512"))) {
    *name = "avx2";
    return &avx2_kernels;
  }
  *name = "sse2";
#else
  (void)wanted;
  *name = "portable";
#endif
  return &base_kernels;
}
