// One instruction set's kernels and their table. The including file defines V, MR, NR and NAME.

#include "kernels.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include "vector.h"
#include "gemm.h"
#include "thin.h"
#include "elements.h"
#include "rows.h"
#include "optimizer.h"
#include "attention.h"
#include "images.h"

const kernels NAME(kernels) = {
    .product = NAME(product),
    .pack = NAME(pack),
    .pack_left = NAME(pack_left),
    .widen = NAME(widen),
    .narrow = NAME(narrow),
    .thin = NAME(thin),
    .copy = NAME(copy),
    .zero = NAME(zero),
    .add = NAME(add),
    .mul = NAME(mul),
    .axpy = NAME(axpy),
    .activate = NAME(activate),
    .activate_back = NAME(activate_back),
    .bias = NAME(bias),
    .transpose = NAME(transpose),
    .layer_norm = NAME(layer_norm),
    .rms_norm = NAME(rms_norm),
    .modulate = NAME(modulate),
    .modulate_back = NAME(modulate_back),
    .gate_add = NAME(gate_add),
    .gate_back = NAME(gate_back),
    .sample_sums = NAME(sample_sums),
    .attend_scratch = NAME(attend_scratch),
    .attend = NAME(attend),
    .attend_back = NAME(attend_back),
    .convolve_scratch = NAME(convolve_scratch),
    .convolve = NAME(convolve),
    .group_norm = NAME(group_norm),
    .adamw = NAME(adamw),
    .sum_squares = NAME(sum_squares),
    .mr = MR,
    .nr = NR,
};
