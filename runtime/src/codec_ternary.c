/* Ternary: one magnitude a tensor, with a sign or 0 an element. The threshold is that of Ternary
 * Weight Networks (Li, Zhang and Liu, 2016): 0.7 of the mean magnitude. */
#include "ondevice/round_values.h"

#define THRESHOLD 0.7f
#define TRITS 5u /* in a byte: 3^5 = 243 */

static void compress_tensor(const od_round_tensor_t *tensor) {
    float sum = 0.0f;
    for (uint32_t i = 0; i < tensor->elements; i++) {
        sum += od_magnitude(od_value(tensor->residual, tensor->dtype, i));
    }
    const float smallest = THRESHOLD * (sum / (float)tensor->elements);
    float large = 0.0f;
    uint32_t count = 0;
    for (uint32_t i = 0; i < tensor->elements; i++) {
        const float magnitude = od_magnitude(od_value(tensor->residual, tensor->dtype, i));
        if (magnitude > smallest) {
            large += magnitude;
            count++;
        }
    }
    if (count == 0) {
        return;
    }
    const float level = od_level(tensor, large / (float)count);
    for (uint32_t i = 0; i < tensor->elements; i++) {
        const float value = od_value(tensor->residual, tensor->dtype, i);
        if (od_magnitude(value) > smallest) {
            od_send(tensor, i, value < 0.0f ? -level : level);
        }
    }
}

static void compress(const od_round_t *round) {
    for (uint32_t t = 0; t < round->count; t++) {
        compress_tensor(&round->tensors[t]);
    }
}

/* A tensor: its magnitude, then five elements a byte, the first the lowest digit: 0, 1 for plus, 2
 * for minus. */
static uint32_t encode(const od_round_t *round, uint32_t offset, uint8_t *to, uint32_t n) {
    od_window_t window = {to, offset, n, 0};
    od_window_u8(&window, round->codec->code);
    for (uint32_t t = 0; t < round->count; t++) {
        const od_round_tensor_t *tensor = &round->tensors[t];
        od_put_level(&window, tensor, od_largest(tensor->weights, tensor));
        for (uint32_t first = 0; first < tensor->elements; first += TRITS) {
            uint32_t byte = 0;
            for (uint32_t digit = TRITS; digit > 0; digit--) {
                const uint32_t i = first + digit - 1u;
                const float value =
                    i < tensor->elements ? od_value(tensor->weights, tensor->dtype, i) : 0.0f;
                byte = 3u * byte + (value > 0.0f ? 1u : (value < 0.0f ? 2u : 0u));
            }
            od_window_u8(&window, (uint8_t)byte);
        }
    }
    return window.at;
}

const od_codec_t od_codec_ternary = {2, compress, encode};
