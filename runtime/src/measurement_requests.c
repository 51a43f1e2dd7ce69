/* Requests that measure: counters and touched memory. */
#include <string.h>

#include "ondevice/handlers.h"
#include "ondevice/little_endian.h"
#include "ondevice/memory.h"

#define RUN_BYTES 8u
#define COUNTERS_BYTES 32u

od_outcome_t od_handle_read_counters(od_session_t *session, uint8_t *payload, uint32_t n) {
    (void)n;
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
    at = od_put_u64(at, session->counters.run);
    at = od_put_u32(at, session->counters.updates);
    return od_done((uint32_t)(at - payload));
}

/* Nothing, the id of a run that begins, or the counters of one that goes on from an upload: the
 * uploaded scales hold their own counters. */
od_outcome_t od_handle_reset_counters(od_session_t *session, uint8_t *payload, uint32_t n) {
    if (n != 0 && n != RUN_BYTES && n != COUNTERS_BYTES) {
        return od_failed(OD_FAIL_LENGTH);
    }
    const od_model_t *model = session->model;
    memset(&session->counters, 0, sizeof session->counters);
    session->counters.run = n != 0 ? od_get_u64(payload) : 0;
    if (n == COUNTERS_BYTES) {
        session->counters.trained = od_get_u32(payload + 8);
        session->counters.updates = od_get_u32(payload + 12);
        session->counters.evaluated = od_get_u32(payload + 16);
        session->counters.correct = od_get_u32(payload + 20);
        session->counters.loss_sum = od_get_f64(payload + 24);
        return od_done(0);
    }
    for (uint32_t i = 0; i < model->scale_count; i++) {
        model->scales[i].saturated = 0;
        model->scales[i].zeros = 0;
    }
    if (session->trace.per_op != NULL) {
        memset(session->trace.per_op, 0, model->op_count * sizeof *session->trace.per_op);
    }
    return od_done(0);
}

od_outcome_t od_handle_memory(od_session_t *session, uint8_t *payload, uint32_t n) {
    (void)n;
    const od_port_t *port = session->port;
    uint8_t *at = od_put_u32(payload, od_arena_high_water(session->model, session->paint));
    at = od_put_u32(at, port->stack_high_water != NULL ? port->stack_high_water(port->context) : 0);
    return od_done((uint32_t)(at - payload));
}

od_outcome_t od_handle_paint(od_session_t *session, uint8_t *payload, uint32_t n) {
    (void)n;
    session->paint = payload[0];
    od_arena_paint(session->model, session->paint);
    if (session->port->stack_paint != NULL) {
        session->port->stack_paint(session->port->context);
    }
    return od_done(0);
}
