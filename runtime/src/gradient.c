#include "ondevice/gradient.h"

/* History decays by 1/16 a step, so that one outlier does not cost precision for long. */
#define HISTORY_KEEP 0.9375f
#define LARGEST_INTEGER 127.0f
#define SMALLEST_EXPONENT (-100)
#define LARGEST_EXPONENT 30

/* Smallest e with history <= 127 * 2^e. */
static int32_t exponent_for(float history) {
    const uint32_t bits = od_float_bits(history / LARGEST_INTEGER);
    const int32_t floor_log2 = (int32_t)((bits >> 23) & 0xFFu) - 127;
    const int32_t exponent = floor_log2 + ((bits & 0x7FFFFFu) != 0u ? 1 : 0);
    return od_clamp(exponent, SMALLEST_EXPONENT, LARGEST_EXPONENT);
}

int32_t od_store_any_gradient(int32_t accumulator, int32_t multiplier, int32_t shift, void *scale) {
    const int32_t value = od_scale(accumulator, multiplier, shift);
    return od_count_gradient(value, accumulator == 0, scale);
}

void od_scales_begin(od_grad_scale_t *scales, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        scales[i].exponent = exponent_for(scales[i].history);
        scales[i].amax = 0;
    }
}

void od_scales_end(od_grad_scale_t *scales, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        const float seen = (float)scales[i].amax * od_power_of_two(scales[i].exponent);
        const float kept = scales[i].history * HISTORY_KEEP;
        scales[i].history = seen > kept ? seen : kept;
    }
}

float od_quantize_error(const float *error, const float *fold, uint32_t count, int8_t *quantized) {
    float largest = 0.0f;
    for (uint32_t i = 0; i < count; i++) {
        const float value = error[i] * fold[i];
        const float magnitude = value < 0.0f ? -value : value;
        if (magnitude > largest) {
            largest = magnitude;
        }
    }
    const float unit = largest / LARGEST_INTEGER;
    for (uint32_t i = 0; i < count; i++) {
        int32_t rounded = 0;
        if (unit > 0.0f) {
            const float ratio = error[i] * fold[i] / unit;
            rounded = (int32_t)(ratio < 0.0f ? ratio - 0.5f : ratio + 0.5f);
        }
        quantized[i] = (int8_t)od_clamp(rounded, -127, 127);
    }
    return unit;
}
