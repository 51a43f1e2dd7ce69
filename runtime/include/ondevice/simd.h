/* Four int8 products at once: the tensor intrinsics of the generated kernels.
 *
 * Each has a portable form, which says what it computes, and one with the DSP instructions of
 * ARMv7E-M and ARMv8-M (Arm C Language Extensions); both give the same integers. gcc keeps what
 * two calls have in common in registers, so a tile of pixels and channels widens each byte once.
 * `offset` is added to each x: it is minus the zero point.
 */
#ifndef ONDEVICE_SIMD_H
#define ONDEVICE_SIMD_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__ARM_FEATURE_DSP) && __ARM_FEATURE_DSP == 1
#define OD_HAS_DSP 1
#include <arm_acle.h>
#else
#define OD_HAS_DSP 0
#endif

#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 1)
#define OD_HAS_MVE 1
#include <arm_mve.h>
#else
#define OD_HAS_MVE 0
#endif

/* A Q8.8 weight as kernels compute with it. */
static inline int32_t od_weight_q88(int16_t weight) { return weight >> 8; }

#if OD_HAS_DSP

typedef int16x2_t od_pair_t; /* two int16 in one register */

static inline int32_t od_load4(const void *bytes) {
    int32_t word;
    memcpy(&word, bytes, sizeof word); /* one LDR: these cores load unaligned words */
    return word;
}

static inline od_pair_t od_both(int32_t value) {
    return (od_pair_t)(((uint32_t)value << 16) | ((uint32_t)value & 0xFFFFu));
}

/* Bytes 0 and 2, and bytes 1 and 3, sign extended; SXTB16 with a rotation has no intrinsic. */
static inline od_pair_t od_even(int32_t word) { return __sxtb16((int8x4_t)word); }

static inline od_pair_t od_odd(int32_t word) {
    od_pair_t pair;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(pair) : "r"(word));
    return pair;
}

static inline od_pair_t od_even_plus(int32_t word, od_pair_t offset) {
    return __sxtab16(offset, (int8x4_t)word);
}

static inline od_pair_t od_odd_plus(int32_t word, od_pair_t offset) {
    od_pair_t pair;
    __asm__("sxtab16 %0, %1, %2, ror #8" : "=r"(pair) : "r"(offset), "r"(word));
    return pair;
}

/* {first[0], last[0]} and {first[1], last[1]} of two words of two int16 each. */
static inline int32_t od_low_halves(int32_t first, int32_t last) {
    int32_t pair;
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(pair) : "r"(first), "r"(last));
    return pair;
}

static inline int32_t od_high_halves(int32_t first, int32_t last) {
    int32_t pair;
    __asm__("pkhtb %0, %1, %2, asr #16" : "=r"(pair) : "r"(last), "r"(first));
    return pair;
}

/* The larger of the low halves, and of the high ones. */
static inline int32_t od_larger_halves(int32_t a, int32_t b) {
    int32_t larger;
    __asm__("ssub16 %0, %1, %2\n\tsel %0, %1, %2" : "=&r"(larger) : "r"(a), "r"(b));
    return larger;
}

#endif

/* acc + sum of (x[i] + offset) * w[i], i < 4. */
static inline int32_t od_dot4(const int8_t *x, const int8_t *w, int32_t offset, int32_t acc) {
#if OD_HAS_DSP
    const od_pair_t both = od_both(offset);
    const int32_t xs = od_load4(x);
    const int32_t ws = od_load4(w);
    acc = __smlad(od_even_plus(xs, both), od_even(ws), acc);
    return __smlad(od_odd_plus(xs, both), od_odd(ws), acc);
#else
    for (int32_t i = 0; i < 4; i++) {
        acc += (x[i] + offset) * w[i];
    }
    return acc;
#endif
}

/* The same with Q8.8 weights. */
static inline int32_t od_dot4_q88(const int8_t *x, const int16_t *w, int32_t offset, int32_t acc) {
#if OD_HAS_DSP
    const od_pair_t both = od_both(offset);
    const int32_t xs = od_load4(x);
    const int32_t first = od_load4(w);
    const int32_t last = od_load4(w + 2);
    acc = __smlad(od_even_plus(xs, both), od_odd(od_low_halves(first, last)), acc);
    return __smlad(od_odd_plus(xs, both), od_odd(od_high_halves(first, last)), acc);
#else
    for (int32_t i = 0; i < 4; i++) {
        acc += (x[i] + offset) * od_weight_q88(w[i]);
    }
    return acc;
#endif
}

/* Where bytes are taken one by one, a tile's products stay in the order of its calls: gcc would
 * rather finish one sum after the other and keep all their operands, in memory. */
