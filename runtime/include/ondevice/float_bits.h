/* The parts of a float32, without libm. */
#ifndef ONDEVICE_FLOAT_BITS_H
#define ONDEVICE_FLOAT_BITS_H

#include <stdint.h>
#include <string.h>

static inline uint32_t od_float_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float od_float_from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* 24-bit mantissa of a normal number; 0 for zero and subnormals. */
static inline int32_t od_float_mantissa(float value) {
    const uint32_t bits = od_float_bits(value);
    if (((bits >> 23) & 0xFFu) == 0u) {
        return 0;
    }
    const int32_t mantissa = (int32_t)((bits & 0x7FFFFFu) | 0x800000u);
    return (bits >> 31) != 0u ? -mantissa : mantissa;
}

/* value = mantissa * 2^-shift. */
static inline int32_t od_float_shift(float value) {
    return 150 - (int32_t)((od_float_bits(value) >> 23) & 0xFFu);
}

/* 2^exponent; exponent is clamped to [-126, 127]. */
static inline float od_power_of_two(int32_t exponent) {
    const int32_t clamped = exponent < -126 ? -126 : (exponent > 127 ? 127 : exponent);
    return od_float_from_bits((uint32_t)(clamped + 127) << 23);
}

#endif
