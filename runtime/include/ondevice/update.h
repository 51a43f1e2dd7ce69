/* In-place updates of integer parameters (docs/numerics.md).
 *
 * Weights are Q8.8 plus one half: the high byte is the rounded int8 weight. `rate` is the change of
 * the parameter, in its own integer units, for one unit of the accumulated gradient.
 * Velocity and sums hold 16 units to one of a Q8.8 weight, 256 to one of a bias.
 */
#ifndef ONDEVICE_UPDATE_H
#define ONDEVICE_UPDATE_H

#include <string.h>

#include "ondevice/fixed_point.h"
#include "ondevice/float_bits.h"
#include "ondevice/simd.h"

#define OD_Q88_MINIMUM (-127 * 256)
#define OD_Q88_MAXIMUM (127 * 256 + 255)
#define OD_Q88_STATE_SHIFT 4
#define OD_I32_STATE_SHIFT 8
#define OD_MOMENTUM_SHIFT 15

/* gradient * rate, rounded half away from zero. */
static inline int32_t od_delta(int32_t gradient, float rate) {
    return od_scale(gradient, od_float_mantissa(rate), od_float_shift(rate));
}

/* The change of a Q8.8 weight or its state for many gradients and one rate: what is slow of
 * od_delta is done once, in the next three. Changes beyond 2^27 are not exact, but their sign is:
 * all that they are added to saturates at 16 bits. |gradient| < 2^31. */
#define OD_FACTOR_SPARE_BITS 7 /* above the 24 of a mantissa */
#define OD_FACTOR_MINIMUM_SHIFT 26
#define OD_FACTOR_MAXIMUM_SHIFT 55 /* the change is below one half from 56 on */
#define OD_FACTOR_LARGEST_RAISE 30
#define OD_FACTOR_NEGATIVE 32

static inline int32_t od_factor_multiplier(float rate) {
    const int32_t mantissa = od_float_mantissa(rate);
    const int32_t magnitude = mantissa < 0 ? -mantissa : mantissa;
    return od_float_shift(rate) > OD_FACTOR_MAXIMUM_SHIFT ? 0 : magnitude << OD_FACTOR_SPARE_BITS;
}

/* 33 less than that of the product, in [0, 29]. */
static inline int32_t od_factor_shift(float rate) {
    const int32_t shift = od_float_shift(rate) - OD_FACTOR_MINIMUM_SHIFT;
    return od_clamp(shift, 0, OD_FACTOR_MAXIMUM_SHIFT - OD_FACTOR_MINIMUM_SHIFT);
}

/* What od_raise does to gradients before: 0, nothing, for rates in [0, 1/4). */
static inline int32_t od_factor_raise(float rate) {
    const int32_t missing = OD_FACTOR_MINIMUM_SHIFT - od_float_shift(rate);
    const int32_t sign = rate < 0.0f ? OD_FACTOR_NEGATIVE : 0;
    return od_clamp(missing, 0, OD_FACTOR_LARGEST_RAISE) | sign;
}

static inline int32_t od_raise(int32_t gradient, int32_t raise) {
    const int32_t bits = raise & (OD_FACTOR_NEGATIVE - 1);
    const int32_t largest = INT32_MAX >> bits;
    const int32_t value = od_clamp(gradient, -largest, largest) * (int32_t)(UINT32_C(1) << bits);
    return (raise & OD_FACTOR_NEGATIVE) != 0 ? -value : value;
}

/* The half is added to the product's high word; what rounding half away takes off a negative
 * product is its sign as 64 bits. */
static inline int32_t od_change(int32_t gradient, int32_t multiplier, int32_t shift) {
    const int32_t sign = gradient >> 31;
    const int32_t high = sign + (int32_t)(UINT32_C(1) << shift);
    const int64_t start = (int64_t)(((uint64_t)(uint32_t)high << 32) | (uint32_t)sign);
    const int64_t sum = start + (int64_t)gradient * multiplier;
    return (int32_t)(sum >> 32) >> (shift + 1);
}

static inline int32_t od_update_q88(int32_t weight, int32_t change) {
    return od_clamp(od_saturate((int64_t)weight - change), OD_Q88_MINIMUM, OD_Q88_MAXIMUM);
}

static inline int32_t od_update_i32(int32_t bias, int32_t change) {
    return od_saturate((int64_t)bias - change);
}

static inline int32_t od_accumulate_q88(int32_t sum, int32_t change) {
    return od_clamp(od_saturate((int64_t)sum + change), -INT16_MAX, INT16_MAX);
}

static inline int32_t od_accumulate_i32(int32_t sum, int32_t change) {
    return od_saturate((int64_t)sum + change);
}

/* Four weights by od_change's changes, which are below 2^30. */
static inline void od_update4_q88(int16_t *weights, const int32_t *changes) {
#if OD_HAS_DSP
    const int32_t lowest = (int32_t)od_both(OD_Q88_MINIMUM);
    for (int32_t i = 0; i < 4; i += 2) {
        const int32_t pair = od_load4(weights + i);
        const int32_t first = od_saturate_int16((int16_t)pair - changes[i]);
        const int32_t last = od_saturate_int16((pair >> 16) - changes[i + 1]);
        const int32_t moved = od_larger_halves(od_low_halves(first, last), lowest);
        memcpy(weights + i, &moved, sizeof moved);
    }
#else
    for (int32_t i = 0; i < 4; i++) {
        weights[i] = (int16_t)od_update_q88(weights[i], changes[i]);
    }
#endif
}

/* velocity * momentum (Q15) + change, where change is in units of the velocity. */
static inline int32_t od_decay_i32(int32_t velocity, int32_t momentum, int32_t change) {
    const int64_t kept = od_round_shift_i64((int64_t)velocity * momentum, OD_MOMENTUM_SHIFT);
    return od_saturate(kept + change);
}

static inline int32_t od_decay_q88(int32_t velocity, int32_t momentum, int32_t change) {
    return od_clamp(od_decay_i32(velocity, momentum, change), -INT16_MAX, INT16_MAX);
}

/* The parameter moved by a velocity or sum. */
static inline int32_t od_step_q88(int32_t weight, int32_t change) {
    const int64_t moved = weight - od_round_shift_i64(change, OD_Q88_STATE_SHIFT);
    return od_clamp((int32_t)moved, OD_Q88_MINIMUM, OD_Q88_MAXIMUM);
}

static inline int32_t od_step_i32(int32_t bias, int32_t change) {
    return od_saturate((int64_t)bias - od_round_shift_i64(change, OD_I32_STATE_SHIFT));
}

#endif
