// Kernels over values and over single rows.

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

// row is row r of operand i.
INLINE float *row(const rows_args *g, int i, long r) { return (float *)g->p[i] + r * g->s[i]; }

#define GELU_C 0.7978845608f
#define GELU_K 0.044715f

// activation is f(x). Arguments of the tanh form are limited to where it is x or 0 in float32: the cube may overflow.
INLINE vf activation(int f, vf x) {
  if (f == 0) {
    vf c = within(x, 12);
    return x * vsigmoid(2 * GELU_C * (c + GELU_K * c * c * c));
  }
  if (f == 1) return x * vphi(within(x, 20));
  return x * vsigmoid(f == 2 ? 1.702f * x : x);
}

INLINE vf slope(int f, vf x) {
  vf c = within(x, f == 1 ? 20 : 60);
  if (f == 0) {
    c = within(x, 12);
    vf s = vsigmoid(2 * GELU_C * (c + GELU_K * c * c * c));
    return s + c * s * (1.0f - s) * (2 * GELU_C) * (1.0f + 3 * GELU_K * c * c);
  }
  if (f == 1) return vphi(c) + c * 0.39894228f * vexp(-0.5f * c * c);
  float a = f == 2 ? 1.702f : 1.0f;
  vf s = vsigmoid(a * c);
  return s + a * c * s * (1.0f - s);
}

INLINE void activate(const rows_args *g, const int f) {
  long n = g->cols;
  for (long r = g->from; r < g->to; r++) {
    float *y = row(g, 0, r), *x = row(g, 1, r);
    EACH(n, STORE(y, activation(f, LOAD(x))));
  }
}

INLINE void activate_back(const rows_args *g, const int f) {
  long n = g->cols;
  for (long r = g->from; r < g->to; r++) {
    float *dx = row(g, 0, r), *dy = row(g, 1, r), *x = row(g, 2, r);
    EACH(n, STORE(dx, LOAD(dy) * slope(f, LOAD(x))));
  }
}

INLINE float row_sum(const float *x, long n) {
  vf a = set1(0), b = set1(0);
  long j = 0;
  for (; j + 2 * V <= n; j += 2 * V) {
    a += ld(x + j);
    b += ld(x + j + V);
  }
  for (; j < n; j += V) a += LOAD_AT(x);
  return sum(a + b);
}

// moments is the mean and 1/√(var+eps), the variance around the mean.
INLINE void moments(const float *x, long n, float eps, float *mean, float *inverse) {
  float m = row_sum(x, n) / n;
  vf a = set1(0), b = set1(0);
  long j = 0;
  for (; j + 2 * V <= n; j += 2 * V) {
    vf d = ld(x + j) - m, e = ld(x + j + V) - m;
    a += d * d;
    b += e * e;
  }
  for (; j < n; j += V) {
    vf d = pick(first(n - j), LOAD_AT(x) - m, set1(0));
    a += d * d;
  }
  *mean = m;
  *inverse = 1.0f / root(sum(a + b) / n + eps);
}

INLINE float square_sum(const float *x, long n) {
  vf a = set1(0), b = set1(0);
  long j = 0;
  for (; j + 2 * V <= n; j += 2 * V) {
    vf d = ld(x + j), e = ld(x + j + V);
    a += d * d;
    b += e * e;
  }
  for (; j < n; j += V) {
    vf d = LOAD_AT(x);
    a += d * d;
  }
  return sum(a + b);
}

static void layer_norm(const rows_args *g) {
  long n = g->cols;
  const float *w = (const float *)g->p[2], *b = (const float *)g->p[3];
  for (long r = g->from; r < g->to; r++) {
    float *y = row(g, 0, r), *x = row(g, 1, r), m, s;
    moments(x, n, g->eps, &m, &s);
    EACH(n, {
      vf v = (LOAD(x) - m) * s;
      if (w) v *= LOAD(w);
      if (b) v += LOAD(b);
      STORE(y, v);
    });
  }
}

static void rms_norm(const rows_args *g) {
  long n = g->cols;
  const float *w = (const float *)g->p[2];
  for (long r = g->from; r < g->to; r++) {
    float *y = row(g, 0, r), *x = row(g, 1, r);
    float s = 1.0f / root(square_sum(x, n) / n + g->eps);
    EACH(n, {
      vf v = LOAD(x) * s;
      STORE(y, w ? v * LOAD(w) : v);
    });
  }
}

static void modulate(const rows_args *g) {
  long n = g->cols;
  for (long r = g->from; r < g->to; r++) {
    float *y = row(g, 0, r), *x = row(g, 1, r), *shift = row(g, 2, r / g->per), *scale = row(g, 3, r / g->per), m, s;
    moments(x, n, g->eps, &m, &s);
    EACH(n, STORE(y, (LOAD(x) - m) * s * (1.0f + LOAD(scale)) + LOAD(shift)));
  }
}

