// Self-attention of one (sample, head): q, k and v are gathered, normalised and rotated into buffers of the worker, then
// tiles of queries meet all keys. No L×L matrix exists; the backward pass recomputes a tile's probabilities and adds its
// part of dk and dv, tile after tile.

typedef struct {
  const attend_args *g;
  long b, h, len, dim, keys; // keys: len rounded up to whole panels
  long span;                 // dim rounded up to whole panels
} head;

static head head_of(const attend_args *g, long index) {
  head a = {g, index / g->heads, index % g->heads, g->text + g->image, g->dim, 0, 0};
  a.keys = (a.len + NR - 1) / NR * NR;
  a.span = (a.dim + NR - 1) / NR * NR;
  return a;
}

// token is the row of token i of the head.
INLINE float *token(const head *a, matrix m, long i) {
  const attend_args *g = a->g;
  long r = i < g->text ? a->b * g->text + i : g->samples * g->text + a->b * g->image + i - g->text;
  return row(m, r) + a->h * a->dim;
}

INLINE const float *norm_weight(const head *a, const addr norm[2], long i) {
  return (const float *)norm[i < a->g->text ? 0 : 1];
}

INLINE float rms_inverse(const head *a, const float *x) {
  return 1.0f / root(square_sum(x, a->dim) / a->dim + a->g->eps);
}

// rope rotates the pairs of x by the angles of token i (rotary position embedding), backwards for sign −1.
INLINE void rope(const head *a, float *x, long i, float sign) {
  long half = a->dim / 2, p = 0;
  const float *c = (const float *)a->g->cos + i * half, *s = (const float *)a->g->sin + i * half;
#if V >= 8 && defined(__x86_64__)
  for (; p + 4 <= half; p += 4) {
    __m128 c4 = _mm_loadu_ps(c + p), s4 = _mm_mul_ps(_mm_loadu_ps(s + p), _mm_set1_ps(sign));
    __m256 cc = _mm256_set_m128(_mm_unpackhi_ps(c4, c4), _mm_unpacklo_ps(c4, c4));
    __m256 ss = _mm256_set_m128(_mm_unpackhi_ps(s4, s4), _mm_unpacklo_ps(s4, s4));
    __m256 v = _mm256_loadu_ps(x + 2 * p), swapped = _mm256_permute_ps(v, 0xb1);
    _mm256_storeu_ps(x + 2 * p, _mm256_addsub_ps(_mm256_mul_ps(v, cc), _mm256_mul_ps(swapped, ss)));
  }
#endif
  for (; p < half; p++) {
    float u = x[2 * p], v = x[2 * p + 1], t = sign * s[p];
    x[2 * p] = u * c[p] - v * t;
    x[2 * p + 1] = v * c[p] + u * t;
  }
}

// prepare gathers tokens as rows of dim values, normalised, rotated and scaled.
static void prepare(const head *a, float *out, matrix m, const addr norm[2], float scale) {
  long n = a->dim;
  for (long i = 0; i < a->len; i++, out += n) {
    const float *x = token(a, m, i), *w = norm_weight(a, norm, i);
    float s = w ? rms_inverse(a, x) * scale : scale;
    EACH(n, STORE(out, w ? LOAD(x) * s * LOAD(w) : LOAD(x) * s));
    if (a->g->cos) rope(a, out, i, 1);
  }
}

// prepare_back makes of the gradient row of token i after preparation (times scale) the one before: dx.
NOINLINE void prepare_back(const head *a, float *dx, float *grad, const float *x, const addr norm[2], long i, float scale) {
  long n = a->dim;
  const float *w = norm_weight(a, norm, i);
  if (a->g->cos) rope(a, grad, i, -1);
  if (!w) {
    EACH(n, STORE(dx, LOAD(grad) * scale));
    return;
  }
  float s = rms_inverse(a, x);
  vf dot = set1(0);
  EACH(n, dot += LOAD(grad) * LOAD(w) * LOAD(x));
  float projection = sum(dot) * s * s * s / n;
  EACH(n, STORE(dx, (LOAD(grad) * LOAD(w) * s - LOAD(x) * projection) * scale));
}

static void gather(const head *a, float *out, matrix m, long from, long to) {
  long n = a->dim;
  for (long i = from; i < to; i++, out += n) {
    const float *x = token(a, m, i);
    EACH(n, STORE(out, LOAD(x)));
  }
}

// softmax makes of the scores of query i e^(score − max), zero in the padding, and returns 1/sum, by which they are still
// to be multiplied.
static float softmax(const head *a, float *s, long i) {
  long n = a->g->causal ? i + 1 : a->len;
  if (a->g->bias) {
    const float *bias = (const float *)a->g->bias + (a->h * a->len + i) * a->len;
    EACH(n, STORE(s, LOAD(s) + LOAD(bias)));
  }
  vf least = set1(-__builtin_inff()), high = least;
  EACH(n, {
    vf x = rest ? pick(first(n - j), LOAD(s), least) : LOAD(s);
    high = at_least(x, high);
  });
  float most = top(high);
  vf total = set1(0);
  EACH(n, {
    vf e = vexp(LOAD(s) - most);
    STORE(s, e);
    total += rest ? pick(first(n - j), e, set1(0)) : e;
  });
  if (n < a->keys) memset(s + n, 0, (size_t)(a->keys - n) * sizeof(float));
  return 1.0f / sum(total);
}

// scores: s[rows, keys] = q·kᵀ.
NOINLINE void scores(const head *a, float *s, const float *q, const float *keys, long rows) {
  product(rows, a->keys, a->dim, q, a->dim, 1, MR * a->dim, keys, NR * a->dim, s, a->keys, 1, 0, 0);
}

