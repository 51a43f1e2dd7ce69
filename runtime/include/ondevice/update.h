/* In-place updates of integer parameters (docs/numerics.md).
 *
 * Weights are Q8.8 plus one half: the high byte is the rounded int8 weight. `rate` is the change of
 * the parameter, in its own integer units, for one unit of the accumulated gradient.
 * Velocity and sums hold 16 units to one of a Q8.8 weight, 256 to one of a bias.
 */
#ifndef ONDEVICE_UPDATE_H
#define ONDEVICE_UPDATE_H

#include "ondevice/fixed_point.h"
#include "ondevice/float_bits.h"

#define OD_Q88_MINIMUM (-127 * 256)
#define OD_Q88_MAXIMUM (127 * 256 + 255)
#define OD_Q88_STATE_SHIFT 4
#define OD_I32_STATE_SHIFT 8
#define OD_MOMENTUM_SHIFT 15

/* gradient * rate, rounded half away from zero. */
static inline int32_t od_delta(int32_t gradient, float rate) {
    return od_scale(gradient, od_float_mantissa(rate), od_float_shift(rate));
}

static inline int32_t od_update_q88(int32_t weight, int32_t gradient, float rate) {
    const int64_t moved = (int64_t)weight - od_delta(gradient, rate);
    return od_clamp(od_saturate(moved), OD_Q88_MINIMUM, OD_Q88_MAXIMUM);
}

static inline int32_t od_update_i32(int32_t bias, int32_t gradient, float rate) {
    return od_saturate((int64_t)bias - od_delta(gradient, rate));
}

static inline int32_t od_accumulate_q88(int32_t sum, int32_t gradient, float rate) {
    const int64_t total = (int64_t)sum + od_delta(gradient, rate);
    return od_clamp(od_saturate(total), -INT16_MAX, INT16_MAX);
}

static inline int32_t od_accumulate_i32(int32_t sum, int32_t gradient, float rate) {
    return od_saturate((int64_t)sum + od_delta(gradient, rate));
}

/* velocity * momentum (Q15) + change, where change is in units of the velocity. */
static inline int32_t od_decay_i32(int32_t velocity, int32_t momentum, int32_t change) {
    const int64_t kept = od_round_shift_i64((int64_t)velocity * momentum, OD_MOMENTUM_SHIFT);
    return od_saturate(kept + change);
}

static inline int32_t od_decay_q88(int32_t velocity, int32_t momentum, int32_t change) {
    return od_clamp(od_decay_i32(velocity, momentum, change), -INT16_MAX, INT16_MAX);
}

static inline int32_t od_momentum_q88(int32_t velocity, int32_t momentum, int32_t gradient,
                                      float rate) {
    return od_decay_q88(velocity, momentum, od_delta(gradient, rate));
}

static inline int32_t od_momentum_i32(int32_t velocity, int32_t momentum, int32_t gradient,
                                      float rate) {
    return od_decay_i32(velocity, momentum, od_delta(gradient, rate));
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
