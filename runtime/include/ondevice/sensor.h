/* A sensor of the board's own: what the session reads samples from instead of the link. */
#ifndef ONDEVICE_SENSOR_H
#define ONDEVICE_SENSOR_H

#include <stdint.h>

#define OD_SENSOR_CHANNELS_MAX 16u

typedef struct {
    void *context;     /* handed back to read() */
    uint32_t channels; /* 1 to OD_SENSOR_CHANNELS_MAX */
    float rate_hz;     /* samples a second; 0: unknown */

    /* Wait for the next sample: one value a channel, in real units. OD_OK, or below 0 where there
     * is none. The watchdog is fed between windows, not between samples: a window must not take
     * longer than it allows. */
    int32_t (*read)(void *context, float *values);
} od_sensor_t;

/* How a window of the sensor becomes the model's input, as the host's Preprocessing does it. Set
 * by the host; `window` is 0 where it was not. */
typedef struct {
    uint32_t window;         /* samples */
    uint32_t time_stride;    /* in elements of the input, from one sample to the next */
    uint32_t channel_stride; /* from one channel to the next */
    int32_t zero_point;      /* of an int8 input */
    double scale;            /* likewise; 0: the input is float32 */
    uint32_t channels;
    struct {
        float offset;
        float gain;
    } channel[OD_SENSOR_CHANNELS_MAX];
} od_sensing_t;

/* (value - offset) * gain in float32, then round_even(value / scale) + zero_point in float64,
 * within int8: what the host computes, bit for bit. Returns OD_OK, or OD_ERROR_NUMERIC where the
 * value is not finite. */
int32_t od_sense_value(const od_sensing_t *sensing, uint32_t channel, float value, void *input,
                       uint32_t index);

#endif