static inline int32_t od_in_order(int32_t acc) {
#if defined(__arm__) && !OD_HAS_DSP
    __asm__ volatile("" : "+r"(acc));
#endif
    return acc;
}

/* One product. */
static inline int32_t od_dot1(const int8_t *x, const int8_t *w, int32_t offset, int32_t acc) {
    return od_in_order(acc + (*x + offset) * *w);
}

static inline int32_t od_dot1_q88(const int8_t *x, const int16_t *w, int32_t offset, int32_t acc) {
    return od_in_order(acc + (*x + offset) * od_weight_q88(*w));
}

/* `count` products, at most 16, and sixteen. MVE leaves the offset out of the vectors: it
 * multiplies the sum of the weights, once a tile, and the integers are the same modulo 2^32. */
static inline int32_t od_dot_part(const int8_t *x, const int8_t *w, int32_t offset, int32_t acc,
                                  int32_t count) {
#if OD_HAS_MVE
    const mve_pred16_t lanes = vctp8q((uint32_t)count);
    const int8x16_t ws = vldrbq_z_s8(w, lanes);
    return vmladavaq_s8(acc, vldrbq_z_s8(x, lanes), ws) + offset * vaddvq_s8(ws);
#else
    for (int32_t i = 0; i < count; i++) {
        acc = od_dot1(x + i, w + i, offset, acc);
    }
    return acc;
#endif
}

static inline int32_t od_dot16(const int8_t *x, const int8_t *w, int32_t offset, int32_t acc) {
#if OD_HAS_MVE
    const int8x16_t ws = vldrbq_s8(w);
    return vmladavaq_s8(acc, vldrbq_s8(x), ws) + offset * vaddvq_s8(ws);
#else
    return od_dot_part(x, w, offset, acc, 16);
#endif
}

/* The same with Q8.8 weights. */
static inline int32_t od_dot_part_q88(const int8_t *x, const int16_t *w, int32_t offset,
                                      int32_t acc, int32_t count) {
    for (int32_t i = 0; i < count; i++) {
        acc = od_dot1_q88(x + i, w + i, offset, acc);
    }
    return acc;
}

static inline int32_t od_dot16_q88(const int8_t *x, const int16_t *w, int32_t offset, int32_t acc) {
#if OD_HAS_MVE
    const int8x16_t ws = vld2q_s8((const int8_t *)w).val[1]; /* the high bytes */
    return vmladavaq_s8(acc, vldrbq_s8(x), ws) + offset * vaddvq_s8(ws);
#else
    return od_dot_part_q88(x, w, offset, acc, 16);
#endif
}

/* What was read before is read again after it, instead of kept: it would be kept on the stack. */
static inline void od_read_again(void) {
#if defined(__GNUC__)
    __asm__ volatile("" ::: "memory");
#endif
}

/* acc + (x[I] + offset) * w[I], I < 4, and the same with one weight: for vectors of four
 * neighbouring channels, each with a sum of its own. Calls for the four lanes share their loads. */
#if OD_HAS_DSP
#define OD_LANE(I, HALVES, HALF)                                                                   \
    static inline int32_t od_lane##I(const int8_t *x, const int8_t *w, int32_t offset,             \
                                     int32_t acc) {                                                \
        const od_pair_t xs = HALVES##_plus(od_load4(x), od_both(offset));                          \
        return __smla##HALF##HALF((int32_t)xs, (int32_t)HALVES(od_load4(w)), acc);                 \
    }                                                                                              \
    static inline int32_t od_lane##I##_times(const int8_t *x, int32_t w, int32_t offset,           \
                                             int32_t acc) {                                        \
        const od_pair_t xs = HALVES##_plus(od_load4(x), od_both(offset));                          \
        return __smla##HALF##b((int32_t)xs, w, acc);                                               \
    }
#else
#define OD_LANE(I, HALVES, HALF)                                                                   \
    static inline int32_t od_lane##I(const int8_t *x, const int8_t *w, int32_t offset,             \
                                     int32_t acc) {                                                \
        return acc + (x[I] + offset) * w[I];                                                       \
    }                                                                                              \
    static inline int32_t od_lane##I##_times(const int8_t *x, int32_t w, int32_t offset,           \
                                             int32_t acc) {                                        \
        return acc + (x[I] + offset) * w;                                                          \
    }
#endif
#define OD_LANE_BY(I)                                                                              \
    static inline int32_t od_lane##I##_by(const int8_t *x, const int8_t *w, int32_t offset,        \
                                          int32_t acc) {                                           \
        return od_lane##I##_times(x, *w, offset, acc);                                             \
    }                                                                                              \
    static inline int32_t od_lane##I##_by_q88(const int8_t *x, const int16_t *w, int32_t offset,   \
                                              int32_t acc) {                                       \
        return od_lane##I##_times(x, od_weight_q88(*w), offset, acc);                              \
    }

