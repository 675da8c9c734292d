// What the kernels of one instruction set offer. Addresses travel as integers: they point outside the Go heap or to Go
// memory that the caller keeps alive.
#ifndef SCIFLUX_KERNELS_H
#define SCIFLUX_KERNELS_H

#include <stdint.h>

typedef uintptr_t addr;

typedef struct {
  addr a, b, c, bias;
  long m, n, k, rows, cols, lift, panel, ldc;
  float alpha;
  int add;
} product_args;

typedef struct {
  addr dst, src;
  long panel, stride, n, k;
  int bf16, rows;
  int round; // float32 values are rounded to bfloat16
} pack_args;

#define THIN_ROWS 6

typedef struct {
  addr y, x, w, bias;
  long m, n, k, ldy, ldx, stride;
  int bf16, add;
} thin_args;

// rows_args: a kernel over rows [from, to) of matrices p with row strides s and `cols` columns. Row r uses row r/per of
// per-sample operands.
typedef struct {
  addr p[8];
  long s[8];
  long from, to, cols, per;
  float alpha, eps;
  int flag;
} rows_args;

enum {
  ROW_COPY,
  ROW_ZERO,
  ROW_ADD,
  ROW_MUL,
  ROW_AXPY,
  ROW_ACTIVATE,
  ROW_ACTIVATE_BACK,
  ROW_LAYER_NORM,
  ROW_RMS_NORM,
  ROW_MODULATE,
  ROW_MODULATE_BACK,
  ROW_GATE_ADD,
  ROW_GATE_BACK,
  ROW_SAMPLE_SUMS,
};

// attend_args: one (sample, head) of an attention. o is the output (forward) or the forward output (backward).
typedef struct {
  addr o, q, k, v, dout, dq, dk, dv;
  long so, sq, sk, sv, sdout, sdq, sdk, sdv;
  addr bias, cos, sin, norm_q[2], norm_k[2];
  long samples, text, image, heads, dim, tile;
  float scale, eps;
  int causal;
} attend_args;

typedef struct {
  addr y, x, w, bias;
  long in, h, width, out, out_h, out_w, stride_w;
  long kernel, stride, top, left;
  long from, to; // output rows of this tile
} conv_args;

#define CONV_SIDE 16 // the widest kernel

typedef struct {
  addr y, x, weight, bias;
  long channels, pixels;
  float eps;
  int silu;
} group_args;

typedef struct {
  addr w, m, v, g;
  long n;
  float scale, beta1, beta2, rest1, rest2, decay, rate, root, eps; // rest = 1 − beta, root = 1/√(1 − beta2ᵗ)
} adamw_args;

typedef struct {
  void (*product)(const product_args *);
  void (*pack)(const pack_args *);
  void (*pack_left)(const pack_args *);
  void (*widen)(const pack_args *);  // k rows of n bfloat16 values, to a dense matrix
  void (*narrow)(const pack_args *); // k rows of n float32 values, to a dense bfloat16 matrix
  void (*thin)(const thin_args *);
  void (*rows)(int, const rows_args *);
  long (*attend_scratch)(const attend_args *, int back);
  void (*attend)(const attend_args *, long head, float *scratch);
  void (*attend_back)(const attend_args *, long head, float *scratch);
  long (*convolve_scratch)(const conv_args *);
  void (*convolve)(const conv_args *, float *scratch);
  void (*group_norm)(const group_args *);
  void (*adamw)(const adamw_args *);
  double (*sum_squares)(const float *, long n);
  int mr, nr;
} kernels;

// choose returns the kernels of the best instruction set of this processor, or of the named one (base, avx2, avx512)
// when the processor has it; name says which it is.
const kernels *choose(const char *wanted, const char **name);

#endif
