// Matrix products. C is m×n; the right operand is packed into panels of NR columns ([k][NR] each, the last one padded
// with zeros), the left one is read in place or from panels of MR rows. Every value of C is one chain of multiply-adds
// over k, the same for each place in a tile and each kind of edge, so splitting the rows or columns changes no bit.

#define NV (NR / V)

// finish stores rows of sums t [mr, NR], n columns of them, with the roundings that whole registers have.
NOINLINE void finish(const float *t, int mr, float *c, long ldc, long n, float alpha, const float *bias, int add) {
  for (int i = 0; i < mr; i++)
    for (long j = 0; j < n; j += V) {
      float *at = c + i * ldc + j;
      vf y = ld(t + i * NR + j) * alpha;
      if (bias) y += ldn(bias + j, n - j);
      if (add) y += ldn(at, n - j);
      stn(at, y, n - j);
    }
}

INLINE void micro(const int mr, long k, const float *a, long rows, long cols, const float *b, float *c, long ldc, long n,
                  float alpha, const float *bias, int add) {
  vf acc[MR][NV];
#pragma GCC unroll 16
  for (int i = 0; i < mr; i++)
#pragma GCC unroll 4
    for (int j = 0; j < NV; j++) acc[i][j] = set1(0);
  for (long p = 0; p < k; p++) {
    vf col[NV];
#pragma GCC unroll 4
    for (int j = 0; j < NV; j++) col[j] = ld(b + j * V);
#pragma GCC unroll 16
    for (int i = 0; i < mr; i++) {
      vf x = set1(a[i * rows]);
#pragma GCC unroll 4
      for (int j = 0; j < NV; j++) acc[i][j] += x * col[j];
    }
    a += cols;
    b += NR;
  }
  if (n < NR) { // an edge: finish value by value
    float t[MR][NR];
#pragma GCC unroll 16
    for (int i = 0; i < mr; i++)
#pragma GCC unroll 4
      for (int j = 0; j < NV; j++) st(&t[i][j * V], acc[i][j]);
    finish(&t[0][0], mr, c, ldc, n, alpha, bias, add);
    return;
  }
#pragma GCC unroll 16
  for (int i = 0; i < mr; i++)
#pragma GCC unroll 4
    for (int j = 0; j < NV; j++) {
      float *at = c + i * ldc + j * V;
      vf y = acc[i][j] * alpha;
      if (bias) y += ld(bias + j * V);
      if (add) y += ld(at);
      st(at, y);
    }
}

// strip runs the micro kernel of the right height over rows read in place, strip_packed over interleaved ones.
#define CASE(h) \
  case h: micro(h, k, a, rows, cols, b, c, ldc, n, alpha, bias, add); break;
#define HEIGHTS_6(DO) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6)
#define HEIGHTS_14(DO) HEIGHTS_6(DO) DO(7) DO(8) DO(9) DO(10) DO(11) DO(12) DO(13) DO(14)
#define HEIGHTS_(DO, n) HEIGHTS_##n(DO)
#define HEIGHTS(DO, n) HEIGHTS_(DO, n)

NOINLINE void strip(int mr, long k, const float *a, long rows, const float *b, float *c, long ldc, long n, float alpha,
                  const float *bias, int add) {
  const long cols = 1;
  switch (mr) { HEIGHTS(CASE, MR) }
}

NOINLINE void strip_packed(int mr, long k, const float *a, long cols, const float *b, float *c, long ldc, long n,
                         float alpha, const float *bias, int add) {
  const long rows = 1;
  switch (mr) { HEIGHTS(CASE, MR) }
}

