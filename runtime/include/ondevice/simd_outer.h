/* Outer products of int8 vectors: the tensor intrinsics of weight gradients.
 *
 * As in simd.h, each has a portable form and one with DSP instructions, and both give the same
 * integers. `offset` is added to each x: it is minus the zero point.
 */
#ifndef ONDEVICE_SIMD_OUTER_H
#define ONDEVICE_SIMD_OUTER_H

#include "ondevice/simd.h"

/* sums[i] += (x[i] + offset) * gradient, i < 4. */
static inline void od_outer4(int32_t *sums, const int8_t *x, const int8_t *gradient,
                             int32_t offset) {
    const int32_t d = *gradient;
#if OD_HAS_DSP
    const od_pair_t both = od_both(offset);
    const int32_t word = od_load4(x);
    const int32_t odd = (int32_t)od_odd_plus(word, both);
    const int32_t even = (int32_t)od_even_plus(word, both);
    sums[0] = __smlabb(even, d, sums[0]);
    sums[1] = __smlabb(odd, d, sums[1]);
    sums[2] = __smlatb(even, d, sums[2]);
    sums[3] = __smlatb(odd, d, sums[3]);
#else
    for (int32_t i = 0; i < 4; i++) {
        sums[i] += (x[i] + offset) * d;
    }
#endif
}

/* One product. */
static inline void od_outer1(int32_t *sum, const int8_t *x, const int8_t *gradient,
                             int32_t offset) {
    *sum += (*x + offset) * *gradient;
}

#endif
