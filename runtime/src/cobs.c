#include "ondevice/cobs.h"

uint32_t od_cobs_encode(const uint8_t *from, uint32_t n, uint8_t *to) {
    uint32_t code_at = 0; /* where the length of the running block goes */
    uint32_t end = 1;
    for (uint32_t i = 0; i < n; i++) {
        if (from[i] != 0) {
            to[end++] = from[i];
        }
        const bool full = end - code_at == 255u;
        /* A full block stands for no zero, so the data may end with it. */
        if (from[i] == 0 || (full && i + 1u < n)) {
            to[code_at] = (uint8_t)(end - code_at);
            code_at = end++;
        }
    }
    to[code_at] = (uint8_t)(end - code_at);
    return end;
}

void od_cobs_start(od_cobs_decoder_t *decoder) {
    decoder->left = 0;
    decoder->zero = false;
}

uint32_t od_cobs_push(od_cobs_decoder_t *decoder, uint8_t byte, uint8_t *to) {
    if (decoder->left > 0) {
        decoder->left--;
        *to = byte;
        return 1;
    }
    const bool zero = decoder->zero;
    decoder->left = (uint8_t)(byte - 1);
    decoder->zero = byte != 0xFF;
    if (zero) {
        *to = 0;
        return 1;
    }
    return 0;
}

bool od_cobs_complete(const od_cobs_decoder_t *decoder) { return decoder->left == 0; }
