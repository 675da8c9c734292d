// Vectors of V floats in GCC's and clang's portable vector extension, and the functions on them that kernels need.
// Included once per instruction set by a file that has defined V, MR, NR and NAME.

#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define NOINLINE static __attribute__((noinline))

typedef float vf __attribute__((vector_size(4 * V)));
typedef int32_t vi __attribute__((vector_size(4 * V)));
typedef float vf_mem __attribute__((vector_size(4 * V), aligned(4), may_alias));

INLINE vf ld(const float *p) { return *(const vf_mem *)p; }
INLINE void st(float *p, vf x) { *(vf_mem *)p = x; }
INLINE vf set1(float x) { return x - (vf){0}; }
INLINE vi set1i(int32_t x) { return x - (vi){0}; }

// pick chooses a where the mask is all ones and b where it is zero. Limits let a NaN in x pass through.
#if V == 8 && defined(__x86_64__)
INLINE vf pick(vi mask, vf a, vf b) { return (vf)_mm256_blendv_ps((__m256)b, (__m256)a, (__m256)mask); }
INLINE vf at_most(vf x, vf limit) { return (vf)_mm256_min_ps((__m256)limit, (__m256)x); }
INLINE vf at_least(vf x, vf limit) { return (vf)_mm256_max_ps((__m256)limit, (__m256)x); }
#elif V == 16
INLINE vf pick(vi mask, vf a, vf b) {
  return (vf)_mm512_mask_blend_ps(_mm512_cmplt_epi32_mask((__m512i)mask, _mm512_setzero_si512()), (__m512)b, (__m512)a);
}
INLINE vf at_most(vf x, vf limit) { return (vf)_mm512_min_ps((__m512)limit, (__m512)x); }
INLINE vf at_least(vf x, vf limit) { return (vf)_mm512_max_ps((__m512)limit, (__m512)x); }
#else
INLINE vf pick(vi mask, vf a, vf b) { return (vf)((mask & (vi)a) | (~mask & (vi)b)); }
INLINE vf at_most(vf x, vf limit) { return pick(x > limit, limit, x); }
INLINE vf at_least(vf x, vf limit) { return pick(x < limit, limit, x); }
#endif
INLINE vf within(vf x, float limit) { return at_most(at_least(x, set1(-limit)), set1(limit)); }

// first masks the first n lanes.
INLINE vi first(long n) {
  vi lane;
  for (int i = 0; i < V; i++) lane[i] = i;
  return lane < set1i(n >= V ? V : (int32_t)n);
}

// ldn and stn move the first n values only (all of them when n >= V); ldn fills the rest with zeros.
#if V == 8 && defined(__x86_64__)
INLINE vf ldn(const float *p, long n) { return n >= V ? ld(p) : (vf)_mm256_maskload_ps(p, (__m256i)first(n)); }
INLINE void stn(float *p, vf x, long n) {
  if (n >= V)
    st(p, x);
  else
    _mm256_maskstore_ps(p, (__m256i)first(n), (__m256)x);
}
#elif V == 16
INLINE vf ldn(const float *p, long n) { return n >= V ? ld(p) : (vf)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p); }
INLINE void stn(float *p, vf x, long n) {
  if (n >= V)
    st(p, x);
  else
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)x);
}
#else
NOINLINE vf ld_part(const float *p, long n) {
  float t[V] = {0};
  for (long i = 0; i < n; i++) t[i] = p[i];
  return ld(t);
}
NOINLINE void st_part(float *p, vf x, long n) {
  float t[V];
  st(t, x);
  for (long i = 0; i < n; i++) p[i] = t[i];
}
INLINE vf ldn(const float *p, long n) { return n >= V ? ld(p) : ld_part(p, n); }
INLINE void stn(float *p, vf x, long n) {
  if (n >= V)
    st(p, x);
  else
    st_part(p, x, n);
}
#endif

