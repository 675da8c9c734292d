// Kernels over values: what a value becomes does not depend on its place in the matrix.

// EACH runs the statement for every whole register of n values and once more for the rest. LOAD and STORE in it move
// the values at j.
#define EACH(n, ...)                         \
  do {                                       \
    long j = 0;                              \
    for (; j + V <= (n); j += V) {           \
      enum { rest = 0 };                     \
      __VA_ARGS__;                           \
    }                                        \
    if (j < (n)) {                           \
      enum { rest = 1 };                     \
      __VA_ARGS__;                           \
    }                                        \
  } while (0)
#define LOAD(p) (rest ? ldn((p) + j, n - j) : ld((p) + j))
#define STORE(p, x)            \
  do {                         \
    if (rest)                  \
      stn((p) + j, x, n - j);  \
    else                       \
      st((p) + j, x);          \
  } while (0)
#define LOAD_AT(p) ldn((p) + j, n - j)

INLINE float *row(matrix m, long r) { return (float *)m.at + r * m.stride; }

// ELEMENTS is a kernel that makes y of the values of y, a and b at the same place. Rows that a call does not name have no
// address and are not read.
#define ELEMENTS(kernel, value)                                            \
  void NAME(kernel)(const elements_args *g) {                              \
    long n = g->rows.cols;                                                 \
    for (long r = g->rows.from; r < g->rows.to; r++) {                     \
      float *y = row(g->y, r);                                             \
      const float *a = row(g->a, r), *b = row(g->b, r);                    \
      (void)a, (void)b;                                                    \
      EACH(n, STORE(y, value));                                            \
    }                                                                      \
  }
ELEMENTS(copy, LOAD(a))
ELEMENTS(zero, set1(0))
ELEMENTS(add, LOAD(a) + LOAD(b))
ELEMENTS(mul, LOAD(a) * LOAD(b))
ELEMENTS(axpy, LOAD(y) + g->alpha * LOAD(a))

#define GELU_C 0.7978845608f
#define GELU_K 0.044715f

// The functions by the numbers of engine.Activation.
enum { GELU_TANH, GELU, QUICK_GELU, SILU };

// activation is f(x). Arguments of the tanh form are limited to where it is x or 0 in float32: the cube may overflow.
INLINE vf activation(const int f, vf x) {
  if (f == GELU_TANH) {
    vf c = within(x, 12);
    return x * vsigmoid(2 * GELU_C * (c + GELU_K * c * c * c));
  }
  if (f == GELU) return x * vphi(within(x, 20));
  return x * vsigmoid(f == QUICK_GELU ? 1.702f * x : x);
}

// derivative is f'(x), its argument limited to where it is 0 or 1 in float32.
INLINE vf derivative(const int f, vf x) {
  vf c = within(x, f == GELU ? 20 : 60);
  if (f == GELU_TANH) {
    c = within(x, 12);
    vf s = vsigmoid(2 * GELU_C * (c + GELU_K * c * c * c));
    return s + c * s * (1.0f - s) * (2 * GELU_C) * (1.0f + 3 * GELU_K * c * c);
  }
  if (f == GELU) return vphi(c) + c * 0.39894228f * vexp(-0.5f * c * c);
  float a = f == QUICK_GELU ? 1.702f : 1.0f;
  vf s = vsigmoid(a * c);
  return s + a * c * s * (1.0f - s);
}

INLINE void activate(const activation_args *g, const int f) {
  long n = g->rows.cols;
  for (long r = g->rows.from; r < g->rows.to; r++) {
    float *y = row(g->y, r), *x = row(g->x, r);
    EACH(n, STORE(y, activation(f, LOAD(x))));
  }
}

INLINE void activate_back(const activation_args *g, const int f) {
  long n = g->rows.cols;
  for (long r = g->rows.from; r < g->rows.to; r++) {
    float *y = row(g->y, r), *dy = row(g->dy, r), *x = row(g->x, r);
    EACH(n, STORE(y, LOAD(dy) * derivative(f, LOAD(x))));
  }
}

// BY_FUNCTION compiles a kernel once for each activation.
#define BY_FUNCTION(kernel)                          \
  void NAME(kernel)(const activation_args *g) {      \
    switch (g->function) {                           \
      case GELU_TANH: kernel(g, GELU_TANH); break;   \
      case GELU: kernel(g, GELU); break;             \
      case QUICK_GELU: kernel(g, QUICK_GELU); break; \
      case SILU: kernel(g, SILU); break;             \
    }                                                \
  }
BY_FUNCTION(activate)
BY_FUNCTION(activate_back)

void NAME(bias)(const bias_args *g) {
  long n = g->rows.cols;
  const float *bias = (const float *)g->bias;
  for (long r = g->rows.from; r < g->rows.to; r++) {
    float *y = row(g->y, r);
    EACH(n, STORE(y, g->add ? LOAD(y) + LOAD(bias) : LOAD(bias)));
  }
}

// transpose: tiles of 8×8 go through registers where those hold 8 values, the rest value by value.
void NAME(transpose)(const transpose_args *g) {
  long n = g->rows.cols, r = g->rows.from;
#if V >= 8 && defined(__x86_64__)
  for (; r + 8 <= g->rows.to; r += 8) {
    long c = 0;
    for (; c + 8 <= n; c += 8) {
      __m256 v[8];
      for (int i = 0; i < 8; i++) v[i] = _mm256_loadu_ps(row(g->x, c + i) + r);
      transpose8(v);
      for (int i = 0; i < 8; i++) _mm256_storeu_ps(row(g->y, r + i) + c, v[i]);
    }
    for (; c < n; c++)
      for (int i = 0; i < 8; i++) row(g->y, r + i)[c] = row(g->x, c)[r + i];
  }
#endif
  for (; r < g->rows.to; r++)
    for (long c = 0; c < n; c++) row(g->y, r)[c] = row(g->x, c)[r];
}
