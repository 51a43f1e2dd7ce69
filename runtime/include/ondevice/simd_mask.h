/* Bits of a clip's mask, four at once: the tensor intrinsic of saved masks; see simd.h. */
#ifndef ONDEVICE_SIMD_MASK_H
#define ONDEVICE_SIMD_MASK_H

#include "ondevice/simd.h"

/* bits, with `bit` where the value lies inside (low, high). */
static inline int32_t od_inside1(const int8_t *value, int32_t low, int32_t high, int32_t bit,
                                 int32_t bits) {
    return *value > low && *value < high ? bits | bit : bits;
}

/* The same for four values: bit, 2 * bit, 4 * bit and 8 * bit, which is at most 128. */
static inline int32_t od_inside4(const int8_t *values, int32_t low, int32_t high, int32_t bit,
                                 int32_t bits) {
#if OD_HAS_DSP
    const uint32_t every = UINT32_C(0x01010101);
    const uint32_t word = (uint32_t)od_load4(values);
    const uint32_t lowest = ((uint32_t)low & 0xFFu) * every;
    const uint32_t highest = ((uint32_t)high & 0xFFu) * every;
    const uint32_t single = UINT32_C(0x08040201) * (uint32_t)bit;
    const uint32_t none = 0;
    uint32_t inside;
    uint32_t both;
    /* A lane without a negative difference lies outside. */
    __asm__("ssub8 %0, %1, %2\n\tsel %0, %4, %3"
            : "=&r"(inside)
            : "r"(lowest), "r"(word), "r"(single), "r"(none));
    __asm__("ssub8 %0, %1, %2\n\tsel %0, %4, %3"
            : "=&r"(both)
            : "r"(word), "r"(highest), "r"(inside), "r"(none));
    __asm__("usada8 %0, %1, %2, %3" : "=r"(bits) : "r"(both), "r"(none), "r"(bits));
    return bits;
#else
    for (int32_t i = 0; i < 4; i++) {
        bits = od_inside1(values + i, low, high, bit << i, bits);
    }
    return bits;
#endif
}

#endif
