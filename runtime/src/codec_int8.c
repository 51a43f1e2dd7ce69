/* int8 with a power of two a tensor: real = integer * 2^exponent, the largest in [64, 127]. */
#include "ondevice/round_values.h"

#define MANTISSA_BITS 6
#define LARGEST 127
#define LOWEST_EXPONENT (-126)

/* Of what is to be sent, and the same of what is sent: rounding leaves the largest in its binade.
 */
static int32_t exponent_of(float largest) {
    const int32_t exponent = (int32_t)(od_float_bits(largest) >> 23) - 127 - MANTISSA_BITS;
    return exponent < LOWEST_EXPONENT ? LOWEST_EXPONENT : exponent;
}

static int32_t quantize(float value, int32_t exponent) {
    const float scaled = value * od_power_of_two(-exponent);
    const int32_t rounded = (int32_t)(scaled + (scaled < 0.0f ? -0.5f : 0.5f));
    return rounded > LARGEST ? LARGEST : (rounded < -LARGEST ? -LARGEST : rounded);
}

static void compress(const od_round_t *round) {
    for (uint32_t t = 0; t < round->count; t++) {
        const od_round_tensor_t *tensor = &round->tensors[t];
        const int32_t exponent = exponent_of(od_largest(tensor->residual, tensor));
        const float step = od_power_of_two(exponent);
        for (uint32_t i = 0; i < tensor->elements; i++) {
            const float value = od_value(tensor->residual, tensor->dtype, i);
            od_send(tensor, i, (float)quantize(value, exponent) * step);
        }
    }
}

/* A tensor: its exponent as an int8, then an int8 an element. */
static uint32_t encode(const od_round_t *round, uint32_t offset, uint8_t *to, uint32_t n) {
    od_window_t window = {to, offset, n, 0};
    od_window_u8(&window, round->codec->code);
    for (uint32_t t = 0; t < round->count; t++) {
        const od_round_tensor_t *tensor = &round->tensors[t];
        const int32_t exponent = exponent_of(od_largest(tensor->weights, tensor));
        od_window_u8(&window, (uint8_t)exponent);
        for (uint32_t i = 0; i < tensor->elements; i++) {
            const float value = od_value(tensor->weights, tensor->dtype, i);
            od_window_u8(&window, (uint8_t)quantize(value, exponent));
        }
    }
    return window.at;
}

const od_codec_t od_codec_int8 = {4, compress, encode};
