// The optimiser's kernels.

// adamw: one step on n values. Decay and step are summed before the weight is rounded once: on its own a decay below half a
// unit in the last place (lr·wd < 3e-8) would round away in every step.
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
    vf step = g->rate * mean / (vsqrt(square) * g->root + g->eps);
    vf old = LOAD(w);
    STORE(w, old - (old * g->decay + step));
  });
}

// sum_squares adds in float64, in eight interleaved sums.
double NAME(sum_squares)(const float *x, long n) {
  double s[8] = {0};
  long j = 0;
  for (; j + 8 <= n; j += 8)
    for (int i = 0; i < 8; i++) s[i] += (double)x[j + i] * x[j + i];
  for (; j < n; j++) s[j % 8] += (double)x[j] * x[j];
  return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
}
