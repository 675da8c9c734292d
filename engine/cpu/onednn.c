//go:build cgo

#define _GNU_SOURCE
#include "onednn.h"

#include <dlfcn.h>
#include <stddef.h>
#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

typedef int (*sgemm_fn)(char, char, int64_t, int64_t, int64_t, float, const float *, int64_t, const float *, int64_t, float,
                        float *, int64_t);
// The same for bfloat16 operands: not in the library's header, but exported by 2.x and 3.x alike.
typedef int (*bf16_gemm_fn)(char, char, int64_t, int64_t, int64_t, float, const uint16_t *, int64_t, const uint16_t *, int64_t,
                            float, float *, int64_t);
typedef struct {
  int major, minor, patch;
} version_head;

static sgemm_fn sgemm;
static bf16_gemm_fn bf16_gemm;
static void (*set_threads)(int);

int onednn_open(onednn_version *v) {
  static const char *const names[] = {"libdnnl.so.3", "libdnnl.so.2", "libdnnl.so"};
  void *lib = NULL;
  for (size_t i = 0; i < sizeof names / sizeof *names && !lib; i++) lib = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
  if (!lib) return 0;
  sgemm = (sgemm_fn)dlsym(lib, "dnnl_sgemm");
  bf16_gemm = (bf16_gemm_fn)dlsym(lib, "dnnl_gemm_bf16bf16f32");
  const version_head *(*version)(void) = (const version_head *(*)(void))dlsym(lib, "dnnl_version");
  set_threads = (void (*)(int))dlsym(lib, "omp_set_num_threads"); // found through the library's own dependencies
  if (!sgemm || !version) return 0;
  const version_head *found = version();
  v->major = found->major, v->minor = found->minor, v->patch = found->patch;
  return 1;
}

// alone makes the library compute on the calling thread, whose setting this is. It never starts OpenMP threads then, so
// none can spin beside the workers, and OMP_WAIT_POLICY, which could only be set while others read the environment, is not
// needed.
static void alone(void) {
  if (set_threads) set_threads(1);
}

int onednn_gemm(const onednn_args *g) {
  alone();
  char ta = g->trans_a ? 'T' : 'N', tb = g->trans_b ? 'T' : 'N';
  if (g->bf16)
    return bf16_gemm(ta, tb, g->m, g->n, g->k, g->alpha, (const uint16_t *)g->a, g->lda, (const uint16_t *)g->b, g->ldb, g->beta,
                     (float *)g->c, g->ldc);
  return sgemm(ta, tb, g->m, g->n, g->k, g->alpha, (const float *)g->a, g->lda, (const float *)g->b, g->ldb, g->beta,
               (float *)g->c, g->ldc);
}

int onednn_amx(void) {
#if defined(__x86_64__) && defined(__linux__)
  enum { TILE = 1 << 24, BF16 = 1 << 22, OSXSAVE = 1 << 27, TILE_STATE = 3 << 17, TILE_DATA = 18, ARCH_REQ_XCOMP_PERM = 0x1023 };
  unsigned a, b, c, d, low, high;
  if (!bf16_gemm || !__get_cpuid(1, &a, &b, &c, &d) || !(c & OSXSAVE)) return 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & (TILE | BF16)) != (TILE | BF16)) return 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if ((low & TILE_STATE) != TILE_STATE || syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA)) return 0;
  // One product of ones tells whether the library was built for it.
  const uint16_t one[1] = {0x3f80};
  float sum = 0;
  alone();
  return bf16_gemm('N', 'N', 1, 1, 1, 1, one, 1, one, 1, 0, &sum, 1) == 0 && sum == 1;
#else
  return 0;
#endif
}
