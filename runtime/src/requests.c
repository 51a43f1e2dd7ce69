#include "ondevice/requests.h"

#include <string.h>

#include "ondevice/crc32.h"
#include "ondevice/little_endian.h"
#include "ondevice/memory.h"
#include "ondevice/messages.h"
#include "ondevice/regions.h"
#include "ondevice/trace.h"

#define NAME_BYTES_MAX 63u

/* How a request ended: `bytes` of reply where `fail` is OD_FAIL_NONE. */
typedef struct {
    od_failure_t fail;
    int32_t detail;
    uint32_t bytes;
} outcome_t;

static outcome_t done(uint32_t bytes) { return (outcome_t){OD_FAIL_NONE, 0, bytes}; }

static outcome_t failed(od_failure_t fail) { return (outcome_t){fail, 0, 0}; }

static outcome_t failed_with(od_failure_t fail, int32_t detail) {
    return (outcome_t){fail, detail, 0};
}

static uint8_t *put_name(uint8_t *to, const char *name) {
    uint32_t n = 0;
    while (name != NULL && n < NAME_BYTES_MAX && name[n] != '\0') {
        to[1u + n] = (uint8_t)name[n];
        n++;
    }
    to[0] = (uint8_t)n;
    return to + 1 + n;
}

uint32_t od_device_info(const od_session_t *session, uint8_t *payload) {
    const od_model_t *model = session->model;
    const od_port_t *port = session->port;
    uint8_t *at = od_put_u32(payload, model->abi);
    memcpy(at, model->id, sizeof model->id);
    at += sizeof model->id;
    at = od_put_u8(at, (uint8_t)port->counter_kind);
    at = od_put_u8(at, session->parameters_valid ? 1 : 0);
    at = od_put_u16(at, OD_LINK_PAYLOAD_BYTES);
    at = od_put_u32(at, port->receive_bytes);
    at = od_put_u32(at, port->clock_hz);
    at = od_put_u32(at, port->counter_resolution);
    at = od_put_u32(at, model->arena_bytes);
    at = od_put_u32(at, model->input_bytes);
    at = od_put_u32(at, model->label_bytes);
    at = od_put_u32(at, model->output_count);
    at = od_put_u32(at, model->parameter_count);
    at = od_put_u32(at, model->scale_count);
    at = od_put_u32(at, session->trace.per_op != NULL ? model->op_count : 0);
    at = od_put_u32(at, model->accumulation_steps);
    at = od_put_u32(at, port->stack_bytes);
    at = od_put_u32(at, (uint32_t)sizeof(od_session_t));
    at = put_name(at, model->name);
    at = put_name(at, port->board);
    return (uint32_t)(at - payload);
}

/* region u8, reserved u8, index u16, offset u32 */
#define ADDRESS_BYTES 8u

static outcome_t write_region(od_session_t *session, const uint8_t *payload, uint32_t n) {
    od_region_t region;
    if (n < ADDRESS_BYTES) {
        return failed(OD_FAIL_LENGTH);
    }
    if (!od_region_find(session, payload[0], od_get_u16(payload + 2), &region)) {
        return failed(OD_FAIL_REGION);
    }
    if (!region.writable) {
        return failed(OD_FAIL_READ_ONLY);
    }
    const uint32_t offset = od_get_u32(payload + 4);
    const uint32_t length = n - ADDRESS_BYTES;
    if (offset > region.bytes || length > region.bytes - offset) {
        return failed(OD_FAIL_RANGE);
    }
    if (length > 0) {
        memcpy(region.data + offset, payload + ADDRESS_BYTES, length);
    }
    return done(0);
}

static outcome_t read_region(od_session_t *session, uint8_t *payload, uint32_t n) {
    od_region_t region;
    if (n != ADDRESS_BYTES + 4u) {
        return failed(OD_FAIL_LENGTH);
    }
    if (!od_region_find(session, payload[0], od_get_u16(payload + 2), &region)) {
        return failed(OD_FAIL_REGION);
    }
    const uint32_t offset = od_get_u32(payload + 4);
    const uint32_t length = od_get_u32(payload + ADDRESS_BYTES);
    if (offset > region.bytes || length > region.bytes - offset || length > OD_LINK_PAYLOAD_BYTES) {
        return failed(OD_FAIL_RANGE);
    }
    if (length > 0) {
        memcpy(payload, region.data + offset, length);
    }
    return done(length);
}

