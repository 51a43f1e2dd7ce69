/* Elements of a round's tensors, whatever their type; for codecs.
 *
 * Statistics are float32, also of integers: what they miss of an int32 stays in the residual, which
 * is exact. Each operation is rounded in the order in which it stands, on every board alike.
 */
#ifndef ONDEVICE_ROUND_VALUES_H
#define ONDEVICE_ROUND_VALUES_H

#include "ondevice/byte_window.h"
#include "ondevice/float_bits.h"
#include "ondevice/round.h"

static inline float od_value(const void *data, od_dtype_t dtype, uint32_t i) {
    if (dtype == OD_INT16) {
        return (float)((const int16_t *)data)[i];
    }
    return dtype == OD_INT32 ? (float)((const int32_t *)data)[i] : ((const float *)data)[i];
}

/* By its bits: that of -0 must be 0, also as a rank. */
static inline float od_magnitude(float value) {
    return od_float_from_bits(od_float_bits(value) & 0x7FFFFFFFu);
}

/* Element i is sent as `value`, which its type can hold; the residual keeps the difference. */
static inline void od_send(const od_round_tensor_t *tensor, uint32_t i, float value) {
    if (tensor->dtype == OD_INT16) {
        const int16_t sent = (int16_t)value;
        ((int16_t *)tensor->weights)[i] = sent;
        ((int16_t *)tensor->residual)[i] = (int16_t)(((int16_t *)tensor->residual)[i] - sent);
    } else if (tensor->dtype == OD_INT32) {
        const int32_t sent = (int32_t)value;
        ((int32_t *)tensor->weights)[i] = sent;
        ((int32_t *)tensor->residual)[i] -= sent;
    } else {
        ((float *)tensor->weights)[i] = value;
        ((float *)tensor->residual)[i] -= value;
    }
}

/* Largest magnitude of the elements. */
static inline float od_largest(const void *data, const od_round_tensor_t *tensor) {
    float largest = 0.0f;
    for (uint32_t i = 0; i < tensor->elements; i++) {
        const float magnitude = od_magnitude(od_value(data, tensor->dtype, i));
        largest = magnitude > largest ? magnitude : largest;
    }
    return largest;
}

/* What stands before a tensor whose elements are all a number, its opposite or 0. */
static inline void od_put_level(od_window_t *window, const od_round_tensor_t *tensor, float level) {
    od_window_u32(window,
                  tensor->dtype == OD_FLOAT32 ? od_float_bits(level) : (uint32_t)(int32_t)level);
}

/* The level that an integer tensor can send: a whole number. */
static inline float od_level(const od_round_tensor_t *tensor, float level) {
    return tensor->dtype == OD_FLOAT32 ? level : (float)(int32_t)(level + 0.5f);
}

#endif
