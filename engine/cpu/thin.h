// Products of a few rows with a weight as it lies: packing panels would cost more than the product itself.

typedef uint16_t vh __attribute__((vector_size(2 * V)));
typedef uint16_t vh_mem __attribute__((vector_size(2 * V), aligned(2), may_alias));
typedef uint32_t vu __attribute__((vector_size(4 * V)));

INLINE vf ld_bf16(const uint16_t *p) { return (vf)(__builtin_convertvector((vh) * (const vh_mem *)p, vu) << 16); }

NOINLINE vf ld_part_bf16(const uint16_t *p, long n) {
  float t[V] = {0};
  for (long i = 0; i < n; i++) t[i] = widen(p[i]);
  return ld(t);
}

INLINE vf ld_weight(addr w, long at, long n, const int bf16) {
  if (!bf16) return ldn((const float *)w + at, n);
  return n >= V ? ld_bf16((const uint16_t *)w + at) : ld_part_bf16((const uint16_t *)w + at, n);
}

// thin_rows: y[m, n] = x·wᵀ + bias (+ y when add), two columns at a time.
INLINE void thin_rows(const thin_args *g, const int m, const int bf16) {
  const float *bias = (const float *)g->bias;
  for (long j = 0; j < g->n; j += 2) {
    long second = j + 1 < g->n ? g->stride : 0;
    vf acc[THIN_ROWS][2];
    for (int i = 0; i < m; i++) acc[i][0] = acc[i][1] = set1(0);
    for (long p = 0; p < g->k; p += V) {
      long left = g->k - p;
      vf w0 = ld_weight(g->w, j * g->stride + p, left, bf16), w1 = ld_weight(g->w, j * g->stride + second + p, left, bf16);
#pragma GCC unroll 8
      for (int i = 0; i < m; i++) {
        vf x = ldn((const float *)g->x + i * g->ldx + p, left);
        acc[i][0] += x * w0;
        acc[i][1] += x * w1;
      }
    }
    for (int i = 0; i < m; i++)
      for (long c = 0; c < 2 && j + c < g->n; c++) {
        float *y = (float *)g->y + i * g->ldy + j + c, v = sum(acc[i][c]);
        if (bias) v += bias[j + c];
        *y = g->add ? *y + v : v;
      }
  }
}

#define THIN(m) \
  case m:       \
    if (g->bf16) thin_rows(g, m, 1); else thin_rows(g, m, 0); \
    break;

void NAME(thin)(const thin_args *g) {
  switch (g->m) { THIN(1) THIN(2) THIN(3) THIN(4) THIN(5) THIN(6) }
}
