/* Radix-2 transform, decimated in time, with 64-bit products rounded once. */
#include <stddef.h>

#include "ondevice/audio_features.h"

#define HALF (INT64_C(1) << 29)

/* The k-th complex number. */
static int32_t *pair(int32_t *values, size_t k) { return values + 2u * k; }

static void swap(int32_t *a, int32_t *b) {
    for (uint32_t i = 0; i < 2u; i++) {
        const int32_t kept = a[i];
        a[i] = b[i];
        b[i] = kept;
    }
}

static void reverse_bits(int32_t *values, uint32_t size) {
    uint32_t reversed = 0;
    for (uint32_t i = 0; i + 1u < size; i++) {
        if (i < reversed) {
            swap(pair(values, i), pair(values, reversed));
        }
        uint32_t bit = size >> 1;
        for (; (reversed & bit) != 0u; bit >>= 1) {
            reversed ^= bit;
        }
        reversed |= bit;
    }
}

static void butterfly(int32_t *a, int32_t *b, const int32_t *w) {
    const int64_t re = (int64_t)b[0] * w[0] - (int64_t)b[1] * w[1];
    const int64_t im = (int64_t)b[0] * w[1] + (int64_t)b[1] * w[0];
    const int32_t turned[2] = {(int32_t)((re + HALF) >> 30), (int32_t)((im + HALF) >> 30)};
    for (uint32_t i = 0; i < 2u; i++) {
        b[i] = a[i] - turned[i];
        a[i] += turned[i];
    }
}

void od_fft(int32_t *values, uint32_t size, const int32_t *twiddles, uint32_t stride) {
    reverse_bits(values, size);
    for (uint32_t half = 1; half < size; half *= 2u) {
        const uint32_t step = stride * (size / (2u * half));
        for (uint32_t start = 0; start < size; start += 2u * half) {
            for (uint32_t k = 0; k < half; k++) {
                const int32_t *w = twiddles + 2u * (size_t)(k * step);
                butterfly(pair(values, start + k), pair(values, start + k + half), w);
            }
        }
    }
}