// modulate_back: operands dx, x, scale, dy; the rows' moments go to operand 4 when it is there; flag adds to dx.
static void modulate_back(const rows_args *g) {
  long n = g->cols;
  for (long r = g->from; r < g->to; r++) {
    float *dx = row(g, 0, r), *x = row(g, 1, r), *scale = row(g, 2, r / g->per), *dy = row(g, 3, r), m, s;
    moments(x, n, g->eps, &m, &s);
    vf total = set1(0), dot = set1(0);
    EACH(n, {
      vf d = LOAD(dy) * (1.0f + LOAD(scale)); // zero beyond the row
      total += d;
      dot += d * ((LOAD(x) - m) * s);
    });
    float mean = sum(total) / n, slant = sum(dot) / n;
    EACH(n, {
      vf d = LOAD(dy) * (1.0f + LOAD(scale));
      vf v = s * (d - mean - (LOAD(x) - m) * s * slant);
      STORE(dx, g->flag ? LOAD(dx) + v : v);
    });
    if (g->p[4]) {
      float *keep = row(g, 4, r);
      keep[0] = m;
      keep[1] = s;
    }
  }
}

static void gate_add(const rows_args *g) {
  long n = g->cols;
  for (long r = g->from; r < g->to; r++) {
    float *y = row(g, 0, r), *s = row(g, 1, r), *x = row(g, 2, r), *gate = row(g, 3, r / g->per);
    EACH(n, STORE(y, LOAD(s) + LOAD(gate) * LOAD(x)));
  }
}

static void gate_back(const rows_args *g) {
  long n = g->cols;
  for (long r = g->from; r < g->to; r++) {
    float *dx = row(g, 0, r), *dy = row(g, 1, r), *gate = row(g, 2, r / g->per);
    EACH(n, STORE(dx, LOAD(dy) * LOAD(gate)));
  }
}

// sample_sums: for samples [from, to) out = Σ dy·factor over the sample's rows in order, in runs of 32. The factor is 1,
// x (operand 2), or x normalised by the moments in operand 3.
static void sample_sums(const rows_args *g) {
  long n = g->cols;
  for (long b = g->from; b < g->to; b++) {
    float *out = row(g, 0, b);
    EACH(n, {
      vf all = set1(0);
      for (long r0 = b * g->per; r0 < (b + 1) * g->per; r0 += 32) {
        long end = r0 + 32 < (b + 1) * g->per ? r0 + 32 : (b + 1) * g->per;
        vf run = set1(0);
        for (long r = r0; r < end; r++) {
          vf d = ldn(row(g, 1, r) + j, n - j);
          if (g->p[2]) {
            vf x = ldn(row(g, 2, r) + j, n - j);
            if (g->p[3]) x = (x - row(g, 3, r)[0]) * row(g, 3, r)[1];
            d *= x;
          }
          run += d;
        }
        all += run;
      }
      STORE(out, all);
    });
  }
}

#define PLAIN(expr)                                     \
  for (long r = g->from; r < g->to; r++) {              \
    float *y = row(g, 0, r);                            \
    const float *a = row(g, 1, r), *b = row(g, 2, r);   \
    (void)a, (void)b;                                   \
    EACH(n, STORE(y, expr));                             \
  }                                                     \
  break;

#define BY_ACTIVATION(fn)            \
  switch (g->flag) {                 \
    case 0: fn(g, 0); break;         \
    case 1: fn(g, 1); break;         \
    case 2: fn(g, 2); break;         \
    default: fn(g, 3);               \
  }                                  \
  break;

void NAME(rows)(int kernel, const rows_args *g) {
  long n = g->cols;
  switch (kernel) {
    case ROW_COPY: PLAIN(LOAD(a))
    case ROW_ZERO: PLAIN(set1(0))
    case ROW_ADD: PLAIN(LOAD(a) + LOAD(b))
    case ROW_MUL: PLAIN(LOAD(a) * LOAD(b))
    case ROW_AXPY: PLAIN(LOAD(y) + g->alpha * LOAD(a))
    case ROW_ACTIVATE: BY_ACTIVATION(activate)
    case ROW_ACTIVATE_BACK: BY_ACTIVATION(activate_back)
    case ROW_LAYER_NORM: layer_norm(g); break;
    case ROW_RMS_NORM: rms_norm(g); break;
    case ROW_MODULATE: modulate(g); break;
    case ROW_MODULATE_BACK: modulate_back(g); break;
    case ROW_GATE_ADD: gate_add(g); break;
    case ROW_GATE_BACK: gate_back(g); break;
    case ROW_SAMPLE_SUMS: sample_sums(g); break;
  }
}

void NAME(adamw)(const adamw_args *g) {
  float *w = (float *)g->w, *m = (float *)g->m, *v = (float *)g->v;
  const float *d = (const float *)g->g;
  long n = g->n;
  EACH(n, {
    vf grad = LOAD(d) * g->scale;
    vf mean = LOAD(m) * g->beta1 + grad * g->rest1;
    vf square = LOAD(v) * g->beta2 + grad * grad * g->rest2;
    STORE(m, mean);
    STORE(v, square);
    STORE(w, LOAD(w) * g->decay - g->rate * mean / (vsqrt(square) * g->root + g->eps));
  });
}

double NAME(sum_squares)(const float *x, long n) {
  double s[8] = {0};
  long j = 0;
  for (; j + 8 <= n; j += 8)
    for (int i = 0; i < 8; i++) s[i] += (double)x[j + i] * x[j + i];
  for (; j < n; j++) s[j % 8] += (double)x[j] * x[j];
  return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
}
