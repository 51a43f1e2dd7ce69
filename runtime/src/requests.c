/* The table of requests: which handler executes each, and how long its payload is. */
#include "ondevice/requests.h"

#include <stddef.h>

#include "ondevice/handlers.h"
#include "ondevice/little_endian.h"
#include "ondevice/messages.h"

#define ANY_LENGTH 0xFFFFFFFFu /* the handler checks it */

typedef struct {
    uint8_t type;
    uint32_t bytes;
    od_outcome_t (*handle)(od_session_t *session, uint8_t *payload, uint32_t n);
} request_t;

static od_outcome_t handle_bye(od_session_t *session, uint8_t *payload, uint32_t n) {
    (void)session;
    (void)payload;
    (void)n;
    return od_done(0);
}

static const request_t requests[] = {
    {OD_HELLO, ANY_LENGTH, od_handle_hello},
    {OD_WRITE, ANY_LENGTH, od_handle_write},
    {OD_READ, 12, od_handle_read},
    {OD_DESCRIBE, 4, od_handle_describe},
    {OD_IDENTIFY, 0, od_handle_identify},
    {OD_TRAIN, ANY_LENGTH, od_handle_train},
    {OD_EVALUATE, 0, od_handle_evaluate},
    {OD_APPLY, ANY_LENGTH, od_handle_apply},
    {OD_SCHEDULE, 28, od_handle_schedule},
    {OD_READ_COUNTERS, 0, od_handle_read_counters},
    {OD_RESET_COUNTERS, ANY_LENGTH, od_handle_reset_counters},
    {OD_MEMORY, 0, od_handle_memory},
    {OD_PAINT, 1, od_handle_paint},
    {OD_PARAMETERS_BEGIN, ANY_LENGTH, od_handle_parameters_begin},
    {OD_PARAMETERS_COMMIT, 4, od_handle_parameters_commit},
    {OD_RESET_MODEL, 0, od_handle_reset_model},
    {OD_BYE, 0, handle_bye},
    {OD_CHECKPOINT_SAVE, 4, od_handle_checkpoint_save},
    {OD_CHECKPOINT_LOAD, 4, od_handle_checkpoint_load},
    {OD_CHECKPOINT_LIST, 4, od_handle_checkpoint_list},
    {OD_CHECKPOINT_ERASE, 0, od_handle_checkpoint_erase},
    {OD_SENSOR_DESCRIBE, 0, od_handle_sensor_describe},
    {OD_SENSOR_READ, 4, od_handle_sensor_read},
    {OD_SENSOR_SETUP, ANY_LENGTH, od_handle_sensor_setup},
    {OD_SENSE, 0, od_handle_sense},
    {OD_ROUND_END, 0, od_handle_round_end},
    {OD_ROUND_READ, 4, od_handle_round_read},
    {OD_ROUND_PULL, 4, od_handle_round_pull},
};

static od_outcome_t execute(od_session_t *session, uint8_t type, uint8_t *payload, uint32_t n) {
    if (session->port->image_damaged && type != OD_HELLO && type != OD_IDENTIFY && type != OD_BYE) {
        return od_failed(OD_FAIL_IMAGE);
    }
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        const request_t *request = &requests[i];
        if (request->type == type) {
            return request->bytes != ANY_LENGTH && request->bytes != n
                       ? od_failed(OD_FAIL_LENGTH)
                       : request->handle(session, payload, n);
        }
    }
    return od_failed(OD_FAIL_REQUEST);
}

od_reply_t od_request_execute(od_session_t *session, uint8_t type, uint8_t *payload, uint32_t n) {
    const od_outcome_t outcome = execute(session, type, payload, n);
    if (outcome.fail == OD_FAIL_NONE) {
        return (od_reply_t){(uint8_t)(type | OD_REPLY), outcome.bytes};
    }
    if (type == OD_WRITE) { /* nobody waits for its reply: the next command says it, too */
        session->write_error = (uint8_t)outcome.fail;
    }
    uint8_t *at = od_put_u8(payload, (uint8_t)outcome.fail);
    at = od_put_u8(at, type);
    at = od_put_u16(at, 0);
    (void)od_put_u32(at, (uint32_t)outcome.detail);
    return (od_reply_t){(uint8_t)OD_ERROR, 8};
}
