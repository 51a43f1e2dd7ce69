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

/* One element from an integer accumulator. */
static inline int32_t od_store_gradient(int32_t accumulator, int32_t multiplier, int32_t shift,
                                        void *scale) {
    const int32_t value = od_scale(accumulator, multiplier, shift);
    return od_count_gradient(value, accumulator == 0, scale);
}

/* One element from value * 2^exponent. */
static inline int32_t od_store_real_gradient(float value, int32_t exponent, void *scale) {
    const float scaled = value * od_power_of_two(exponent);
    return od_count_gradient(od_round(scaled), value == 0.0f, scale);
}

/* value * 2^shift, rounded half away from zero; for int8 values and shifts up to 30. */
static inline int64_t od_shift_gradient(int32_t value, int32_t shift) {
    if (shift >= 0) {
        return (int64_t)value * ((int64_t)1 << shift);
    }
    return shift > -30 ? od_round_shift_i64(value, -shift) : 0;
}

/* a + b * 2^apart in units of 2^-OD_ALIGN_BITS of the coarser of their units; saturates. */
static inline int32_t od_align_gradients(int32_t a, int32_t b, int32_t apart) {
    const int32_t a_shift = OD_ALIGN_BITS - (apart > 0 ? apart : 0);
    const int32_t b_shift = OD_ALIGN_BITS + (apart < 0 ? apart : 0);
    return od_saturate(od_shift_gradient(a, a_shift) + od_shift_gradient(b, b_shift));
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
