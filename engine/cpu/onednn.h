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
} onednn_args;

// onednn_gemm runs row-major c = alpha·op(a)·op(b) + beta·c on the calling thread alone; 0 is success.
int onednn_gemm(const onednn_args *g);

#endif
