// Kernels over images.

// taps packs one panel of the unfolded image: dst[(k − k0)·NR + c] is the input value that kernel element k meets at
// output pixel from + c, for k in [k0, k1) of In·kernel², and zero outside the image or beyond n pixels.
static void taps(const conv_args *g, float *dst, long from, long n, long k0, long k1) {
  long side = g->kernel, area = side * side;
  for (long k = k0; k < k1; k++, dst += NR) {
    const float *plane = (const float *)g->x + k / area * g->h * g->width;
    long dy = k % area / side - g->top, dx = k % side - g->left;
    for (long c = n; c < NR; c++) dst[c] = 0;
    long row = from / g->out_w, col = from % g->out_w;
    for (long c = 0; c < n; row++, col = 0) {
      long run = g->out_w - col < n - c ? g->out_w - col : n - c, y = row * g->stride + dy;
      long lo = col, hi = col + run; // columns of this output row that lie inside the input
      if (y < 0 || y >= g->h) hi = lo;
      while (lo < hi && lo * g->stride + dx < 0) lo++;
      while (hi > lo && (hi - 1) * g->stride + dx >= g->width) hi--;
      float *d = dst + c - col;
      const float *line = plane + y * g->width + dx;
      for (long i = col; i < lo; i++) d[i] = 0;
      if (g->stride == 1 && hi - lo == NR)
        for (long i = 0; i < NR; i += V) st(d + lo + i, ld(line + lo + i));
      else
        for (long i = lo; i < hi; i++) d[i] = line[i * g->stride];
      for (long i = hi; i < col + run; i++) d[i] = 0;
      c += run;
    }
  }
}

#define CONV_K 288 // depth of one block of panels: whole 3×3 kernels

long NAME(convolve_scratch)(const conv_args *g) { return (g->to - g->from + NR) * CONV_K; }

// convolve: all output channels of output pixels [from, to).
void NAME(convolve)(const conv_args *g, float *panels) {
  long depth = g->in * g->kernel * g->kernel, size = g->out_h * g->out_w, n = g->to - g->from;
  float *y = (float *)g->y + g->from;
  const float *bias = (const float *)g->bias;
  for (long o = 0; o < g->out; o++)
    for (long j = 0; j < n; j += V) stn(y + o * size + j, set1(bias ? bias[o] : 0), n - j);
  for (long k = 0; k < depth; k += CONV_K) {
    long d = depth - k < CONV_K ? depth - k : CONV_K;
    for (long c = 0; c < n; c += NR) taps(g, panels + c * d, g->from + c, n - c < NR ? n - c : NR, k, k + d);
    product(g->out, n, d, (const float *)g->w + k, g->stride_w, 1, MR * g->stride_w, panels, NR * d, y, size, 1, 0, 1);
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
