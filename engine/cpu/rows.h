// Kernels over single rows, and sums over the rows of a sample.

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

void NAME(layer_norm)(const norm_args *g) {
  long n = g->rows.cols;
  const float *w = (const float *)g->weight, *b = (const float *)g->bias;
  for (long r = g->rows.from; r < g->rows.to; r++) {
    float *y = row(g->y, r), *x = row(g->x, r), m, s;
    moments(x, n, g->eps, &m, &s);
    EACH(n, {
      vf v = (LOAD(x) - m) * s;
      if (w) v *= LOAD(w);
      if (b) v += LOAD(b);
      STORE(y, v);
    });
  }
}

void NAME(rms_norm)(const norm_args *g) {
  long n = g->rows.cols;
  const float *w = (const float *)g->weight;
  for (long r = g->rows.from; r < g->rows.to; r++) {
    float *y = row(g->y, r), *x = row(g->x, r);
    float s = 1.0f / root(square_sum(x, n) / n + g->eps);
    EACH(n, {
      vf v = LOAD(x) * s;
      STORE(y, w ? v * LOAD(w) : v);
    });
  }
}

void NAME(modulate)(const modulate_args *g) {
  long n = g->rows.cols;
  for (long r = g->rows.from; r < g->rows.to; r++) {
    float *y = row(g->y, r), *x = row(g->x, r), m, s;
    const float *shift = row(g->shift, r / g->per_sample), *scale = row(g->scale, r / g->per_sample);
    moments(x, n, g->eps, &m, &s);
    EACH(n, STORE(y, (LOAD(x) - m) * s * (1.0f + LOAD(scale)) + LOAD(shift)));
  }
}

// modulate_back: with x̂ the normalised row and d = dy·(1 + scale), dx = s·(d − mean(d) − x̂·mean(d·x̂)).
void NAME(modulate_back)(const modulate_back_args *g) {
  long n = g->rows.cols;
  for (long r = g->rows.from; r < g->rows.to; r++) {
    float *dx = row(g->dx, r), *x = row(g->x, r), *scale = row(g->scale, r / g->per_sample), *dy = row(g->dy, r), m, s;
    moments(x, n, g->eps, &m, &s);
    vf total = set1(0), dot = set1(0);
    EACH(n, {
      vf d = LOAD(dy) * (1.0f + LOAD(scale)); // zero beyond the row
      total += d;
      dot += d * ((LOAD(x) - m) * s);
    });
    float mean_d = sum(total) / n, mean_dx = sum(dot) / n;
    EACH(n, {
      vf d = LOAD(dy) * (1.0f + LOAD(scale));
      vf v = s * (d - mean_d - (LOAD(x) - m) * s * mean_dx);
      STORE(dx, g->add ? LOAD(dx) + v : v);
    });
    if (g->moments.at) {
      row(g->moments, r)[0] = m;
      row(g->moments, r)[1] = s;
    }
  }
}

void NAME(gate_add)(const gate_args *g) {
  long n = g->rows.cols;
  for (long r = g->rows.from; r < g->rows.to; r++) {
    float *y = row(g->y, r), *s = row(g->s, r), *x = row(g->x, r), *gate = row(g->gate, r / g->per_sample);
    EACH(n, STORE(y, LOAD(s) + LOAD(gate) * LOAD(x)));
  }
}

void NAME(gate_back)(const gate_back_args *g) {
  long n = g->rows.cols;
  for (long r = g->rows.from; r < g->rows.to; r++) {
    float *dx = row(g->dx, r), *dy = row(g->dy, r), *gate = row(g->gate, r / g->per_sample);
    EACH(n, STORE(dx, LOAD(dy) * LOAD(gate)));
  }
}

// sample_sums: rows of out are samples, whose rows are added in order, in runs of 32.
void NAME(sample_sums)(const sample_sums_args *g) {
  long n = g->rows.cols;
  for (long b = g->rows.from; b < g->rows.to; b++) {
    float *out = row(g->out, b);
    EACH(n, {
      vf all = set1(0);
      for (long r0 = b * g->per_sample; r0 < (b + 1) * g->per_sample; r0 += 32) {
        long end = r0 + 32 < (b + 1) * g->per_sample ? r0 + 32 : (b + 1) * g->per_sample;
        vf run = set1(0);
        for (long r = r0; r < end; r++) {
          vf d = ldn(row(g->dy, r) + j, n - j);
          if (g->x.at) {
            vf x = ldn(row(g->x, r) + j, n - j);
            if (g->moments.at) x = (x - row(g->moments, r)[0]) * row(g->moments, r)[1];
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