// sum and top add or compare the lanes in halves: a fixed order.
#if V >= 8 && defined(__x86_64__)
#if V == 16
INLINE __m256 half(vf x, int i) {
  __m512d d = _mm512_castps_pd((__m512)x);
  return _mm256_castpd_ps(i ? _mm512_extractf64x4_pd(d, 1) : _mm512_castpd512_pd256(d));
}
#define FOLD(name, op, op4, op1)                                                     \
  INLINE float name(vf v) {                                                          \
    __m256 x = op(half(v, 0), half(v, 1));                                           \
    __m128 y = op4(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));          \
    y = op4(y, _mm_movehl_ps(y, y));                                                 \
    return _mm_cvtss_f32(op1(y, _mm_movehdup_ps(y)));                                \
  }
#else
#define FOLD(name, op, op4, op1)                                                     \
  INLINE float name(vf v) {                                                          \
    __m256 x = (__m256)v;                                                            \
    __m128 y = op4(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));          \
    y = op4(y, _mm_movehl_ps(y, y));                                                 \
    return _mm_cvtss_f32(op1(y, _mm_movehdup_ps(y)));                                \
  }
#endif
FOLD(sum, _mm256_add_ps, _mm_add_ps, _mm_add_ss)
FOLD(top, _mm256_max_ps, _mm_max_ps, _mm_max_ss)
#else
INLINE float sum(vf x) {
  float t[V];
  st(t, x);
  for (int w = V / 2; w > 0; w /= 2)
    for (int i = 0; i < w; i++) t[i] += t[i + w];
  return t[0];
}
INLINE float top(vf x) {
  float t = x[0];
  for (int i = 1; i < V; i++) t = x[i] > t ? x[i] : t;
  return t;
}
#endif

INLINE vf vsqrt(vf x) {
#if V == 16
  return (vf)_mm512_sqrt_ps((__m512)x);
#elif V == 8 && defined(__x86_64__)
  return (vf)_mm256_sqrt_ps((__m256)x);
#elif defined(__x86_64__)
  return (vf)_mm_sqrt_ps((__m128)x);
#else
  vf y;
  for (int i = 0; i < V; i++) y[i] = __builtin_sqrtf(x[i]);
  return y;
#endif
}
INLINE float root(float x) { return vsqrt(set1(x))[0]; }

// vexp is eˣ to 1e-7 of the result: 2ⁿ·e^r with |r| <= ln2/2. Below -87.3 it is 0 (no denormals), above 88.3 it stays at
// 2.2e38: for softmax, sigmoid and the bell curve that is as good as infinity, and it never makes a NaN.
INLINE vf vexp(vf x) {
  vf c = at_most(at_least(x, set1(-87.3f)), set1(88.3f));
  vf magic = set1(12582912.0f); // 1.5·2²³ rounds to an integer when added
  vf n = (c * 1.44269504f + magic) - magic;
  vf r = c - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  vf p = set1(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  vf y = p * (vf)((__builtin_convertvector(n, vi) + 127) << 23);
  return pick(x < set1(-87.3f), set1(0), y);
}

// vsigmoid is 1/(1+e⁻ˣ), exactly 0 below −87.3: it is multiplied with numbers of any size.
INLINE vf vsigmoid(vf x) { return pick(x < set1(-87.3f), set1(0), 1.0f / (1.0f + vexp(-x))); }

// vphi is the standard normal distribution function, to 2e-7 (Chebyshev fit of erfc, Numerical Recipes §6.2).
INLINE vf vphi(vf x) {
  vf a = x * 0.70710678f;
  vf z = pick(a < set1(0), -a, a);
  vf t = 1.0f / (1.0f + 0.5f * z);
  vf p = set1(0.17087277f);
  p = p * t - 0.82215223f;
  p = p * t + 1.48851587f;
  p = p * t - 1.13520398f;
  p = p * t + 0.27886807f;
  p = p * t - 0.18628806f;
  p = p * t + 0.09678418f;
  p = p * t + 0.37409196f;
  p = p * t + 1.00002368f;
  p = p * t - 1.26551223f;
  vf q = 0.5f * t * vexp(p - z * z); // half of erfc(|x|/√2)
  return pick(x < set1(0), q, 1.0f - q);
}
