/* The device's side of the link: takes bytes, executes each request exactly once, and answers.
 *
 * The caller owns the memory (sizeof(od_session_t), about 2 KB with the default payload) and feeds
 * received bytes in order; everything, training steps included, runs inside od_session_receive().
 */
#ifndef ONDEVICE_SESSION_H
#define ONDEVICE_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "ondevice/authentication.h"
#include "ondevice/counters.h"
#include "ondevice/frame.h"
#include "ondevice/model.h"
#include "ondevice/port.h"
#include "ondevice/schedule.h"
#include "ondevice/sensor.h"

typedef struct {
    const od_model_t *model;
    const od_port_t *port;

    uint32_t id;       /* chosen by the host in HELLO; 0: none is open */
    uint32_t sequence; /* of the last executed request, whose reply is in `wire` */
    bool opened;       /* that request is HELLO */
    bool nak_sent;     /* and nothing good came since: stay quiet */

    uint8_t key[OD_KEY_BYTES]; /* of this session, where the port has a key */
    od_pending_t pending;
    uint32_t greetings; /* since the start; each has its own nonce */

    bool parameters_valid; /* false between PARAMETERS_BEGIN and _COMMIT */
    bool round_upload;     /* which are those of a round: weights only */
    bool restored;         /* they came from a checkpoint at start */
    uint8_t write_error;   /* of a refused WRITE; makes the next command fail too */
    uint8_t paint;         /* pattern in the arena */
    od_counters_t counters;
    od_trace_t trace;

    bool scheduled; /* since the parameters were last replaced */
    od_schedule_t schedule;
    uint32_t schedule_start; /* the model's update_steps where it began */

    od_sensing_t sensing; /* how windows of the board's own sensor become the input */

    od_frame_receiver_t receiver; /* once a request is parsed, its reply is built in here */
    uint32_t wire_bytes;
    uint8_t wire[OD_WIRE_BYTES(OD_FRAME_BYTES)]; /* last reply, to be sent again if it was lost */
} od_session_t;

/* Check the model, put it in the state of its newest checkpoint, or else its initial one, and paint
 * its arena. `model` and `port` must outlive the session. Returns OD_OK, or OD_ERROR_ABI where
 * the model is of another runtime. */
int32_t od_session_init(od_session_t *session, const od_model_t *model, const od_port_t *port);

/* Send READY: once, when the port can receive. */
void od_session_announce(od_session_t *session);

/* Take n received bytes, any n; replies through port->write before it returns. */
void od_session_receive(od_session_t *session, const uint8_t *bytes, uint32_t n);

/* The largest payload of a request or a reply: a tag takes its part of a frame. */
uint32_t od_session_payload_bytes(const od_session_t *session);

#endif
