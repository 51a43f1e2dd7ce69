#include "ondevice/round.h"

#include <string.h>

#include "ondevice/update.h"

/* Largest change of an int32 that is one as a float32, too. */
#define LARGEST_INT32_CHANGE 0x7FFFFF80
/* What may stay unsent, half of the range: with it, a round may change a weight by as much again.
 */
#define LARGEST_INT16_RESIDUAL 0x3FFF
#define LARGEST_INT32_RESIDUAL 0x3FFFFFFF

static void clamp(const od_round_t *round, int32_t int16_limit, int32_t int32_limit) {
    for (uint32_t t = 0; t < round->count; t++) {
        const od_round_tensor_t *tensor = &round->tensors[t];
        for (uint32_t i = 0; tensor->residual != NULL && i < tensor->elements; i++) {
            if (tensor->dtype == OD_INT16) {
                int16_t *residual = tensor->residual;
                residual[i] = (int16_t)od_clamp(residual[i], -int16_limit, int16_limit);
            } else if (tensor->dtype == OD_INT32) {
                int32_t *residual = tensor->residual;
                residual[i] = od_clamp(residual[i], -int32_limit, int32_limit);
            }
        }
    }
}

static void clamp_residuals(const od_round_t *round) {
    clamp(round, LARGEST_INT16_RESIDUAL, LARGEST_INT32_RESIDUAL);
}

/* residual = weights - residual: from what was not sent to the reference, and from the reference to
 * what has been learnt. The reference of a weight near the end of its range lies beyond it: it
 * wraps, and so does the way back. */
static void subtract_from_weights(const od_round_t *round) {
    for (uint32_t t = 0; t < round->count; t++) {
        const od_round_tensor_t *tensor = &round->tensors[t];
        for (uint32_t i = 0; tensor->residual != NULL && i < tensor->elements; i++) {
            if (tensor->dtype == OD_INT16) {
                uint16_t *residual = tensor->residual;
                residual[i] = (uint16_t)(((const uint16_t *)tensor->weights)[i] - residual[i]);
            } else if (tensor->dtype == OD_INT32) {
                uint32_t *residual = tensor->residual;
                residual[i] = ((const uint32_t *)tensor->weights)[i] - residual[i];
            } else {
                float *residual = tensor->residual;
                residual[i] = ((const float *)tensor->weights)[i] - residual[i];
            }
        }
    }
}

static void take_back(const od_round_t *round) {
    for (uint32_t t = 0; t < round->count; t++) {
        const od_round_tensor_t *tensor = &round->tensors[t];
        for (uint32_t i = 0; i < tensor->elements; i++) {
            if (tensor->dtype == OD_INT16) {
                int16_t *residual = tensor->residual;
                const int32_t sum = residual[i] + ((const int16_t *)tensor->weights)[i];
                residual[i] = (int16_t)od_saturate_int16(sum);
            } else if (tensor->dtype == OD_INT32) {
                int32_t *residual = tensor->residual;
                residual[i] =
                    od_saturate((int64_t)residual[i] + ((const int32_t *)tensor->weights)[i]);
            } else {
                ((float *)tensor->residual)[i] += ((const float *)tensor->weights)[i];
            }
        }
    }
}

static uint32_t weight_bytes(const od_round_tensor_t *tensor) {
    return tensor->elements * (tensor->dtype == OD_INT16 ? 2u : 4u);
}

static void upload(const od_round_t *round, bool taken) {
    if (*round->phase == OD_IN_ROUND) {
        subtract_from_weights(round);
    } else if (*round->phase == OD_ROUND_SENT && !taken) {
        take_back(round);
    }
    clamp_residuals(round);
    *round->phase = OD_BETWEEN_ROUNDS;
}

static void begin(const od_round_t *round) {
    subtract_from_weights(round);
    for (uint32_t t = 0; t < round->count; t++) {
        const od_round_tensor_t *tensor = &round->tensors[t];
        if (tensor->anchor != NULL) {
            memcpy(tensor->anchor, tensor->weights, weight_bytes(tensor));
        }
    }
    *round->phase = OD_IN_ROUND;
}

/* Momentum factor masking (Lin et al., Deep Gradient Compression, 2018): the velocity of what was
 * sent would go on with old news. */
static void forget_velocity(const od_round_tensor_t *tensor) {
    for (uint32_t i = 0; i < tensor->elements; i++) {
        const bool sent = tensor->dtype == OD_INT16   ? ((int16_t *)tensor->weights)[i] != 0
                          : tensor->dtype == OD_INT32 ? ((int32_t *)tensor->weights)[i] != 0
                                                      : ((float *)tensor->weights)[i] != 0.0f;
        if (sent) {
            memset((uint8_t *)tensor->velocity + (size_t)i * tensor->velocity_bytes, 0,
                   tensor->velocity_bytes);
        }
    }
}

static void end(const od_round_t *round) {
    subtract_from_weights(round);
    clamp(round, INT16_MAX, LARGEST_INT32_CHANGE);
    for (uint32_t t = 0; t < round->count; t++) {
        memset(round->tensors[t].weights, 0, weight_bytes(&round->tensors[t]));
    }
    round->codec->compress(round);
    clamp_residuals(round);
    for (uint32_t t = 0; t < round->count; t++) {
        if (round->tensors[t].velocity != NULL) {
            forget_velocity(&round->tensors[t]);
        }
    }
    *round->phase = OD_ROUND_SENT;
}

static void pull(const od_round_t *round, float share) {
    for (uint32_t t = 0; t < round->count; t++) {
        const od_round_tensor_t *tensor = &round->tensors[t];
        for (uint32_t i = 0; i < tensor->elements; i++) {
            if (tensor->dtype == OD_INT16) {
                int16_t *weights = tensor->weights;
                const int32_t far = weights[i] - ((int16_t *)tensor->anchor)[i];
                weights[i] = (int16_t)od_update_q88(weights[i], od_delta(far, share));
            } else if (tensor->dtype == OD_INT32) {
                int32_t *weights = tensor->weights;
                const int64_t far = (int64_t)weights[i] - ((int32_t *)tensor->anchor)[i];
                weights[i] = od_update_i32(weights[i], od_delta(od_saturate(far), share));
            } else {
                float *weights = tensor->weights;
                weights[i] -= share * (weights[i] - ((float *)tensor->anchor)[i]);
            }
        }
    }
}

const od_round_operations_t od_round_operations = {upload, begin, end, pull};
