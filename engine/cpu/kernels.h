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

// A matrix operand: its first value, and how many floats its rows are apart.
typedef struct {
  addr at;
  long stride;
} matrix;

// part is the rows [from, to) of the matrices of a call, each of cols values.
typedef struct {
  long from, to, cols;
} part;

// elements_args: y = f(a, b), value by value.
typedef struct {
  part rows;
  matrix y, a, b;
  float alpha;
} elements_args;

// activation_args: y = f(x), or backwards y = dy·f'(x).
typedef struct {
  part rows;
  matrix y, x, dy;
  int function; // an engine.Activation
} activation_args;

// bias_args: every row of y = bias, or += bias when add.
typedef struct {
  part rows;
  matrix y;
  addr bias;
  int add;
} bias_args;

// transpose_args: y = xᵀ. Rows of y are columns of x.
typedef struct {
  part rows;
  matrix y, x;
} transpose_args;

// norm_args: y = norm(x)·weight + bias; weight and bias are 0 for none.
typedef struct {
  part rows;
  matrix y, x;
  addr weight, bias;
  float eps;
} norm_args;

// Row r of a call uses row r / per_sample of shift, scale and gate.

typedef struct {
  part rows;
  matrix y, x, shift, scale;
  long per_sample;
  float eps;
} modulate_args;

// moments receives mean and 1/√(var+eps) of each row of x; its address is 0 when they are not wanted.
typedef struct {
  part rows;
  matrix dx, x, scale, dy, moments;
  long per_sample;
  float eps;
  int add; // to dx
} modulate_back_args;

typedef struct {
  part rows;
  matrix y, s, x, gate;
  long per_sample;
} gate_args;

typedef struct {
  part rows;
  matrix dx, dy, gate;
  long per_sample;
} gate_back_args;

// sample_sums_args: row b of out = Σ dy·factor over the per_sample rows of sample b. The factor is 1, or x where that has
// an address, or x normalised by its rows' moments where those have one.
typedef struct {
  part rows;
  matrix out, dy, x, moments;
  long per_sample;
} sample_sums_args;

// attend_args: one (sample, head) of an attention. o is the output (forward) or the forward output (backward).
typedef struct {
  matrix o, q, k, v, dout, dq, dk, dv;
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
  // rest = 1 − beta, decay = lr·wd, rate = lr/(1 − beta1ᵗ), root = 1/√(1 − beta2ᵗ)
  float scale, beta1, beta2, rest1, rest2, decay, rate, root, eps;
} adamw_args;

typedef struct {
  void (*product)(const product_args *);
  void (*pack)(const pack_args *);
  void (*pack_left)(const pack_args *);
  void (*widen)(const pack_args *);  // k rows of n bfloat16 values, to a dense matrix
  void (*narrow)(const pack_args *); // k rows of n float32 values, to a dense bfloat16 matrix
  void (*thin)(const thin_args *);
  void (*copy)(const elements_args *), (*zero)(const elements_args *);
  void (*add)(const elements_args *), (*mul)(const elements_args *);
  void (*axpy)(const elements_args *); // y += alpha·a
  void (*activate)(const activation_args *), (*activate_back)(const activation_args *);
  void (*bias)(const bias_args *);
  void (*transpose)(const transpose_args *);
  void (*layer_norm)(const norm_args *), (*rms_norm)(const norm_args *);
  void (*modulate)(const modulate_args *);
  void (*modulate_back)(const modulate_back_args *);
  void (*gate_add)(const gate_args *); // y = s + gate·x
  void (*gate_back)(const gate_back_args *);
  void (*sample_sums)(const sample_sums_args *);
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
