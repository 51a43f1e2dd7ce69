#include "ondevice/optimizer.h"

#include "ondevice/square_root.h"

#define SMALLEST_NORM 1e-6f /* as torch.nn.utils.clip_grad_norm_ has it */

/* 1 - (1 - fresh)^t without cancellation: c(2k) = c(k) (2 - c(k)), c(k + 1) = c(k) + fresh (1 -
 * c(k)), from the highest bit of t on. */
static float bias_correction(float fresh, uint32_t t) {
    float correction = 0.0f;
    for (uint32_t bit = 0x80000000u; bit != 0; bit >>= 1) {
        correction = correction * (2.0f - correction);
        if ((t & bit) != 0) {
            correction = correction + fresh * (1.0f - correction);
        }
    }
    return correction;
}

od_adam_t od_adam_begin(float learning_rate, uint32_t t, float fresh1, float fresh2) {
    const float first = bias_correction(fresh1, t);
    const float second = bias_correction(fresh2, t);
    return (od_adam_t){learning_rate / first, 1.0f / od_square_root(second)};
}

float od_add_squares(float total, const float *values, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        total += values[i] * values[i];
    }
    return total;
}

float od_clip_factor(float squares, float largest) {
    const float factor = largest / (od_square_root(squares) + SMALLEST_NORM);
    return factor < 1.0f ? factor : 1.0f;
}
