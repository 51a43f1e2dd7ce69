/* Losses: value, prediction, and the error that starts the backward pass. */
#ifndef ONDEVICE_LOSS_H
#define ONDEVICE_LOSS_H

#include "ondevice/model.h"

/* exp and log in float32, identical on every CPU (no libm): relative error below 2e-7 and, for
 * log, absolute error below 2e-7 near 1. */
float od_expf(float x);
float od_logf(float x);

/* -log softmax(logits)[label]; error (may be NULL) becomes softmax(logits) - one_hot(label).
 * Returns OD_ERROR_NUMERIC if the loss is not finite, OD_ERROR_ARGUMENT for a label >= count. */
int32_t od_cross_entropy(const float *logits, uint32_t count, uint32_t label, float *error,
                         od_result_t *result);

/* mean((output - target)^2); error (may be NULL) becomes 2 / count * (output - target). */
int32_t od_mse(const float *output, uint32_t count, const float *target, float *error,
               od_result_t *result);

#endif
