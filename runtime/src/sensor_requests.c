/* Requests to the board's own sensor: what it is, its raw samples, and windows of it into the
 * model's input, which then need not cross the link. */
#include "ondevice/handlers.h"
#include "ondevice/little_endian.h"

#define SETUP_BYTES 28u /* before the channels */
#define CHANNEL_BYTES 8u

od_outcome_t od_handle_sensor_describe(od_session_t *session, uint8_t *payload, uint32_t n) {
    (void)n;
    const od_sensor_t *sensor = session->port->sensor;
    if (sensor == NULL) {
        return od_failed(OD_FAIL_UNSUPPORTED);
    }
    uint8_t *at = od_put_u32(payload, sensor->channels);
    at = od_put_f32(at, sensor->rate_hz);
    return od_done((uint32_t)(at - payload));
}

od_outcome_t od_handle_sensor_read(od_session_t *session, uint8_t *payload, uint32_t n) {
    (void)n;
    const od_sensor_t *sensor = session->port->sensor;
    if (sensor == NULL) {
        return od_failed(OD_FAIL_UNSUPPORTED);
    }
    if (!session->port->allow_export) {
        return od_failed(OD_FAIL_PRIVATE);
    }
    const uint32_t samples = od_get_u32(payload);
    const uint32_t room = od_session_payload_bytes(session) / 4u / sensor->channels;
    if (samples == 0 || samples > room) {
        return od_failed(OD_FAIL_RANGE);
    }
    uint8_t *at = payload;
    for (uint32_t i = 0; i < samples; i++) {
        float values[OD_SENSOR_CHANNELS_MAX] = {0};
        const int32_t status = sensor->read(sensor->context, values);
        if (status != OD_OK && i == 0) {
            return od_failed_with(OD_FAIL_SENSOR, status);
        }
        if (status != OD_OK) {
            break; /* those before it are not lost: the reply is shorter */
        }
        for (uint32_t c = 0; c < sensor->channels; c++) {
            at = od_put_f32(at, values[c]);
        }
    }
    return od_done((uint32_t)(at - payload));
}

/* Whether the last element that the window writes is one of the input. */
static bool fits_input(const od_sensing_t *wanted, const od_model_t *model) {
    const uint64_t elements = model->input_bytes / (wanted->scale == 0.0 ? 4u : 1u);
    const uint64_t last = (uint64_t)(wanted->window - 1u) * wanted->time_stride +
                          (uint64_t)(wanted->channels - 1u) * wanted->channel_stride;
    return (uint64_t)wanted->window * wanted->channels == elements && last < elements;
}

od_outcome_t od_handle_sensor_setup(od_session_t *session, uint8_t *payload, uint32_t n) {
    const od_sensor_t *sensor = session->port->sensor;
    if (sensor == NULL) {
        return od_failed(OD_FAIL_UNSUPPORTED);
    }
    if (n != SETUP_BYTES + CHANNEL_BYTES * sensor->channels) {
        return od_failed(OD_FAIL_LENGTH);
    }
    od_sensing_t wanted = {
        .window = od_get_u32(payload),
        .time_stride = od_get_u32(payload + 4),
        .channel_stride = od_get_u32(payload + 8),
        .zero_point = (int32_t)od_get_u32(payload + 12),
        .scale = od_get_f64(payload + 16),
        .channels = od_get_u32(payload + 24),
    };
    const bool in_range = wanted.scale >= 0.0 && wanted.scale < 1e30 && wanted.zero_point >= -128 &&
                          wanted.zero_point <= 127 && wanted.window != 0;
    if (!in_range || wanted.channels != sensor->channels || !fits_input(&wanted, session->model)) {
        return od_failed(OD_FAIL_VALUE);
    }
    for (uint32_t c = 0; c < wanted.channels; c++) {
        const uint8_t *channel = payload + SETUP_BYTES + (size_t)CHANNEL_BYTES * c;
        wanted.channel[c].offset = od_get_f32(channel);
        wanted.channel[c].gain = od_get_f32(channel + 4);
    }
    session->sensing = wanted;
    return od_done(0);
}

od_outcome_t od_handle_sense(od_session_t *session, uint8_t *payload, uint32_t n) {
    (void)payload;
    (void)n;
    const od_sensor_t *sensor = session->port->sensor;
    const od_sensing_t *sensing = &session->sensing;
    if (sensor == NULL) {
        return od_failed(OD_FAIL_UNSUPPORTED);
    }
    if (sensing->window == 0) {
        return od_failed(OD_FAIL_STATE);
    }
    for (uint32_t t = 0; t < sensing->window; t++) {
        float values[OD_SENSOR_CHANNELS_MAX] = {0};
        int32_t status = sensor->read(sensor->context, values);
        for (uint32_t c = 0; c < sensing->channels && status == OD_OK; c++) {
            const uint32_t index = t * sensing->time_stride + c * sensing->channel_stride;
            status = od_sense_value(sensing, c, values[c], session->model->input, index);
        }
        if (status != OD_OK) {
            return od_failed_with(OD_FAIL_SENSOR, status);
        }
    }
    return od_done(0);
}
