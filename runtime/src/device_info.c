/* What the device says of itself: the payload of READY and of the reply to HELLO, and which board
 * and firmware it is. */
#include <string.h>

#include "ondevice/handlers.h"
#include "ondevice/little_endian.h"
#include "ondevice/requests.h"

static uint8_t flags(const od_session_t *session) {
    const od_port_t *port = session->port;
    return (uint8_t)((session->parameters_valid ? OD_INFO_PARAMETERS_VALID : 0u) |
                     (port->allow_export ? OD_INFO_ALLOW_EXPORT : 0u) |
                     (port->storage != NULL ? OD_INFO_KEEPS_CHECKPOINTS : 0u) |
                     (session->restored ? OD_INFO_RESTORED : 0u) |
                     (port->key != NULL ? OD_INFO_AUTHENTICATED : 0u) |
                     (port->image_damaged ? OD_INFO_IMAGE_DAMAGED : 0u));
}

uint32_t od_device_info(const od_session_t *session, uint8_t *payload) {
    const od_model_t *model = session->model;
    const od_port_t *port = session->port;
    uint8_t *at = od_put_u32(payload, model->abi);
    memcpy(at, model->id, sizeof model->id);
    at += sizeof model->id;
    at = od_put_u8(at, (uint8_t)port->counter_kind);
    at = od_put_u8(at, flags(session));
    at = od_put_u16(at, (uint16_t)od_session_payload_bytes(session));
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
    at = od_put_name(at, model->name);
    at = od_put_name(at, port->board);
    return (uint32_t)(at - payload);
}

od_outcome_t od_handle_hello(od_session_t *session, uint8_t *payload, uint32_t n) {
    /* A host that has a key greets with a nonce; it will refuse to go on without. */
    return n == 0 || n == OD_NONCE_BYTES ? od_done(od_device_info(session, payload))
                                         : od_failed(OD_FAIL_LENGTH);
}

od_outcome_t od_handle_identify(od_session_t *session, uint8_t *payload, uint32_t n) {
    const od_port_t *port = session->port;
    (void)n;
    uint8_t *at = od_put_u8(payload, (uint8_t)port->start_reason);
    at = od_put_u8(at, (uint8_t)port->unique_id_bytes);
    at = od_put_u16(at, 0);
    memset(at, 0, sizeof port->unique_id + OD_IMAGE_DIGEST_BYTES);
    memcpy(at, port->unique_id, port->unique_id_bytes);
    at += sizeof port->unique_id;
    if (port->image_digest != NULL) {
        memcpy(at, port->image_digest, OD_IMAGE_DIGEST_BYTES);
    }
    return od_done((uint32_t)(at + OD_IMAGE_DIGEST_BYTES - payload));
}
