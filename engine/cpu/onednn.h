// oneDNN's single-precision GEMM, found at run time: no headers, no link-time dependency.
#ifndef SCIFLUX_ONEDNN_H
#define SCIFLUX_ONEDNN_H

#include "kernels.h"

typedef struct {
  int major, minor, patch;
} onednn_version;

// onednn_open loads the library and returns 1 when it offers what is needed. Not for concurrent use.
int onednn_open(onednn_version *v);

typedef struct {
  addr a, b, c;
  long m, n, k, lda, ldb, ldc;
  float alpha, beta;
  int trans_a, trans_b;
  int bf16; // a and b are bfloat16, not float32
} onednn_args;

// onednn_amx returns 1 when the processor multiplies bfloat16 matrices by AMX, the system lets this process use it, and the
// opened library has the product for it. Not for concurrent use.
int onednn_amx(void);

// onednn_gemm runs row-major c = alpha·op(a)·op(b) + beta·c on the calling thread alone; 0 is success.
int onednn_gemm(const onednn_args *g);

#endif
