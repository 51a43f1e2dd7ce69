/* float32 numbers to integers: half away from zero, saturated; NaN becomes the lower bound. */
#ifndef ONDEVICE_ROUNDING_H
#define ONDEVICE_ROUNDING_H

#include "ondevice/fixed_point.h"

#define OD_LARGEST_ROUNDED 1073741824.0f /* 2^30 */

/* trunc(value +- 0.5), in [-2^30, 2^30]. */
static inline int32_t od_round(float value) {
    float bounded = value < OD_LARGEST_ROUNDED ? value : OD_LARGEST_ROUNDED;
    bounded = value > -OD_LARGEST_ROUNDED ? bounded : -OD_LARGEST_ROUNDED;
    return (int32_t)(bounded < 0.0f ? bounded - 0.5f : bounded + 0.5f);
}

/* An int8 activation: value / scale + zero_point, clamped; `inverse` is 1 / scale. */
static inline int32_t od_quantize(float value, float inverse, int32_t zero_point, int32_t low,
                                  int32_t high) {
    return od_clamp(od_round(value * inverse) + zero_point, low, high);
}

#endif