// product: C = alpha·A·B + bias (+ C when add) over panels of B `panel` floats apart. A's element (i, p) is at
// a[i·rows + p·cols] where rows or cols is 1; packed A has rows 1, cols MR and `lift` floats between its panels.
NOINLINE void product(long m, long n, long k, const float *a, long rows, long cols, long lift, const float *b, long panel,
                    float *c, long ldc, float alpha, const float *bias, int add) {
  for (long j = 0; j < n; j += NR) {
    const float *bj = b + j / NR * panel;
    const float *biasj = bias ? bias + j : 0;
    for (long i = 0; i < m; i += MR) {
      int mr = m - i < MR ? (int)(m - i) : MR;
      const float *ai = a + i / MR * lift;
      if (cols == 1)
        strip(mr, k, ai, rows, bj, c + i * ldc + j, ldc, n - j, alpha, biasj, add);
      else
        strip_packed(mr, k, ai, cols, bj, c + i * ldc + j, ldc, n - j, alpha, biasj, add);
    }
  }
}

void NAME(product)(const product_args *g) {
  product(g->m, g->n, g->k, (const float *)g->a, g->rows, g->cols, g->lift, (const float *)g->b, g->panel, (float *)g->c,
          g->ldc, g->alpha, (const float *)g->bias, g->add);
}

typedef uint32_t __attribute__((may_alias)) bits;

INLINE float widen(uint16_t x) {
  uint32_t u = (uint32_t)x << 16;
  float f;
  memcpy(&f, &u, 4);
  return f;
}

#if V >= 8 && defined(__x86_64__)

INLINE __m256 load8_f32(const float *p) { return _mm256_loadu_ps(p); }
INLINE __m256 load8_bf16(const uint16_t *p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16));
}