static outcome_t describe_region(od_session_t *session, uint8_t *payload, uint32_t n) {
    od_region_t region;
    if (n != 4u) {
        return failed(OD_FAIL_LENGTH);
    }
    if (!od_region_find(session, payload[0], od_get_u16(payload + 2), &region)) {
        return failed(OD_FAIL_REGION);
    }
    uint8_t *at = od_put_u32(payload, region.bytes);
    at = od_put_u8(at, region.dtype);
    at = put_name(at, region.name);
    return done((uint32_t)(at - payload));
}

static bool is_finite_bits(uint32_t bits) { return (bits & 0x7F800000u) != 0x7F800000u; }

static uint32_t ticks(const od_session_t *session) {
    return session->port->counter != NULL ? session->port->counter() : 0;
}

/* What TRAIN, EVALUATE and APPLY need before they touch the model. */
static od_failure_t check_model(od_session_t *session) {
    if (session->write_error != OD_FAIL_NONE) {
        const od_failure_t fail = (od_failure_t)session->write_error;
        session->write_error = OD_FAIL_NONE;
        return fail;
    }
    return session->parameters_valid ? OD_FAIL_NONE : OD_FAIL_STATE;
}

/* The rate that TRAIN or APPLY carries, or without one that of the schedule. */
static outcome_t take_rate(const od_session_t *session, const uint8_t *payload, uint32_t n,
                           float *rate) {
    if (n == 0) {
        if (!session->scheduled) {
            return failed(OD_FAIL_SCHEDULE);
        }
        const uint32_t step = *session->model->update_steps - session->schedule_start;
        *rate = od_learning_rate(&session->schedule, step);
        return done(0);
    }
    if (n != 4u) {
        return failed(OD_FAIL_LENGTH);
    }
    if (!is_finite_bits(od_get_u32(payload))) {
        return failed(OD_FAIL_VALUE);
    }
    *rate = od_get_f32(payload);
    return done(0);
}

static outcome_t model_failed(int32_t status) {
    return failed_with(status == OD_ERROR_NUMERIC ? OD_FAIL_NUMERIC : OD_FAIL_MODEL, status);
}

static outcome_t put_result(od_session_t *session, const od_result_t *result, uint32_t count,
                            uint8_t *payload) {
    session->counters.correct += result->correct;
    session->counters.loss_sum += (double)result->loss;
    uint8_t *at = od_put_f32(payload, result->loss);
    at = od_put_u32(at, result->predicted);
    at = od_put_u32(at, result->correct);
    at = od_put_u32(at, count);
    return done((uint32_t)(at - payload));
}

/* Trains on the sample at a rate, or without one only evaluates it. */
static outcome_t run_sample(od_session_t *session, const float *rate, uint8_t *payload) {
    const od_failure_t fail = check_model(session);
    if (fail != OD_FAIL_NONE) {
        return failed(fail);
    }
    const od_model_t *model = session->model;
    od_result_t result = {0};
    const uint32_t start = ticks(session);
    od_trace_start(&session->trace);
    const int32_t status = rate != NULL ? model->train(*rate, &result, &session->trace)
                                        : model->evaluate(&result, &session->trace);
    const uint32_t count = ticks(session) - start;
    if (status != OD_OK) {
        return model_failed(status);
    }
    if (rate != NULL) {
        session->counters.trained++;
    } else {
        session->counters.evaluated++;
    }
    return put_result(session, &result, count, payload);
}

static outcome_t train(od_session_t *session, uint8_t *payload, uint32_t n) {
    float rate = 0.0f;
    const outcome_t taken = take_rate(session, payload, n, &rate);
    return taken.fail == OD_FAIL_NONE ? run_sample(session, &rate, payload) : taken;
}

