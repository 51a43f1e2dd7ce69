#include "ondevice/schedule.h"

#define HALF_PI 1.57079637f

/* sin(x * pi / 2), x in [0, 1]: Taylor's polynomial of degree 11. */
static float sine_of_quarter(float x) {
    const float z = x * HALF_PI;
    const float z2 = z * z;
    float p = -1.0f / 39916800.0f;
    p = p * z2 + 1.0f / 362880.0f;
    p = p * z2 - 1.0f / 5040.0f;
    p = p * z2 + 1.0f / 120.0f;
    p = p * z2 - 1.0f / 6.0f;
    p = p * z2 + 1.0f;
    return z * p;
}

static float power(float base, uint32_t exponent) {
    float result = 1.0f;
    for (; exponent != 0; exponent >>= 1) {
        if ((exponent & 1u) != 0) {
            result *= base;
        }
        base *= base;
    }
    return result;
}

float od_learning_rate(const od_schedule_t *schedule, uint32_t step) {
    const uint32_t warmup = schedule->warmup_steps;
    if (step < warmup) {
        return schedule->learning_rate * ((float)(step + 1u) / (float)warmup);
    }
    const uint32_t done = step - warmup;
    const uint32_t length = schedule->total_steps > warmup ? schedule->total_steps - warmup : 1u;
    const float left = done < length ? (float)(length - done) / (float)length : 0.0f;
    switch (schedule->kind) {
    case OD_LINEAR:
        return schedule->learning_rate * left;
    case OD_COSINE: { /* (1 + cos(pi * (1 - left))) / 2 = sin(left * pi / 2)^2 */
        const float sine = sine_of_quarter(left);
        return schedule->learning_rate * (sine * sine);
    }
    case OD_STEP:
        return schedule->learning_rate * power(schedule->step_factor, done / schedule->step_every);
    case OD_CONSTANT:
    default:
        return schedule->learning_rate;
    }
}
