/* Rounding of products and sums to integers: round half away from zero, then saturate.
 *
 * Bit-exact on every CPU: 64-bit integer arithmetic only. Sources: docs/numerics.md.
 */
#ifndef ONDEVICE_FIXED_POINT_H
#define ONDEVICE_FIXED_POINT_H

#include <stdint.h>

#define OD_MAXIMUM_SHIFT 62

static inline int32_t od_clamp(int32_t value, int32_t low, int32_t high) {
    return value < low ? low : (value > high ? high : value);
}

/* Half of the value, rounded down, as an int8: one instruction on ARMv7-M and later. */
static inline int32_t od_saturate_half(int32_t value) {
#if defined(__ARM_FEATURE_SAT) && __ARM_FEATURE_SAT == 1
    int32_t saturated;
    __asm__("ssat %0, #8, %1, asr #1" : "=r"(saturated) : "r"(value));
    return saturated;
#else
    return od_clamp(value >> 1, INT8_MIN, INT8_MAX);
#endif
}

/* To [0, 31]. */
static inline int32_t od_saturate_5_bits(int32_t value) {
#if defined(__ARM_FEATURE_SAT) && __ARM_FEATURE_SAT == 1
    int32_t saturated;
    __asm__("usat %0, #5, %1" : "=r"(saturated) : "r"(value));
    return saturated;
#else
    return od_clamp(value, 0, 31);
#endif
}

static inline int32_t od_saturate_int16(int32_t value) {
#if defined(__ARM_FEATURE_SAT) && __ARM_FEATURE_SAT == 1
    int32_t saturated;
    __asm__("ssat %0, #16, %1" : "=r"(saturated) : "r"(value));
    return saturated;
#else
    return od_clamp(value, INT16_MIN, INT16_MAX);
#endif
}

static inline int32_t od_saturate(int64_t value) {
    return value > INT32_MAX ? INT32_MAX : (value < -INT32_MAX ? -INT32_MAX : (int32_t)value);
}

/* product / 2^shift, rounded half away from zero; shift in [1, 62]. */
static inline int64_t od_round_shift_i64(int64_t product, int32_t shift) {
    const int64_t half = (int64_t)1 << (shift - 1);
    return (product + half - (product < 0 ? 1 : 0)) >> shift;
}

/* accumulator * multiplier / 2^shift for a factor below 1; shift in [1, 62]. */
static inline int32_t od_requantize(int32_t accumulator, int32_t multiplier, int32_t shift) {
    return od_saturate(od_round_shift_i64((int64_t)accumulator * multiplier, shift));
}

/* product * 2^-shift for shift < 1, saturated; rare, so not inline. */
int32_t od_scale_up(int64_t product, int32_t shift);

/* The same for any shift: one above 62 gives 0, one below 1 multiplies. */
static inline int32_t od_scale(int32_t accumulator, int32_t multiplier, int32_t shift) {
    const int64_t product = (int64_t)accumulator * multiplier;
    if (shift > OD_MAXIMUM_SHIFT || product == 0) {
        return 0;
    }
    if (shift < 1) {
        return od_scale_up(product, shift);
    }
    return od_saturate(od_round_shift_i64(product, shift));
}

/* An int8 activation: requantised, moved to its zero point, clamped to [low, high]. Clamped before
 * it is moved: a saturated value plus a zero point would overflow. */
static inline int32_t od_requantize_clamp(int32_t accumulator, int32_t multiplier, int32_t shift,
                                          int32_t zero_point, int32_t low, int32_t high) {
    const int32_t value = od_requantize(accumulator, multiplier, shift);
    return od_clamp(value, low - zero_point, high - zero_point) + zero_point;
}

/* The same for the bounds of int8 itself. */
static inline int32_t od_requantize_int8(int32_t accumulator, int32_t multiplier, int32_t shift,
                                         int32_t zero_point) {
    return od_requantize_clamp(accumulator, multiplier, shift, zero_point, INT8_MIN, INT8_MAX);
}

/* The same three for a factor below 1/4, without a 64-bit shift. `shift` is 33 less, in [0, 31]:
 * the product's high word, shifted, is twice the result before its last rounding. What rounding
 * half away takes off a negative product is its sign as 64 bits. */
static inline int32_t od_requantize_twice(int32_t accumulator, int32_t multiplier, int32_t shift) {
    const int64_t sign = accumulator >> 31;
    return (int32_t)((sign + (int64_t)accumulator * multiplier) >> 32) >> shift;
}

static inline int32_t od_requantize_high(int32_t accumulator, int32_t multiplier, int32_t shift) {
    return (od_requantize_twice(accumulator, multiplier, shift) + 1) >> 1;
}

/* `twice_zero` is 2 * zero_point + 1. */
static inline int32_t od_requantize_high_clamp(int32_t accumulator, int32_t multiplier,
                                               int32_t shift, int32_t twice_zero, int32_t low,
                                               int32_t high) {
    const int32_t twice = od_requantize_twice(accumulator, multiplier, shift);
    return od_clamp((twice + twice_zero) >> 1, low, high);
}

static inline int32_t od_requantize_high_int8(int32_t accumulator, int32_t multiplier,
                                              int32_t shift, int32_t twice_zero) {
    return od_saturate_half(od_requantize_twice(accumulator, multiplier, shift) + twice_zero);
}

/* value / 2^(shift + 1), rounded half away from zero, as an int8 activation: the same idea in 32
 * bits; |value| < 2^30. */
static inline int32_t od_shift_clamp(int32_t value, int32_t shift, int32_t twice_zero, int32_t low,
                                     int32_t high) {
    return od_clamp((((value + (value >> 31)) >> shift) + twice_zero) >> 1, low, high);
}

static inline int32_t od_shift_int8(int32_t value, int32_t shift, int32_t twice_zero) {
    return od_saturate_half(((value + (value >> 31)) >> shift) + twice_zero);
}

#endif
