// Kernels over images.

// A convolution reads its input from padded copies of the lines that a tile meets, so that its kernel has no edges. With
// stride s a copied line holds the columns 0, s, 2s, …, then 1, s+1, …: what neighbouring outputs meet lies together.
typedef struct {
  long channels;     // of one block
  long rows, phase;  // lines of a channel, columns of a line's phase
  long line, plane;  // floats of a line and of a channel
} conv_copy;

#define CONV_K 288 // depth of one block: 32 channels of 3×3 kernels

INLINE conv_copy copy_of(const conv_args *g) {
  long area = g->kernel * g->kernel, channels = CONV_K / area ? CONV_K / area : 1;
  conv_copy k = {.channels = channels < g->in ? channels : g->in};
  k.rows = (g->to - g->from - 1) * g->stride + g->kernel;
  k.phase = ((g->out_w - 1) * g->stride + g->kernel + g->stride - 1) / g->stride;
  k.line = k.phase * g->stride;
  k.plane = k.rows * k.line;
  return k;
}

long NAME(convolve_scratch)(const conv_args *g) {
  conv_copy k = copy_of(g);
  return k.channels * k.plane + V - 1; // the last register may begin at the last value
}

// copy_line copies one input line (none outside the image) with zeros around it.
INLINE void copy_line(const conv_args *g, const conv_copy *k, float *dst, const float *src) {
  memset(dst, 0, (size_t)k->line * 4);
  if (!src) return;
  for (long p = 0; p < g->stride; p++, dst += k->phase) {
    long lo = p < g->left ? (g->left - p + g->stride - 1) / g->stride : 0;
    long hi = (g->width + g->left - p + g->stride - 1) / g->stride;
    if (hi > k->phase) hi = k->phase;
    const float *from = src + p - g->left;
    if (g->stride == 1 && hi > lo)
      memcpy(dst + lo, from + lo, (size_t)(hi - lo) * 4);
    else
      for (long q = lo; q < hi; q++) dst[q] = from[q * g->stride];
  }
}

// A place is one register of output pixels of a row: where its first tap lies, where it goes, how many it holds.
typedef struct {
  const float *x;
  float *y;
  long n;
} conv_place;

// taps adds mr output channels of NV places: one chain of multiply-adds per value, over channels and then kernel places.
INLINE void taps(const int mr, long channels, long area, const long *offsets, long plane, const float *w, long stride_w,
                 const conv_place *at, long size) {
  vf acc[MR][NV];
  const float *x[NV];
#pragma GCC unroll 4
  for (int j = 0; j < NV; j++) x[j] = at[j].x;
#pragma GCC unroll 16
  for (int i = 0; i < mr; i++)
#pragma GCC unroll 4
    for (int j = 0; j < NV; j++) acc[i][j] = set1(0);
  for (long c = 0; c < channels; c++) {
    for (long t = 0; t < area; t++, w++) {
      vf col[NV];
#pragma GCC unroll 4
      for (int j = 0; j < NV; j++) col[j] = ld(x[j] + offsets[t]);
#pragma GCC unroll 16
      for (int i = 0; i < mr; i++) {
        vf v = set1(w[i * stride_w]);
#pragma GCC unroll 4
        for (int j = 0; j < NV; j++) acc[i][j] += v * col[j];
      }
    }
#pragma GCC unroll 4
    for (int j = 0; j < NV; j++) x[j] += plane;
  }
#pragma GCC unroll 16
  for (int i = 0; i < mr; i++)
#pragma GCC unroll 4
    for (int j = 0; j < NV; j++) {
      float *y = at[j].y + i * size;
      stn(y, acc[i][j] + ldn(y, at[j].n), at[j].n);
    }
}

#define TAPS(h) \
  case h: taps(h, channels, area, offsets, plane, w, stride_w, at, size); break;

NOINLINE void taps_of(int mr, long channels, long area, const long *offsets, long plane, const float *w, long stride_w,
                      const conv_place *at, long size) {
  switch (mr) { HEIGHTS(TAPS, MR) }
}

// block adds what a block of copied channels gives to output rows [from, to).
INLINE void block(const conv_args *g, const conv_copy *k, long channels, const long *offsets, const float *copied, const float *w) {
  long area = g->kernel * g->kernel, size = g->out_h * g->out_w, wide = (g->out_w + V - 1) / V;
  long places = (g->to - g->from) * wide;
  for (long q = 0; q < places; q += NV) {
    conv_place at[NV];
    for (long j = 0; j < NV; j++) {
      long i = q + j < places ? q + j : places - 1, row = i / wide, col = i % wide * V;
      at[j].x = copied + row * g->stride * k->line + col;
      at[j].y = (float *)g->y + (g->from + row) * g->out_w + col;
      at[j].n = q + j < places ? g->out_w - col : 0;
    }
    for (long o = 0; o < g->out; o += MR) {
      int mr = g->out - o < MR ? (int)(g->out - o) : MR;
      taps_of(mr, channels, area, offsets, k->plane, w + o * g->stride_w, g->stride_w, at, size);
      for (long j = 0; j < NV; j++) at[j].y += mr * size;
    }
  }
}

// convolve: all output channels of output rows [from, to).
void NAME(convolve)(const conv_args *g, float *copied) {
  long side = g->kernel, area = side * side, size = g->out_h * g->out_w, n = (g->to - g->from) * g->out_w;
  float *y = (float *)g->y + g->from * g->out_w;
  const float *bias = (const float *)g->bias;
  for (long o = 0; o < g->out; o++)
    for (long j = 0; j < n; j += V) stn(y + o * size + j, set1(bias ? bias[o] : 0), n - j);
  conv_copy k = copy_of(g);
  long offsets[CONV_SIDE * CONV_SIDE];
  for (long t = 0; t < area; t++) offsets[t] = t / side * k.line + t % side % g->stride * k.phase + t % side / g->stride;
  for (long c = 0; c < g->in; c += k.channels) {
    long channels = g->in - c < k.channels ? g->in - c : k.channels;
    for (long i = 0; i < channels * k.rows; i++) {
      long row = g->from * g->stride - g->top + i % k.rows;
      const float *plane = (const float *)g->x + (c + i / k.rows) * g->h * g->width;
      copy_line(g, &k, copied + i * k.line, row < 0 || row >= g->h ? 0 : plane + row * g->width);
    }
    block(g, &k, channels, offsets, copied, (const float *)g->w + c * area);
  }
}

// group_norm: the channels of one group of one sample, which lie together.
void NAME(group_norm)(const group_args *g) {
  long n = g->channels * g->pixels, run = 2048;
  const float *x = (const float *)g->x;
  double total = 0, squares = 0;
  for (long i = 0; i < n; i += run) total += row_sum(x + i, n - i < run ? n - i : run);
  float mean = (float)(total / n);
  for (long i = 0; i < n; i += run) {
    long m = n - i < run ? n - i : run;
    vf s = set1(0);
    for (long j = 0; j < m; j += V) {
      vf d = pick(first(m - j), ldn(x + i + j, m - j) - mean, set1(0));
      s += d * d;
    }
    squares += sum(s);
  }
  float inverse = 1.0f / root((float)(squares / n) + g->eps);
  n = g->pixels;
  for (long c = 0; c < g->channels; c++) {
    const float *in = x + c * n;
    float *y = (float *)g->y + c * n;
    float w = ((const float *)g->weight)[c] * inverse, b = ((const float *)g->bias)[c];
    EACH(n, {
      vf v = (LOAD(in) - mean) * w + b;
      STORE(y, g->silu ? v * vsigmoid(v) : v);
    });
  }
}
