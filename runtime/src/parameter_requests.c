/* Requests that replace parameters: an upload of all or of a round's weights, or a return to those
 * in flash. */
#include "ondevice/crc32.h"
#include "ondevice/handlers.h"
#include "ondevice/little_endian.h"
#include "ondevice/noise_key.h"
#include "ondevice/regions.h"
#include "ondevice/round.h"

static bool is_uploaded(const od_session_t *session, const od_parameter_t *parameter) {
    return !session->round_upload || parameter->kind == OD_WEIGHT;
}

od_outcome_t od_handle_parameters_begin(od_session_t *session, uint8_t *payload, uint32_t n) {
    if (n > 1u) {
        return od_failed(OD_FAIL_LENGTH);
    }
    const uint8_t flags = n == 1u ? payload[0] : 0u;
    if ((flags & ~(OD_BEGIN_ROUND | OD_BEGIN_TAKEN | OD_BEGIN_AGAIN)) != 0u) {
        return od_failed(OD_FAIL_VALUE);
    }
    const od_model_t *model = session->model;
    const bool round = (flags & OD_BEGIN_ROUND) != 0u;
    const bool running = model->round != NULL && *model->round->phase == OD_IN_ROUND;
    if (round && running && (flags & OD_BEGIN_AGAIN) != 0u) {
        /* The reference holds for the same weights. */
    } else if (session->parameters_valid && model->round != NULL) {
        model->round->operations->upload(model->round, (flags & OD_BEGIN_TAKEN) != 0u);
    } else if (!session->parameters_valid && round && (running || !session->round_upload)) {
        od_state_clear(model); /* of which an upload that was cut short left a mixture */
    }
    if (!round) {
        od_noise_key_clear(model); /* the count of updates is about to change */
    }
    session->round_upload = round;
    session->parameters_valid = false;
    session->scheduled = false; /* it counts from the parameters that are about to go */
    session->counters.run = 0;  /* whose position is not that of what comes */
    if (!session->port->allow_export) {
        /* Chosen weights must not carry a sample to the output, nor COMMIT's CRC tell the state. */
        od_sample_clear(model);
        if (!round) {
            od_state_clear(model);
        }
    }
    return od_done(0);
}

od_outcome_t od_handle_parameters_commit(od_session_t *session, uint8_t *payload, uint32_t n) {
    (void)n;
    if (session->parameters_valid) {
        return od_failed(OD_FAIL_STATE);
    }
    if (session->write_error != OD_FAIL_NONE) {
        return od_failed(od_take_write_error(session));
    }
    uint32_t crc = 0;
    for (uint32_t i = 0; i < session->model->parameter_count; i++) {
        const od_parameter_t *parameter = &session->model->parameters[i];
        if (is_uploaded(session, parameter)) {
            crc = od_crc32(crc, (const uint8_t *)parameter->data, parameter->bytes);
        }
    }
    if (crc != od_get_u32(payload)) {
        return od_failed_with(OD_FAIL_CRC, (int32_t)crc);
    }
    session->parameters_valid = true;
    const od_round_t *round = session->model->round;
    if (session->round_upload && round != NULL && *round->phase != OD_IN_ROUND) {
        round->operations->begin(round);
    }
    return od_done(0);
}

od_outcome_t od_handle_reset_model(od_session_t *session, uint8_t *payload, uint32_t n) {
    (void)payload;
    (void)n;
    session->model->reset();
    session->parameters_valid = true;
    session->scheduled = false;
    session->counters.run = 0;
    return od_done(0);
}