static outcome_t evaluate(od_session_t *session, uint8_t *payload, uint32_t n) {
    return n == 0 ? run_sample(session, NULL, payload) : failed(OD_FAIL_LENGTH);
}

static outcome_t apply(od_session_t *session, uint8_t *payload, uint32_t n) {
    float rate = 0.0f;
    const outcome_t taken = take_rate(session, payload, n, &rate);
    if (taken.fail != OD_FAIL_NONE) {
        return taken;
    }
    if (session->model->apply == NULL) {
        return failed(OD_FAIL_UNSUPPORTED);
    }
    const od_failure_t fail = check_model(session);
    if (fail != OD_FAIL_NONE) {
        return failed(fail);
    }
    const uint32_t start = ticks(session);
    od_trace_start(&session->trace);
    const int32_t status = session->model->apply(rate, &session->trace);
    const uint32_t count = ticks(session) - start;
    if (status != OD_OK) {
        return model_failed(status);
    }
    (void)od_put_u32(payload, count);
    return done(4);
}

#define SCHEDULE_BYTES 28u

static outcome_t set_schedule(od_session_t *session, const uint8_t *payload, uint32_t n) {
    if (n != SCHEDULE_BYTES) {
        return failed(OD_FAIL_LENGTH);
    }
    const od_schedule_t wanted = {
        .kind = (od_schedule_kind_t)payload[0],
        .learning_rate = od_get_f32(payload + 4),
        .warmup_steps = od_get_u32(payload + 8),
        .total_steps = od_get_u32(payload + 12),
        .step_every = od_get_u32(payload + 16),
        .step_factor = od_get_f32(payload + 20),
    };
    const bool in_range = wanted.step_factor >= 0.0f && wanted.step_factor <= 1.0f;
    if (payload[0] > OD_STEP || !is_finite_bits(od_get_u32(payload + 4)) || !in_range ||
        wanted.step_every == 0) {
        return failed(OD_FAIL_VALUE);
    }
    session->schedule = wanted;
    session->schedule_start = *session->model->update_steps - od_get_u32(payload + 24);
    session->scheduled = true;
    return done(0);
}

static outcome_t read_counters(const od_session_t *session, uint8_t *payload, uint32_t n) {
    if (n != 0) {
        return failed(OD_FAIL_LENGTH);
    }
    uint64_t saturated = 0;
    uint64_t zeros = 0;
    for (uint32_t i = 0; i < session->model->scale_count; i++) {
        saturated += (uint32_t)session->model->scales[i].saturated;
        zeros += (uint32_t)session->model->scales[i].zeros;
    }
    uint8_t *at = od_put_u32(payload, session->counters.trained);
    at = od_put_u32(at, session->counters.evaluated);
    at = od_put_u32(at, session->counters.correct);
    at = od_put_f64(at, session->counters.loss_sum);
    at = od_put_u64(at, saturated);
    at = od_put_u64(at, zeros);
    return done((uint32_t)(at - payload));
}

static outcome_t reset_counters(od_session_t *session, uint32_t n) {
    if (n != 0) {
        return failed(OD_FAIL_LENGTH);
    }
    const od_model_t *model = session->model;
    memset(&session->counters, 0, sizeof session->counters);
    for (uint32_t i = 0; i < model->scale_count; i++) {
        model->scales[i].saturated = 0;
        model->scales[i].zeros = 0;
    }
    if (session->trace.per_op != NULL) {
        memset(session->trace.per_op, 0, model->op_count * sizeof *session->trace.per_op);
    }
    return done(0);
}

static outcome_t memory(const od_session_t *session, uint8_t *payload, uint32_t n) {
    if (n != 0) {
        return failed(OD_FAIL_LENGTH);
    }
    const od_port_t *port = session->port;
    uint8_t *at = od_put_u32(payload, od_arena_high_water(session->model, session->paint));
    at = od_put_u32(at, port->stack_high_water != NULL ? port->stack_high_water(port->context) : 0);
    return done((uint32_t)(at - payload));
}