// transpose8 turns rows into columns.
INLINE void transpose8(__m256 r[8]) {
  __m256 t[8], u[8];
  for (int i = 0; i < 4; i++) {
    t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
  for (int i = 0; i < 2; i++)
    for (int j = 0; j < 2; j++) {
      u[4 * i + 2 * j] = _mm256_shuffle_ps(t[4 * i + j], t[4 * i + 2 + j], 0x44);
      u[4 * i + 2 * j + 1] = _mm256_shuffle_ps(t[4 * i + j], t[4 * i + 2 + j], 0xee);
    }
  for (int i = 0; i < 4; i++) {
    r[i] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
    r[i + 4] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
  }
}

// blocks interleaves as many whole blocks of 8 columns as there are and returns how many columns those were. Whole
// registers are stored even where a row is narrower: what spills into the next row is written again after it, since rows
// go upwards and the right parts of rows come first. Only the last row must not spill.
#define BLOCKS(fn, type, load)                                                                      \
  INLINE long fn(float *dst, const type *src, long stride, long n, long k, long width) {           \
    for (long p = 0; p + 8 <= k; p += 8)                                                            \
      for (long r = (width - 1) / 8 * 8; r >= 0; r -= 8) {                                          \
        __m256 v[8];                                                                                \
        for (int i = 0; i < 8; i++)                                                                 \
          v[i] = r + i < n ? load(src + (r + i) * stride + p) : _mm256_setzero_ps();               \
        transpose8(v);                                                                              \
        for (int i = 0; i < 8; i++) {                                                               \
          float *d = dst + (p + i) * width + r;                                                     \
          if (r + 8 <= width || p + i + 1 < k)                                                      \
            _mm256_storeu_ps(d, v[i]);                                                              \
          else                                                                                      \
            memcpy(d, &v[i], (size_t)(width - r) * 4);                                              \
        }                                                                                           \
      }                                                                                             \
    return k / 8 * 8;                                                                               \
  }
BLOCKS(blocks_f32, float, load8_f32)
BLOCKS(blocks_bf16, uint16_t, load8_bf16)
#else
#define blocks_f32(dst, src, stride, n, k, width) 0
#define blocks_bf16(dst, src, stride, n, k, width) 0
#endif

// interleave packs rows of a row-major matrix as panel columns: dst[p·width + r] = src[r·stride + p], zero for r >= n.
#define INTERLEAVE(fn, type, blocks, convert)                                                          \
  INLINE void fn(float *dst, const type *src, long stride, long n, long k, long width) {              \
    for (long p = blocks(dst, src, stride, n, k, width); p < k; p++)                                   \
      for (long r = 0; r < width; r++) dst[p * width + r] = r < n ? convert(src[r * stride + p]) : 0; \
  }
#define SAME(x) (x)
INTERLEAVE(interleave_f32, float, blocks_f32, SAME)
INTERLEAVE(interleave_bf16, uint16_t, blocks_bf16, widen)

// slice packs k rows of a row-major matrix, n of width columns: dst[p·width + c] = src[p·stride + c], zero for c >= n.
#define SLICE(fn, type, convert)                                                                 \
  INLINE void fn(float *dst, const type *src, long stride, long n, long k, long width) {        \
    for (long p = 0; p < k; p++, dst += width, src += stride) {                                  \
      if (n == width)                                                                            \
        for (long c = 0; c < width; c++) dst[c] = convert(src[c]);                              \
      else                                                                                       \
        for (long c = 0; c < width; c++) dst[c] = c < n ? convert(src[c]) : 0;                  \
    }                                                                                            \
  }
SLICE(slice_f32, float, SAME)
SLICE(slice_bf16, uint16_t, widen)

// pack makes the panels of n columns and k rows of a right operand. With `rows` the source holds one row per column
// (a weight [Out, In] used as its transpose), else one row per k.
INLINE void pack_width(float *dst, long panel, const void *src, int bf16, int rows, long stride, long n, long k, const long width) {
  for (long j = 0; j < n; j += width, dst += panel) {
    long w = n - j < width ? n - j : width;
    long from = rows ? j * stride : j;
    if (bf16 && rows) interleave_bf16(dst, (const uint16_t *)src + from, stride, w, k, width);
    if (bf16 && !rows) slice_bf16(dst, (const uint16_t *)src + from, stride, w, k, width);
    if (!bf16 && rows) interleave_f32(dst, (const float *)src + from, stride, w, k, width);
    if (!bf16 && !rows) slice_f32(dst, (const float *)src + from, stride, w, k, width);
  }
}

NOINLINE void pack(float *dst, long panel, const void *src, int bf16, int rows, long stride, long n, long k) {
  pack_width(dst, panel, src, bf16, rows, stride, n, k, NR);
}

// rounded is the upper half of the bits of x, rounded to nearest even; a NaN stays one.
INLINE uint32_t rounded(uint32_t u) {
  return (u & 0x7fffffff) > 0x7f800000 ? u | 0x400000 : u + 0x7fff + (u >> 16 & 1);
}

// round_panels rounds the values of panels of k rows of n, padded to whole ones of `width`, to bfloat16.
INLINE void round_panels(bits *dst, long panel, long n, long k, long width) {
  for (long j = 0; j < n; j += width, dst += panel)
    for (long i = 0; i < k * width; i++) dst[i] = rounded(dst[i]) & 0xffff0000;
}

void NAME(pack)(const pack_args *g) {
  pack((float *)g->dst, g->panel, (const void *)g->src, g->bf16, g->rows, g->stride, g->n, g->k);
  if (g->round && !g->bf16) round_panels((bits *)g->dst, g->panel, g->n, g->k, NR);
}

void NAME(pack_left)(const pack_args *g) {
  pack_width((float *)g->dst, g->panel, (const void *)g->src, 0, g->rows, g->stride, g->n, g->k, MR);
  if (g->round) round_panels((bits *)g->dst, g->panel, g->n, g->k, MR);
}

void NAME(narrow)(const pack_args *g) {
  uint16_t *dst = (uint16_t *)g->dst;
  const bits *src = (const bits *)g->src;
  for (long i = 0; i < g->k; i++, dst += g->n, src += g->stride)
    for (long j = 0; j < g->n; j++) dst[j] = (uint16_t)(rounded(src[j]) >> 16);
}

void NAME(widen)(const pack_args *g) {
  float *dst = (float *)g->dst;
  const uint16_t *src = (const uint16_t *)g->src;
  for (long i = 0; i < g->k; i++, dst += g->n, src += g->stride)
    for (long j = 0; j < g->n; j++) dst[j] = widen(src[j]);
}
