/* Requests that run the model: TRAIN, EVALUATE, APPLY, and the learning rate of each update. */
#include "ondevice/handlers.h"
#include "ondevice/little_endian.h"
#include "ondevice/round.h"
#include "ondevice/trace.h"

static bool is_finite_bits(uint32_t bits) { return (bits & 0x7F800000u) != 0x7F800000u; }

static uint32_t ticks(const od_session_t *session) {
    return session->port->counter != NULL ? session->port->counter() : 0;
}

od_failure_t od_take_write_error(od_session_t *session) {
    if (session->write_error != OD_FAIL_NONE) {
        const od_failure_t fail = (od_failure_t)session->write_error;
        session->write_error = OD_FAIL_NONE;
        return fail;
    }
    const od_round_t *round = session->model->round;
    const bool sent = round != NULL && *round->phase == OD_ROUND_SENT; /* a change, no weights */
    return session->parameters_valid && !sent ? OD_FAIL_NONE : OD_FAIL_STATE;
}

/* The rate that TRAIN or APPLY carries, or without one that of the schedule. */
static od_outcome_t take_rate(const od_session_t *session, const uint8_t *payload, uint32_t n,
                              float *rate) {
    if (n == 0) {
        if (!session->scheduled) {
            return od_failed(OD_FAIL_SCHEDULE);
        }
        const uint32_t step = *session->model->update_steps - session->schedule_start;
        *rate = od_learning_rate(&session->schedule, step);
        return od_done(0);
    }
    if (n != 4u) {
        return od_failed(OD_FAIL_LENGTH);
    }
    if (!is_finite_bits(od_get_u32(payload))) {
        return od_failed(OD_FAIL_VALUE);
    }
    *rate = od_get_f32(payload);
    return od_done(0);
}

static od_outcome_t model_failed(int32_t status) {
    return od_failed_with(status == OD_ERROR_NUMERIC ? OD_FAIL_NUMERIC : OD_FAIL_MODEL, status);
}

static od_outcome_t put_result(od_session_t *session, const od_result_t *result, uint32_t count,
                               uint8_t *payload) {
    session->counters.correct += result->correct;
    session->counters.loss_sum += (double)result->loss;
    uint8_t *at = od_put_f32(payload, result->loss);
    at = od_put_u32(at, result->predicted);
    at = od_put_u32(at, result->correct);
    at = od_put_u32(at, count);
    return od_done((uint32_t)(at - payload));
}

/* Trains on the sample at a rate, or without one only evaluates it. */
static od_outcome_t run_sample(od_session_t *session, const float *rate, uint8_t *payload) {
    const od_failure_t fail = od_take_write_error(session);
    if (fail != OD_FAIL_NONE) {
        return od_failed(fail);
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
        session->counters.updates += model->accumulation_steps == 1u ? 1u : 0u;
    } else {
        session->counters.evaluated++;
    }
    return put_result(session, &result, count, payload);
}

od_outcome_t od_handle_train(od_session_t *session, uint8_t *payload, uint32_t n) {
    float rate = 0.0f;
    const od_outcome_t taken = take_rate(session, payload, n, &rate);
    return taken.fail == OD_FAIL_NONE ? run_sample(session, &rate, payload) : taken;
}

od_outcome_t od_handle_evaluate(od_session_t *session, uint8_t *payload, uint32_t n) {
    (void)n;
    return run_sample(session, NULL, payload);
}

od_outcome_t od_handle_apply(od_session_t *session, uint8_t *payload, uint32_t n) {
    float rate = 0.0f;
    const od_outcome_t taken = take_rate(session, payload, n, &rate);
    if (taken.fail != OD_FAIL_NONE) {
        return taken;
    }
    if (session->model->apply == NULL) {
        return od_failed(OD_FAIL_UNSUPPORTED);
    }
    const od_failure_t fail = od_take_write_error(session);
    if (fail != OD_FAIL_NONE) {
        return od_failed(fail);
    }
    const uint32_t start = ticks(session);
    od_trace_start(&session->trace);
    const int32_t status = session->model->apply(rate, &session->trace);
    const uint32_t count = ticks(session) - start;
    if (status != OD_OK) {
        return model_failed(status);
    }
    session->counters.updates++;
    (void)od_put_u32(payload, count);
    return od_done(4);
}

od_outcome_t od_handle_schedule(od_session_t *session, uint8_t *payload, uint32_t n) {
    (void)n;
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
        return od_failed(OD_FAIL_VALUE);
    }
    session->schedule = wanted;
    session->schedule_start = *session->model->update_steps - od_get_u32(payload + 24);
    session->scheduled = true;
    return od_done(0);
}
