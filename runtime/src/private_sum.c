#include "ondevice/private_sum.h"

#include "ondevice/fixed_point.h"
#include "ondevice/float_bits.h"
#include "ondevice/square_root.h"

#define NOT_FINITE 0x7F800000u

void od_squares_add(od_squares_t *squares, const float *values, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        const float added = values[i] * values[i] - squares->lost;
        const float total = squares->total + added;
        squares->lost = (total - squares->total) - added;
        squares->total = total;
    }
}

float od_private_factor(const od_squares_t *squares, float limit, float units) {
    if ((od_float_bits(squares->total) & NOT_FINITE) == NOT_FINITE) {
        return 0.0f;
    }
    const float norm = od_square_root(squares->total);
    return norm > limit ? units * (limit / norm) : units;
}

void od_private_add(int32_t *sums, const float *gradient, uint32_t count, float factor) {
    if (factor == 0.0f) {
        return; /* its elements may be no numbers */
    }
    for (uint32_t i = 0; i < count; i++) {
        const int32_t moved = sums[i] + (int32_t)(gradient[i] * factor);
        sums[i] = od_clamp(moved, -OD_LARGEST_SUM, OD_LARGEST_SUM);
    }
}
