/* Square root in float32, correctly rounded, in integers: the same on every CPU, without libm. */
#ifndef ONDEVICE_SQUARE_ROOT_H
#define ONDEVICE_SQUARE_ROOT_H

#include "ondevice/float_bits.h"

#define OD_ROOT_BITS 25 /* 24 of the mantissa, and one that rounds */

/* sqrt(x); 0 for whatever is not above 0 (NaN included), infinity for infinity. */
static inline float od_square_root(float x) {
    if (!(x > 0.0f)) {
        return 0.0f;
    }
    uint32_t bits = od_float_bits(x);
    if (bits >= 0x7F800000u) {
        return x;
    }
    int32_t exponent = (int32_t)(bits >> 23) - 127;
    if (exponent == -127) { /* subnormal: exact, and an even power of two */
        bits = od_float_bits(x * 16777216.0f);
        exponent = (int32_t)(bits >> 23) - 127 - 24;
    }
    /* x = mantissa * 2^(exponent - 23) with an even exponent; digit by digit, two bits a digit. */
    uint32_t rest = ((bits & 0x7FFFFFu) | 0x800000u) << 7;
    if ((exponent & 1) != 0) {
        rest <<= 1;
        exponent--;
    }
    uint32_t root = 0, remainder = 0;
    for (int32_t digit = 0; digit < OD_ROOT_BITS; digit++) {
        remainder = (remainder << 2) | (rest >> 30);
        rest <<= 2;
        const uint32_t trial = (root << 2) | 1u;
        root <<= 1;
        if (remainder >= trial) {
            remainder -= trial;
            root |= 1u;
        }
    }
    /* A root is never halfway between two floats. */
    return od_float_from_bits(((uint32_t)(exponent / 2 + 126) << 23) + ((root + 1u) >> 1));
}

#endif
