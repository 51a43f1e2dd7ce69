/* Losses: value, prediction, and the error that starts the backward pass. */
#ifndef ONDEVICE_LOSS_H
#define ONDEVICE_LOSS_H

#include "ondevice/model.h"

/* exp and log in float32, identical on every CPU (no libm): relative error below 2e-7 and, for
 * log, absolute error below 2e-7 near 1. */
float od_expf(float x);
float od_logf(float x);

/* Cross entropy of softmax(logits) with the target (1 - smoothing) * one_hot(label) + smoothing /
 * count; error (may be NULL) becomes softmax(logits) - target.
 * Returns OD_ERROR_NUMERIC if the loss is not finite, OD_ERROR_ARGUMENT for a label >= count. */
int32_t od_cross_entropy(const float *logits, uint32_t count, uint32_t label, float smoothing,
                         float *error, od_result_t *result);

/* Mean over the outputs of -t log s - (1 - t) log(1 - s), s = sigmoid(logit), targets t in [0, 1];
 * error (may be NULL) becomes (s - t) / count. Predicted is logit > 0 for one output, else the
 * largest one's index; correct where every logit lies on the target's side of 0. */
int32_t od_binary_cross_entropy(const float *logits, uint32_t count, const float *target,
                                float *error, od_result_t *result);

/* mean((output - target)^2); error (may be NULL) becomes 2 / count * (output - target). */
int32_t od_mse(const float *output, uint32_t count, const float *target, float *error,
               od_result_t *result);

#endif
