//go:build cgo

#define _GNU_SOURCE
#include "onednn.h"

#include <dlfcn.h>
#include <stddef.h>
#include <stdlib.h>

typedef int (*sgemm_fn)(char, char, int64_t, int64_t, int64_t, float, const float *, int64_t, const float *, int64_t, float,
                        float *, int64_t);
typedef struct {
  int major, minor, patch;
} version_head;

static sgemm_fn sgemm;
static void (*set_threads)(int);

int onednn_open(onednn_version *v) {
  static const char *const names[] = {"libdnnl.so.3", "libdnnl.so.2", "libdnnl.so"};
  void *lib = NULL;
  setenv("OMP_WAIT_POLICY", "passive", 0); // idle OpenMP threads must not spin beside the workers
  for (size_t i = 0; i < sizeof names / sizeof *names && !lib; i++) lib = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
  if (!lib) return 0;
  sgemm = (sgemm_fn)dlsym(lib, "dnnl_sgemm");
  const version_head *(*version)(void) = (const version_head *(*)(void))dlsym(lib, "dnnl_version");
  set_threads = (void (*)(int))dlsym(lib, "omp_set_num_threads"); // found through the library's own dependencies
  if (!sgemm || !version) return 0;
  const version_head *found = version();
  v->major = found->major, v->minor = found->minor, v->patch = found->patch;
  return 1;
}

int onednn_gemm(const onednn_args *g) {
  if (set_threads) set_threads(1); // a setting of the calling thread
  return sgemm(g->trans_a ? 'T' : 'N', g->trans_b ? 'T' : 'N', g->m, g->n, g->k, g->alpha, (const float *)g->a, g->lda,
               (const float *)g->b, g->ldb, g->beta, (float *)g->c, g->ldc);
}