static outcome_t paint(od_session_t *session, const uint8_t *payload, uint32_t n) {
    if (n != 1u) {
        return failed(OD_FAIL_LENGTH);
    }
    session->paint = payload[0];
    od_arena_paint(session->model, session->paint);
    if (session->port->stack_paint != NULL) {
        session->port->stack_paint(session->port->context);
    }
    return done(0);
}

static outcome_t parameters_begin(od_session_t *session, uint32_t n) {
    if (n != 0) {
        return failed(OD_FAIL_LENGTH);
    }
    session->parameters_valid = false;
    session->scheduled = false; /* it counts from the parameters that are about to go */
    return done(0);
}

static outcome_t parameters_commit(od_session_t *session, const uint8_t *payload, uint32_t n) {
    if (n != 4u) {
        return failed(OD_FAIL_LENGTH);
    }
    if (session->parameters_valid) {
        return failed(OD_FAIL_STATE);
    }
    if (session->write_error != OD_FAIL_NONE) {
        return failed(check_model(session));
    }
    uint32_t crc = 0;
    for (uint32_t i = 0; i < session->model->parameter_count; i++) {
        const od_parameter_t *parameter = &session->model->parameters[i];
        crc = od_crc32(crc, (const uint8_t *)parameter->data, parameter->bytes);
    }
    if (crc != od_get_u32(payload)) {
        return failed_with(OD_FAIL_CRC, (int32_t)crc);
    }
    session->parameters_valid = true;
    return done(0);
}

static outcome_t reset_model(od_session_t *session, uint32_t n) {
    if (n != 0) {
        return failed(OD_FAIL_LENGTH);
    }
    session->model->reset();
    session->parameters_valid = true;
    session->scheduled = false;
    return done(0);
}

static outcome_t dispatch(od_session_t *session, uint8_t type, uint8_t *payload, uint32_t n) {
    outcome_t outcome;
    switch (type) {
    case OD_HELLO:
        return n == 0 ? done(od_device_info(session, payload)) : failed(OD_FAIL_LENGTH);
    case OD_WRITE:
        outcome = write_region(session, payload, n);
        if (outcome.fail != OD_FAIL_NONE) {
            session->write_error = (uint8_t)outcome.fail;
        }
        return outcome;
    case OD_READ:
        return read_region(session, payload, n);
    case OD_DESCRIBE:
        return describe_region(session, payload, n);
    case OD_TRAIN:
        return train(session, payload, n);
    case OD_EVALUATE:
        return evaluate(session, payload, n);
    case OD_APPLY:
        return apply(session, payload, n);
    case OD_SCHEDULE:
        return set_schedule(session, payload, n);
    case OD_READ_COUNTERS:
        return read_counters(session, payload, n);
    case OD_RESET_COUNTERS:
        return reset_counters(session, n);
    case OD_MEMORY:
        return memory(session, payload, n);
    case OD_PAINT:
        return paint(session, payload, n);
    case OD_PARAMETERS_BEGIN:
        return parameters_begin(session, n);
    case OD_PARAMETERS_COMMIT:
        return parameters_commit(session, payload, n);
    case OD_RESET_MODEL:
        return reset_model(session, n);
    case OD_BYE:
        return n == 0 ? done(0) : failed(OD_FAIL_LENGTH);
    default:
        return failed(OD_FAIL_REQUEST);
    }
}

od_reply_t od_request_execute(od_session_t *session, uint8_t type, uint8_t *payload, uint32_t n) {
    const outcome_t outcome = dispatch(session, type, payload, n);
    if (outcome.fail == OD_FAIL_NONE) {
        return (od_reply_t){(uint8_t)(type | OD_REPLY), outcome.bytes};
    }
    uint8_t *at = od_put_u8(payload, (uint8_t)outcome.fail);
    at = od_put_u8(at, type);
    at = od_put_u16(at, 0);
    (void)od_put_u32(at, (uint32_t)outcome.detail);
    return (od_reply_t){(uint8_t)OD_ERROR, 8};
}
