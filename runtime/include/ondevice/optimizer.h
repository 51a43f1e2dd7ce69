/* What an update needs beside the gradient itself: Adam's rates, and the factor that clips the
 * global norm. Each operation is rounded in float32, in this order (docs/numerics.md). */
#ifndef ONDEVICE_OPTIMIZER_H
#define ONDEVICE_OPTIMIZER_H

#include <stdint.h>

/* parameter -= rate * m / (sqrt(v) * root + epsilon). */
typedef struct {
    float rate; /* learning rate / (1 - beta1^t) */
    float root; /* 1 / sqrt(1 - beta2^t) */
} od_adam_t;

/* Adam's bias corrections for update number t, from 1 (Kingma and Ba, 2015); `fresh` is 1 - beta,
 * the weight of the newest gradient. */
od_adam_t od_adam_begin(float learning_rate, uint32_t t, float fresh1, float fresh2);

/* total + the squares of the values, first to last. */
float od_add_squares(float total, const float *values, uint32_t count);

/* min(1, largest / (sqrt(squares) + 1e-6)): what keeps the norm below `largest`. */
float od_clip_factor(float squares, float largest);

#endif
