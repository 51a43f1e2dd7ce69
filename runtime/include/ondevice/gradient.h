/* int8 gradients with a delayed power-of-two scale (docs/numerics.md). */
#ifndef ONDEVICE_GRADIENT_H
#define ONDEVICE_GRADIENT_H

#include "ondevice/fixed_point.h"
#include "ondevice/float_bits.h"
#include "ondevice/model.h"
#include "ondevice/rounding.h"

/* Fraction bits that od_align_gradients adds to the coarser unit. */
#define OD_ALIGN_BITS 12

/* `value` as an int8 element of a gradient tensor; counts what was lost in its scale. */
static inline int32_t od_count_gradient(int32_t value, int32_t is_zero, void *scale) {
    od_grad_scale_t *state = (od_grad_scale_t *)scale;
    const int32_t magnitude = value < 0 ? -value : value;
    if (magnitude > state->amax) {
        state->amax = magnitude;
    }
    if (magnitude > 127) {
        state->saturated++;
        return value < 0 ? -127 : 127;
    }
    if (magnitude == 0 && is_zero == 0) {
        state->zeros++;
    }
    return value;
}

/* One element from an integer accumulator, whatever the shift; out of line. */
int32_t od_store_any_gradient(int32_t accumulator, int32_t multiplier, int32_t shift, void *scale);

/* Whether a clip passes `value`: it is one of `count` integers from `first` on. */
static inline int32_t od_is_between(int32_t value, int32_t first, int32_t count) {
    return (uint32_t)value - (uint32_t)first < (uint32_t)count ? 1 : 0;
}

/* A kernel counts in two locals of its own, which gcc keeps in registers. A value beyond `limit`,
 * the largest magnitude so far and at most 127, is a new largest or saturates, and leaves the short
 * way; with OD_NO_WAY every value does. */
#define OD_NO_WAY INT32_MIN

#if defined(__GNUC__)
#define OD_RARE(condition) __builtin_expect((condition) ? 1 : 0, 0)
#else
#define OD_RARE(condition) (condition)
#endif

static inline int32_t od_gradient_limit(const void *scale) {
    const int32_t amax = ((const od_grad_scale_t *)scale)->amax;
    return amax < 127 ? amax : 127;
}

/* Before a kernel stores; `shift` is the least that it has, less 33: the short way needs factors
 * below 1/4. */
static inline void od_begin_gradient(int32_t shift, int32_t *limit, int32_t *zeros,
                                     const void *scale) {
    *limit = shift < 0 ? OD_NO_WAY : od_gradient_limit(scale);
    *zeros = 0;
}

/* After it. */
static inline void od_end_gradient(const int32_t *zeros, void *scale) {
    ((od_grad_scale_t *)scale)->zeros += *zeros;
}

/* od_store_any_gradient, in a few instructions for most values; `shift` is 33 less. */
static inline int32_t od_store_gradient(int32_t accumulator, int32_t multiplier, int32_t shift,
                                        int32_t *limit, int32_t *zeros, void *scale) {
    const int32_t value = od_requantize_high(accumulator, multiplier, od_saturate_5_bits(shift));
    if (OD_RARE(value == 0) && *limit != OD_NO_WAY) {
        *zeros += accumulator != 0 ? 1 : 0;
        return 0;
    }
    const uint32_t above = (uint32_t)*limit;
    if (OD_RARE((uint32_t)value + above > 2u * above)) {
        const int32_t stored = od_store_any_gradient(accumulator, multiplier, shift + 33, scale);
        if (*limit != OD_NO_WAY) {
            *limit = od_gradient_limit(scale);
        }
        return stored;
    }
    return value;
}

/* The same into `out`; 0, and not counted, where the mask is not `open`; `places` is
 * od_saturate_5_bits of the shift, computed once for several. Written out again because each way
 * stores for itself: joined, the short one widens its byte first, and shared parts, tried, cost
 * 3 to 6 % of the kernels. */
static inline void od_put_gradient(int32_t accumulator, int32_t multiplier, int32_t shift,
                                   int32_t places, int32_t open, int32_t *limit, int32_t *zeros,
                                   void *scale, int8_t *out) {
    if (OD_RARE(open == 0)) {
        *out = 0;
        return;
    }
    const int32_t value = od_requantize_high(accumulator, multiplier, places);
    const uint32_t above = (uint32_t)*limit;
    if (OD_RARE(value == 0) && *limit != OD_NO_WAY) {
        *zeros += accumulator != 0 ? 1 : 0;
        *out = 0;
    } else if (OD_RARE((uint32_t)value + above > 2u * above)) {
        *out = (int8_t)od_store_any_gradient(accumulator, multiplier, shift + 33, scale);
        if (*limit != OD_NO_WAY) {
            *limit = od_gradient_limit(scale);
        }
    } else {
        *out = (int8_t)value;
    }
}

/* One element from value * 2^exponent. */
static inline int32_t od_store_real_gradient(float value, int32_t exponent, void *scale) {
    const float scaled = value * od_power_of_two(exponent);
    return od_count_gradient(od_round(scaled), value == 0.0f, scale);
}

/* value * 2^shift, rounded half away from zero; for int8 values and shifts up to 12. It has nine
 * bits more before it is rounded: at 2^-9 and below an int8 rounds to 0. */
static inline int32_t od_shift_gradient(int32_t value, int32_t shift) {
    const int32_t factor = 1 << (shift > -9 ? shift + 9 : 0);
    return (value * factor + (value >> 31) + 256) >> 9;
}

/* a + b * 2^apart in units of 2^-OD_ALIGN_BITS of the coarser of their units. */
static inline int32_t od_align_gradients(int32_t a, int32_t b, int32_t apart) {
    const int32_t a_shift = OD_ALIGN_BITS - (apart > 0 ? apart : 0);
    const int32_t b_shift = OD_ALIGN_BITS + (apart < 0 ? apart : 0);
    return od_shift_gradient(a, a_shift) + od_shift_gradient(b, b_shift);
}

/* Before backward: this step's exponents from the earlier steps' magnitudes. */
void od_scales_begin(od_grad_scale_t *scales, uint32_t count);

/* After backward: remember the magnitudes of this step. */
void od_scales_end(od_grad_scale_t *scales, uint32_t count);

/* Learning rate in units of a gradient's integers. */
static inline float od_rate(float rate, const od_grad_scale_t *scale) {
    return rate * od_power_of_two(scale->exponent);
}

/* error[i] * fold[i] as int8 in [-127, 127]; returns the real value of one unit. */
float od_quantize_error(const float *error, const float *fold, uint32_t count, int8_t *quantized);

#endif