// weighted_sum: o[rows, dim] = p·x over panels of len rows, in blocks of keys that stay in cache.
NOINLINE void weighted_sum(const head *a, float *o, const float *p, const float *x, long rows) {
  const long block = 256;
  for (long k = 0; k < a->len; k += block) {
    long n = a->len - k < block ? a->len - k : block;
    product(rows, a->dim, n, p + k, a->keys, 1, MR * a->keys, x + k * NR, NR * a->len, o, a->dim, 1, 0, k > 0);
  }
}

// attend_scratch is the floats that attend or attend_back lays out below.
long NAME(attend_scratch)(const attend_args *g, int back) {
  head a = head_of(g, 0);
  long rows = (a.len + 2 * MR) * a.dim, keys = a.dim * a.keys, values = a.span * a.len, tile = g->tile;
  if (back) return 4 * rows + 2 * keys + values + tile * (2 * a.keys + 3 * a.span);
  return 2 * rows + keys + values + tile * (a.keys + a.span);
}

void NAME(attend)(const attend_args *g, long index, float *w) {
  head a = head_of(g, index);
  long rows = (a.len + 2 * MR) * a.dim, n = a.dim;
  float *q = w, *tmp = q + rows, *keys = tmp + rows, *values = keys + a.dim * a.keys, *s = values + a.span * a.len;
  float *o = s + g->tile * a.keys;
  prepare(&a, tmp, g->k, g->norm_k, 1);
  pack(keys, NR * n, tmp, 0, 1, n, a.len, n);
  gather(&a, tmp, g->v, 0, a.len);
  pack(values, NR * a.len, tmp, 0, 0, n, n, a.len);
  prepare(&a, q, g->q, g->norm_q, g->scale);
  for (long t = 0; t < a.len; t += g->tile) {
    long m = a.len - t < g->tile ? a.len - t : g->tile;
    float inverse[m];
    scores(&a, s, q + t * n, keys, m);
    for (long i = 0; i < m; i++) inverse[i] = softmax(&a, s + i * a.keys, t + i);
    weighted_sum(&a, o, s, values, m);
    for (long i = 0; i < m; i++) {
      float *y = token(&a, g->o, t + i), *x = o + i * n;
      EACH(n, STORE(y, LOAD(x) * inverse[i]));
    }
  }
}

// softmax_back makes of the scores of query i its probabilities p, and of dp = do·vᵀ the gradient of the scores,
// p·(dp − delta) with delta = do·o.
static void softmax_back(const head *a, float *p, float *dp, long i, float delta) {
  long n = a->keys;
  float inverse = softmax(a, p, i);
  EACH(n, {
    vf x = LOAD(p) * inverse;
    STORE(p, x);
    STORE(dp, x * (LOAD(dp) - delta));
  });
}

INLINE float dot_rows(const float *x, const float *y, long n) {
  vf s = set1(0);
  EACH(n, s += LOAD(x) * LOAD(y));
  return sum(s);
}

void NAME(attend_back)(const attend_args *g, long index, float *w) {
  head a = head_of(g, index);
  long n = a.dim, rows = (a.len + 2 * MR) * n, tile = g->tile;
  float *q = w, *tmp = q + rows, *dk = tmp + rows, *dv = dk + rows;
  float *keys = dv + rows, *values = keys + n * a.keys, *key_rows = values + n * a.keys, *p = key_rows + a.span * a.len;
  float *dp = p + tile * a.keys, *dout = dp + tile * a.keys, *dq = dout + tile * a.span;
  float *panels = dq + tile * a.span;
  gather(&a, tmp, g->v, 0, a.len);
  pack(values, NR * n, tmp, 0, 1, n, a.len, n);
  prepare(&a, tmp, g->k, g->norm_k, 1);
  pack(keys, NR * n, tmp, 0, 1, n, a.len, n);
  pack(key_rows, NR * a.len, tmp, 0, 0, n, n, a.len);
  prepare(&a, q, g->q, g->norm_q, g->scale);
  for (long t = 0; t < a.len; t += tile) {
    long m = a.len - t < tile ? a.len - t : tile;
    scores(&a, p, q + t * n, keys, m);
    gather(&a, dout, g->dout, t, t + m);
    scores(&a, dp, dout, values, m);
    for (long i = 0; i < m; i++) {
      float delta = dot_rows(dout + i * n, token(&a, g->o, t + i), n);
      softmax_back(&a, p + i * a.keys, dp + i * a.keys, t + i, delta);
    }
    pack(panels, NR * m, dout, 0, 0, n, n, m);
    product(a.len, n, m, p, 1, a.keys, MR, panels, NR * m, dv, n, 1, 0, t > 0);
    pack(panels, NR * m, q + t * n, 0, 0, n, n, m);
    product(a.len, n, m, dp, 1, a.keys, MR, panels, NR * m, dk, n, 1, 0, t > 0);
    weighted_sum(&a, dq, dp, key_rows, m);
    for (long i = 0; i < m; i++)
      prepare_back(&a, token(&a, g->dq, t + i), dq + i * n, token(&a, g->q, t + i), g->norm_q, t + i, g->scale);
  }
  for (long i = 0; i < a.len; i++) {
    prepare_back(&a, token(&a, g->dk, i), dk + i * n, token(&a, g->k, i), g->norm_k, i, 1);
    float *y = token(&a, g->dv, i), *x = dv + i * n;
    EACH(n, STORE(y, LOAD(x)));
  }
}
