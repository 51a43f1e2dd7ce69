/* Signs, and the mean magnitude of each tensor (Karimireddy et al., Error Feedback Fixes SignSGD,
 * 2019). */
#include "ondevice/round_values.h"

static void compress(const od_round_t *round) {
    for (uint32_t t = 0; t < round->count; t++) {
        const od_round_tensor_t *tensor = &round->tensors[t];
        float sum = 0.0f;
        for (uint32_t i = 0; i < tensor->elements; i++) {
            sum += od_magnitude(od_value(tensor->residual, tensor->dtype, i));
        }
        const float level = od_level(tensor, sum / (float)tensor->elements);
        for (uint32_t i = 0; i < tensor->elements; i++) {
            const bool minus = od_value(tensor->residual, tensor->dtype, i) < 0.0f;
            od_send(tensor, i, minus ? -level : level);
        }
    }
}

/* A tensor: its magnitude, then eight elements a byte, the first in the lowest bit: 1 for minus. */
static uint32_t encode(const od_round_t *round, uint32_t offset, uint8_t *to, uint32_t n) {
    od_window_t window = {to, offset, n, 0};
    od_window_u8(&window, round->codec->code);
    for (uint32_t t = 0; t < round->count; t++) {
        const od_round_tensor_t *tensor = &round->tensors[t];
        od_put_level(&window, tensor, od_largest(tensor->weights, tensor));
        for (uint32_t first = 0; first < tensor->elements; first += 8u) {
            uint32_t byte = 0;
            for (uint32_t bit = 0; bit < 8u && first + bit < tensor->elements; bit++) {
                const float value = od_value(tensor->weights, tensor->dtype, first + bit);
                byte |= value < 0.0f ? 1u << bit : 0u;
            }
            od_window_u8(&window, (uint8_t)byte);
        }
    }
    return window.at;
}

const od_codec_t od_codec_sign = {3, compress, encode};
