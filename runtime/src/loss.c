#include "ondevice/loss.h"

#include <stdbool.h>

#include "ondevice/float_bits.h"

#define LOG2_E 1.44269504f
#define LN2_HIGH 0.693145752f /* 15 significant bits: n * LN2_HIGH is exact for |n| < 256 */
#define LN2_LOW 1.42860677e-6f
#define SMALLEST_EXP_ARGUMENT (-87.0f)
#define LARGEST_EXP_ARGUMENT 88.0f
#define SQRT_HALF 0.70710678f

static int is_finite(float value) { return ((od_float_bits(value) >> 23) & 0xFFu) != 0xFFu; }

/* Cody-Waite reduction and a degree-6 Taylor polynomial on [-ln2/2, ln2/2]. */
float od_expf(float x) {
    if (x < SMALLEST_EXP_ARGUMENT) {
        return 0.0f;
    }
    const float clamped = x > LARGEST_EXP_ARGUMENT ? LARGEST_EXP_ARGUMENT : x;
    const float scaled = clamped * LOG2_E;
    const int32_t n = (int32_t)(scaled < 0.0f ? scaled - 0.5f : scaled + 0.5f);
    const float r = (clamped - (float)n * LN2_HIGH) - (float)n * LN2_LOW;
    float p = 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    return p * od_power_of_two(n);
}

/* log(m * 2^e) = e * ln2 + 2 * artanh((m - 1) / (m + 1)), m in [sqrt(1/2), sqrt(2)]. */
float od_logf(float x) {
    const uint32_t bits = od_float_bits(x);
    int32_t exponent = (int32_t)(bits >> 23) - 126;
    float mantissa = od_float_from_bits((bits & 0x7FFFFFu) | 0x3F000000u);
    if (mantissa < SQRT_HALF) {
        mantissa *= 2.0f;
        exponent--;
    }
    const float t = (mantissa - 1.0f) / (mantissa + 1.0f);
    const float t2 = t * t;
    float p = 1.0f / 9.0f;
    p = p * t2 + 1.0f / 7.0f;
    p = p * t2 + 0.2f;
    p = p * t2 + 1.0f / 3.0f;
    p = p * t2 + 1.0f;
    return 2.0f * t * p + (float)exponent * LN2_LOW + (float)exponent * LN2_HIGH;
}

static uint32_t arg_max(const float *values, uint32_t count) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < count; i++) {
        if (values[i] > values[best]) {
            best = i;
        }
    }
    return best;
}

int32_t od_cross_entropy(const float *logits, uint32_t count, uint32_t label, float smoothing,
                         float *error, od_result_t *result) {
    if (label >= count) {
        return OD_ERROR_ARGUMENT;
    }
    const uint32_t best = arg_max(logits, count);
    const float top = logits[best];
    float total = 0.0f;
    float below = 0.0f; /* of all logits, how far they lie under the largest */
    for (uint32_t i = 0; i < count; i++) {
        total += od_expf(logits[i] - top);
        below += logits[i] - top;
    }
    const float every = smoothing / (float)count; /* target of a wrong class */
    const float right = 1.0f - smoothing;
    float expected = right * (logits[label] - top);
    if (smoothing > 0.0f) {
        expected += every * below;
    }
    result->loss = od_logf(total) - expected;
    result->predicted = best;
    result->correct = best == label ? 1u : 0u;
    for (uint32_t i = 0; i < count; i++) {
        if (!is_finite(logits[i])) {
            result->loss = logits[i];
            return OD_ERROR_NUMERIC;
        }
        if (error != 0) {
            const float target = i == label ? right + every : every;
            error[i] = od_expf(logits[i] - top) / total - target;
        }
    }
    return is_finite(result->loss) ? OD_OK : OD_ERROR_NUMERIC;
}

int32_t od_binary_cross_entropy(const float *logits, uint32_t count, const float *target,
                                float *error, od_result_t *result) {
    float total = 0.0f;
    uint32_t right = 0;
    for (uint32_t i = 0; i < count; i++) {
        const float x = logits[i];
        const bool positive = x > 0.0f;
        const float shrunk = od_expf(positive ? -x : x); /* exp(-|x|) cannot overflow */
        total += (positive ? x : 0.0f) - x * target[i] + od_logf(1.0f + shrunk);
        right += positive == (target[i] > 0.5f) ? 1u : 0u;
        if (error != 0) {
            const float sigmoid = (positive ? 1.0f : shrunk) / (1.0f + shrunk);
            error[i] = (sigmoid - target[i]) / (float)count;
        }
    }
    result->loss = total / (float)count;
    result->predicted = count == 1 ? (logits[0] > 0.0f ? 1u : 0u) : arg_max(logits, count);
    result->correct = right == count ? 1u : 0u;
    return is_finite(result->loss) ? OD_OK : OD_ERROR_NUMERIC;
}

int32_t od_mse(const float *output, uint32_t count, const float *target, float *error,
               od_result_t *result) {
    float total = 0.0f;
    for (uint32_t i = 0; i < count; i++) {
        const float difference = output[i] - target[i];
        total += difference * difference;
        if (error != 0) {
            error[i] = difference * (2.0f / (float)count);
        }
    }
    result->loss = total / (float)count;
    result->predicted = arg_max(output, count);
    result->correct = 0;
    return is_finite(result->loss) ? OD_OK : OD_ERROR_NUMERIC;
}
