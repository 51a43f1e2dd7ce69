/* Sequence numbers, the cached reply and NAKs: what makes each request execute exactly once. */
#include "ondevice/session.h"

#include <string.h>

#include "ondevice/checkpoint.h"
#include "ondevice/little_endian.h"
#include "ondevice/memory.h"
#include "ondevice/messages.h"
#include "ondevice/requests.h"

static void restore(od_session_t *session) {
    const od_storage_t *storage = session->port->storage;
    od_checkpoint_t newest;
    if (storage == NULL ||
        !od_checkpoint_find(storage, session->model, OD_CHECKPOINT_NEWEST, &newest)) {
        return;
    }
    if (od_checkpoint_load(storage, session->model, &newest) < 0) {
        session->model->reset();
        return;
    }
    session->counters = newest.counters;
    session->restored = true;
}

int32_t od_session_init(od_session_t *session, const od_model_t *model, const od_port_t *port) {
    memset(session, 0, sizeof *session);
    if (model->abi != OD_MODEL_ABI) {
        return OD_ERROR_ABI;
    }
    session->model = model;
    session->port = port;
    session->parameters_valid = true;
    session->paint = OD_PAINT_A;
    if (port->counter != NULL && port->profile != NULL && port->profile_count >= model->op_count) {
        session->trace.counter = port->counter;
        session->trace.per_op = port->profile;
        memset(port->profile, 0, port->profile_count * sizeof *port->profile);
    }
    od_frame_start(&session->receiver);
    od_arena_paint(model, session->paint);
    model->reset();
    restore(session);
    return OD_OK;
}

/* Encode the frame whose payload is in the receiver's bytes, keep it, and send it. */
static void send_reply(od_session_t *session, uint8_t type, uint32_t payload_bytes) {
    const od_header_t header = {OD_PROTOCOL_VERSION, type, session->id, session->sequence};
    session->wire_bytes =
        od_frame_encode(&header, session->receiver.bytes, payload_bytes, session->wire);
    session->port->write(session->port->context, session->wire, session->wire_bytes);
}

void od_session_announce(od_session_t *session) {
    session->id = 0; /* the cached reply is about to be overwritten */
    session->sequence = 0;
    send_reply(session, OD_READY,
               od_device_info(session, session->receiver.bytes + OD_HEADER_BYTES));
}

/* Tell the host which request comes next. Not through `wire`: the reply there may be needed yet. */
static void send_nak(const od_session_t *session, uint32_t to_session, od_nak_reason_t reason) {
    uint8_t frame[OD_HEADER_BYTES + 4u + 4u];
    uint8_t wire[OD_WIRE_BYTES(sizeof frame)];
    const od_header_t header = {OD_PROTOCOL_VERSION, OD_NAK, to_session, session->sequence + 1u};
    (void)od_put_u32(frame + OD_HEADER_BYTES, (uint32_t)reason);
    const uint32_t n = od_frame_encode(&header, frame, 4, wire);
    session->port->write(session->port->context, wire, n);
}

/* One NAK, and then silence until something good arrives: noise must not be answered with noise. */
static void send_nak_once(od_session_t *session, od_nak_reason_t reason) {
    if (!session->nak_sent) {
        session->nak_sent = true;
        send_nak(session, session->id, reason);
    }
}

static void execute(od_session_t *session, const od_frame_receiver_t *received) {
    const uint8_t type = received->header.type;
    session->sequence = received->header.sequence;
    session->opened = type == OD_HELLO;
    session->nak_sent = false;
    const od_reply_t reply = od_request_execute(
        session, type, session->receiver.bytes + OD_HEADER_BYTES, received->payload_bytes);
    send_reply(session, reply.type, reply.bytes);
    if (reply.type == (OD_BYE | OD_REPLY)) {
        session->id = 0;
        if (session->port->exit != NULL) {
            session->port->exit(session->port->context);
        }
    }
}

static void send_again(od_session_t *session) {
    session->nak_sent = false;
    session->port->write(session->port->context, session->wire, session->wire_bytes);
}

static void take_hello(od_session_t *session, const od_frame_receiver_t *received) {
    const od_header_t *header = &received->header;
    if (header->session == 0 || header->sequence != 0) {
        send_nak(session, header->session, OD_NAK_SESSION);
    } else if (header->session != session->id) {
        session->id = header->session;
        session->write_error = OD_FAIL_NONE;
        execute(session, received);
    } else if (session->opened) {
        send_again(session);
    } /* else a late copy of the HELLO that opened this session: nobody waits for its reply */
}

static void take_frame(od_session_t *session, const od_frame_receiver_t *received) {
    const od_header_t *header = &received->header;
    if ((header->type & OD_REPLY) != 0) {
        return; /* our own words echoed */
    }
    if (header->version != OD_PROTOCOL_VERSION) {
        send_nak(session, header->session, OD_NAK_VERSION);
    } else if (header->type == OD_HELLO) {
        take_hello(session, received);
    } else if (session->id == 0 || header->session != session->id) {
        send_nak(session, header->session, OD_NAK_SESSION);
    } else if (header->sequence == session->sequence + 1u) {
        execute(session, received);
    } else if (header->sequence == session->sequence) {
        send_again(session);
    } else if (header->sequence > session->sequence) {
        send_nak_once(session, OD_NAK_GAP);
    } /* else a late copy: the host has moved on */
}

void od_session_receive(od_session_t *session, const uint8_t *bytes, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        const od_frame_status_t status = od_frame_push(&session->receiver, bytes[i]);
        if (status == OD_FRAME_GOOD) {
            take_frame(session, &session->receiver);
        } else if (status == OD_FRAME_BAD) {
            send_nak_once(session, OD_NAK_CORRUPT);
        }
    }
}
