/* Top-k sparsification: the elements of the largest real magnitude over all tensors, as they are;
 * the rest accumulates (Aji and Heafield, 2017; Lin et al., Deep Gradient Compression, 2018). */
#include "ondevice/round_values.h"

#define DIGIT_BITS 4u
#define DIGITS (1u << DIGIT_BITS)
#define DIGIT_MASK (DIGITS - 1u)

/* Bits of a number that is not negative are in its order. */
static uint32_t rank_of(const od_round_tensor_t *tensor, uint32_t i) {
    const float unit = tensor->units[i / tensor->channel_elements];
    return od_float_bits(od_magnitude(od_value(tensor->residual, tensor->dtype, i)) * unit);
}

static void count_digits(const od_round_t *round, uint32_t prefix, uint32_t mask, uint32_t shift,
                         uint32_t counts[DIGITS]) {
    for (uint32_t t = 0; t < round->count; t++) {
        const od_round_tensor_t *tensor = &round->tensors[t];
        for (uint32_t i = 0; i < tensor->elements; i++) {
            const uint32_t rank = rank_of(tensor, i);
            if ((rank & mask) == prefix) {
                counts[(rank >> shift) & DIGIT_MASK]++;
            }
        }
    }
}

/* The k-th largest rank, digit by digit, without memory for any of them; `ties` is how many that
 * are equal to it are among the k. */
static uint32_t threshold(const od_round_t *round, uint32_t *ties) {
    uint32_t prefix = 0;
    uint32_t mask = 0;
    uint32_t left = round->kept;
    for (uint32_t shift = 32u; shift > 0;) {
        shift -= DIGIT_BITS;
        uint32_t counts[DIGITS] = {0};
        count_digits(round, prefix, mask, shift, counts);
        uint32_t digit = DIGIT_MASK;
        while (digit > 0 && counts[digit] < left) {
            left -= counts[digit];
            digit--;
        }
        prefix |= digit << shift;
        mask |= DIGIT_MASK << shift;
    }
    *ties = left;
    return prefix;
}

static void send_whole(const od_round_tensor_t *tensor, uint32_t i) {
    if (tensor->dtype == OD_INT16) {
        ((int16_t *)tensor->weights)[i] = ((int16_t *)tensor->residual)[i];
        ((int16_t *)tensor->residual)[i] = 0;
    } else {
        ((uint32_t *)tensor->weights)[i] = ((uint32_t *)tensor->residual)[i];
        ((uint32_t *)tensor->residual)[i] = 0;
    }
}

static void compress(const od_round_t *round) {
    uint32_t ties = 0;
    const uint32_t smallest = threshold(round, &ties);
    for (uint32_t t = 0; t < round->count; t++) {
        const od_round_tensor_t *tensor = &round->tensors[t];
        for (uint32_t i = 0; i < tensor->elements; i++) {
            const uint32_t rank = rank_of(tensor, i);
            if (rank > smallest) {
                send_whole(tensor, i);
            } else if (rank == smallest && rank != 0 && ties > 0) {
                ties--;
                send_whole(tensor, i);
            }
        }
    }
}

/* Per element that is sent: how many are skipped, as a varint, and its value: a varint whose lowest
 * bit is the sign, or float32. */
static uint32_t encode(const od_round_t *round, uint32_t offset, uint8_t *to, uint32_t n) {
    od_window_t window = {to, offset, n, 0};
    od_window_u8(&window, round->codec->code);
    uint32_t skipped = 0;
    for (uint32_t t = 0; t < round->count; t++) {
        const od_round_tensor_t *tensor = &round->tensors[t];
        for (uint32_t i = 0; i < tensor->elements; i++) {
            int32_t value = 0;
            if (tensor->dtype == OD_INT16) {
                value = ((int16_t *)tensor->weights)[i];
            } else {
                value = ((int32_t *)tensor->weights)[i]; /* of a float32 its bits */
            }
            if (value == 0) {
                skipped++;
                continue;
            }
            od_window_varint(&window, skipped);
            skipped = 0;
            if (tensor->dtype == OD_FLOAT32) {
                od_window_u32(&window, (uint32_t)value);
            } else {
                od_window_varint(&window, ((uint32_t)value << 1) ^ (value < 0 ? UINT32_MAX : 0u));
            }
        }
    }
    return window.at;
}

const od_codec_t od_codec_topk = {1, compress, encode};
