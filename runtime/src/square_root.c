#include "ondevice/square_root.h"

#include "ondevice/float_bits.h"

#define INFINITE_BITS 0x7F800000u
#define SMALLEST_NORMAL_BITS 0x00800000u
#define TWO_POWER_24 16777216.0f
#define GUESS_BITS 0x5F3759DFu /* minus half the bits of x: near 1 / sqrt(x) */
#define NEWTON_STEPS 3         /* each squares the relative error, from 0.04 */

float od_square_root(float x) {
    if (!(x > 0.0f)) {
        return 0.0f;
    }
    uint32_t bits = od_float_bits(x);
    if (bits >= INFINITE_BITS) {
        return x;
    }
    int32_t exponent = -127;
    if (bits < SMALLEST_NORMAL_BITS) { /* made normal: exact, and an even power of two */
        bits = od_float_bits(x * TWO_POWER_24);
        exponent -= 24;
    }
    exponent += (int32_t)(bits >> 23);
    /* x = n * 2^(2 * half - 46) with n in [2^46, 2^48). */
    const int32_t half = exponent >> 1;
    const int32_t odd = exponent & 1;
    const uint32_t mantissa = bits & 0x7FFFFFu;
    const uint64_t n = (uint64_t)(mantissa | 0x800000u) << (23 + odd);
    const float value = od_float_from_bits(mantissa | (uint32_t)(127 + 46 + odd) << 23);
    float inverse = od_float_from_bits(GUESS_BITS - (od_float_bits(value) >> 1));
    for (int32_t i = 0; i < NEWTON_STEPS; i++) {
        inverse = inverse * (1.5f - 0.5f * value * inverse * inverse);
    }
    /* The estimate is a few units off at most: exact integers find floor(sqrt(n)). */
    uint32_t root = (uint32_t)(value * inverse);
    while ((uint64_t)root * root > n) {
        root--;
    }
    while ((uint64_t)(root + 1u) * (root + 1u) <= n) {
        root++;
    }
    if (n - (uint64_t)root * root > root) { /* beyond root + 1/2; a tie cannot be */
        root++;
    }
    return (float)root * od_power_of_two(half - 23);
}
