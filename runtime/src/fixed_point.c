#include "ondevice/fixed_point.h"

#define LARGEST_LEFT_SHIFT 31 /* whatever is not 0 saturates there */

int32_t od_scale_up(int64_t product, int32_t shift) {
    const int32_t left = shift < -LARGEST_LEFT_SHIFT ? LARGEST_LEFT_SHIFT : -shift;
    return od_saturate((int64_t)od_saturate(product) * ((int64_t)1 << left));
}
