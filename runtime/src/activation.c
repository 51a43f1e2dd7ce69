#include "ondevice/activation.h"

#include "ondevice/loss.h"

#define SMALL 0.3f /* Below it tanh is its series: 1 - 2 / (exp(2x) + 1) would cancel. */

float od_sigmoidf(float x) { return 1.0f / (1.0f + od_expf(-x)); }

float od_tanhf(float x) {
    const float magnitude = x < 0.0f ? -x : x;
    if (magnitude < SMALL) {
        const float x2 = x * x;
        float p = -1382.0f / 155925.0f;
        p = p * x2 + 62.0f / 2835.0f;
        p = p * x2 - 17.0f / 315.0f;
        p = p * x2 + 2.0f / 15.0f;
        p = p * x2 - 1.0f / 3.0f;
        return x + x * x2 * p;
    }
    const float value = 1.0f - 2.0f / (od_expf(2.0f * magnitude) + 1.0f);
    return x < 0.0f ? -value : value;
}

/* Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26. */
float od_erff(float x) {
    const float magnitude = x < 0.0f ? -x : x;
    const float t = 1.0f / (1.0f + 0.3275911f * magnitude);
    float p = 1.061405429f;
    p = p * t - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    const float value = 1.0f - p * t * od_expf(-magnitude * magnitude);
    return x < 0.0f ? -value : value;
}
