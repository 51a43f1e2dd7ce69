/* One value of the board's sensor into the model's input. */
#include <stdint.h>
#include <string.h>

#include "ondevice/model.h"
#include "ondevice/sensor.h"

#define BEYOND 100000.0 /* no zero point brings that back into int8 */

/* To the nearest integer, ties to even, of a value within BEYOND. */
static int32_t round_even(double value) {
    const int32_t whole = (int32_t)value;
    const double part = value - (double)whole; /* exact */
    const int32_t away = value < 0.0 ? -1 : 1;
    const double size = part < 0.0 ? -part : part;
    if (size > 0.5 || (size == 0.5 && whole % 2 != 0)) {
        return whole + away;
    }
    return whole;
}

static int8_t quantised(const od_sensing_t *sensing, float value) {
    double steps = (double)value / sensing->scale;
    steps = steps > BEYOND ? BEYOND : steps;
    steps = steps < -BEYOND ? -BEYOND : steps;
    const int32_t integer = round_even(steps) + sensing->zero_point;
    return (int8_t)(integer > 127 ? 127 : integer < -128 ? -128 : integer);
}

int32_t od_sense_value(const od_sensing_t *sensing, uint32_t channel, float value, void *input,
                       uint32_t index) {
    const float centred = value - sensing->channel[channel].offset;
    const float normal = centred * sensing->channel[channel].gain;
    uint32_t bits = 0;
    memcpy(&bits, &normal, sizeof bits);
    if ((bits & 0x7F800000u) == 0x7F800000u) {
        return OD_ERROR_NUMERIC;
    }
    if (sensing->scale == 0.0) {
        memcpy((float *)input + index, &normal, sizeof normal);
    } else {
        ((int8_t *)input)[index] = quantised(sensing, normal);
    }
    return OD_OK;
}
