/* Requests of federated rounds: the change since the global weights came, and the pull to them. */
#include <string.h>

#include "ondevice/handlers.h"
#include "ondevice/little_endian.h"
#include "ondevice/round.h"

static const od_codec_t *codec_of(const od_session_t *session) {
    const od_round_t *round = session->model->round;
    return round != NULL ? round->codec : NULL;
}

od_outcome_t od_handle_round_end(od_session_t *session, uint8_t *payload, uint32_t n) {
    (void)n;
    const od_round_t *round = session->model->round;
    const od_codec_t *codec = codec_of(session);
    if (codec == NULL) {
        return od_failed(OD_FAIL_UNSUPPORTED);
    }
    if (!session->parameters_valid || *round->phase == OD_BETWEEN_ROUNDS) {
        return od_failed(OD_FAIL_STATE);
    }
    const od_port_t *port = session->port;
    const uint32_t start = port->counter != NULL ? port->counter() : 0;
    if (*round->phase == OD_IN_ROUND) { /* else a host that has lost the link asks again */
        round->operations->end(round);
    }
    const uint32_t ticks = port->counter != NULL ? port->counter() - start : 0;
    (void)od_put_u32(od_put_u32(payload, codec->encode(round, 0, payload, 0)), ticks);
    return od_done(8);
}

od_outcome_t od_handle_round_read(od_session_t *session, uint8_t *payload, uint32_t n) {
    (void)n;
    const od_codec_t *codec = codec_of(session);
    if (codec == NULL) {
        return od_failed(OD_FAIL_UNSUPPORTED);
    }
    if (*session->model->round->phase != OD_ROUND_SENT) {
        return od_failed(OD_FAIL_STATE);
    }
    const uint32_t offset = od_get_u32(payload);
    const uint32_t room = od_session_payload_bytes(session);
    const uint32_t length = codec->encode(session->model->round, offset, payload, room);
    if (offset > length) {
        return od_failed(OD_FAIL_RANGE);
    }
    return od_done(length - offset < room ? length - offset : room);
}

od_outcome_t od_handle_round_pull(od_session_t *session, uint8_t *payload, uint32_t n) {
    (void)n;
    const od_round_t *round = session->model->round;
    if (round == NULL || !round->anchored) {
        return od_failed(OD_FAIL_UNSUPPORTED);
    }
    const float share = od_get_f32(payload);
    if (!(share >= 0.0f && share <= 1.0f)) {
        return od_failed(OD_FAIL_VALUE);
    }
    if (!session->parameters_valid || *round->phase != OD_IN_ROUND) {
        return od_failed(OD_FAIL_STATE);
    }
    round->operations->pull(round, share);
    return od_done(0);
}