OD_LANE(0, od_even, b)
OD_LANE(1, od_odd, b)
OD_LANE(2, od_even, t)
OD_LANE(3, od_odd, t)
OD_LANE_BY(0)
OD_LANE_BY(1)
OD_LANE_BY(2)
OD_LANE_BY(3)

/* acc[i] += x[0] * w[i] + x[2] * w[2 * row + i], i < 4: two rows of w, read where they lie. `odd`
 * is 1 where x and w are those of an odd row, of whose x a word begins one before: four rows are
 * two calls that load each word of x once. */
static inline void od_rows2(const int8_t *x, const int8_t *w, int32_t row, int32_t odd,
                            int32_t *acc) {
#if OD_HAS_DSP
    const int32_t xs = od_load4(x - odd);
    const od_pair_t pair = odd != 0 ? od_odd(xs) : od_even(xs);
    const int32_t first = od_load4(w);
    const int32_t last = od_load4(w + 2 * row);
    const int32_t low = od_low_halves(first, last);
    const int32_t high = od_high_halves(first, last);
    acc[0] = __smlad(pair, od_even(low), acc[0]);
    acc[1] = __smlad(pair, od_odd(low), acc[1]);
    acc[2] = __smlad(pair, od_even(high), acc[2]);
    acc[3] = __smlad(pair, od_odd(high), acc[3]);
#else
    (void)odd;
    for (int32_t i = 0; i < 4; i++) {
        acc[i] += x[0] * w[i] + x[2] * w[2 * row + i];
    }
#endif
}

/* The same with Q8.8 weights. */
static inline void od_rows2_q88(const int8_t *x, const int16_t *w, int32_t row, int32_t odd,
                                int32_t *acc) {
#if OD_HAS_DSP
    const int32_t xs = od_load4(x - odd);
    const od_pair_t pair = odd != 0 ? od_odd(xs) : od_even(xs);
    for (int32_t i = 0; i < 4; i += 2) {
        const int32_t first = od_load4(w + i);
        const int32_t last = od_load4(w + 2 * row + i);
        acc[i] = __smlad(pair, od_odd(od_low_halves(first, last)), acc[i]);
        acc[i + 1] = __smlad(pair, od_odd(od_high_halves(first, last)), acc[i + 1]);
    }
#else
    (void)odd;
    for (int32_t i = 0; i < 4; i++) {
        acc[i] += x[0] * od_weight_q88(w[i]) + x[2] * od_weight_q88(w[2 * row + i]);
    }
#endif
}

/* acc[i] += *x * w[i], i < 4. */
static inline void od_rows1(const int8_t *x, const int8_t *w, int32_t *acc) {
    for (int32_t i = 0; i < 4; i++) {
        acc[i] += *x * w[i];
    }
}

static inline void od_rows1_q88(const int8_t *x, const int16_t *w, int32_t *acc) {
    for (int32_t i = 0; i < 4; i++) {
        acc[i] += *x * od_weight_q88(w[i]);
    }
}

/* acc += the sum of `count` elements, `apart` from each other. */
static inline void od_sum1(const int8_t *x, int32_t count, int32_t apart, int32_t *acc) {
    for (int32_t k = 0; k < count; k++) {
        *acc += x[(ptrdiff_t)k * apart];
    }
}

/* The same for four neighbours: acc[i] += sum of x[k * apart + i]. */
static inline void od_sum4(const int8_t *x, int32_t count, int32_t apart, int32_t *acc) {
#if OD_HAS_DSP
    while (count > 0) { /* An int16 holds the sum of 256 elements. */
        const int32_t part = count < 256 ? count : 256;
        od_pair_t even = od_both(0);
        od_pair_t odd = od_both(0);
        int32_t left = part;
        for (; left >= 8; left -= 8, x += 8 * apart) {
#pragma GCC unroll 8
            for (int32_t k = 0; k < 8; k++) {
                even = od_even_plus(od_load4(x + k * apart), even);
                odd = od_odd_plus(od_load4(x + k * apart), odd);
            }
        }
        for (; left > 0; left--, x += apart) {
            even = od_even_plus(od_load4(x), even);
            odd = od_odd_plus(od_load4(x), odd);
        }
        acc[0] += (int16_t)((uint32_t)even & 0xFFFFu);
        acc[1] += (int16_t)((uint32_t)odd & 0xFFFFu);
        acc[2] += (int32_t)even >> 16;
        acc[3] += (int32_t)odd >> 16;
        count -= part;
    }
#else
    for (int32_t k = 0; k < count; k++) {
        for (int32_t i = 0; i < 4; i++) {
            acc[i] += x[k * apart + i];
        }
    }
#endif
}

#endif
