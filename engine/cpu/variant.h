// One instruction set's kernels and their table. The including file defines V, MR, NR and NAME.

#include "kernels.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include "vector.h"
#include "gemm.h"
#include "thin.h"
#include "rows.h"
#include "attention.h"
#include "images.h"

const kernels NAME(kernels) = {
    .product = NAME(product),
    .pack = NAME(pack),
    .pack_left = NAME(pack_left),
    .widen = NAME(widen),
    .narrow = NAME(narrow),
    .thin = NAME(thin),
    .rows = NAME(rows),
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
