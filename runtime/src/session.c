/* Sequence numbers, the cached reply and NAKs: what makes each request execute exactly once.
 * Where the port has a key, only a frame with the right tag gets that far. */
#include "ondevice/session.h"

#include <string.h>

#include "ondevice/blake2s.h"
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

uint32_t od_session_payload_bytes(const od_session_t *session) {
    return OD_LINK_PAYLOAD_BYTES - (session->port->key != NULL ? OD_TAG_BYTES : 0u);
}

/* The key of the session with this number; NULL where there is none, or no tags at all. */
static const uint8_t *key_of(const od_session_t *session, uint32_t id) {
    if (session->port->key == NULL || id == 0) {
        return NULL;
    }
    if (id == session->id) {
        return session->key;
    }
    return id == session->pending.id ? session->pending.key : NULL;
}

/* As od_frame_encode(), with a tag at the payload's end where there is a key. */
static uint32_t encode(const uint8_t *key, const od_header_t *header, uint8_t *frame,
                       uint32_t payload_bytes, uint8_t *wire) {
    if (key != NULL) {
        const uint32_t n = OD_HEADER_BYTES + payload_bytes;
        od_header_write(header, frame);
        od_frame_tag(key, OD_FROM_DEVICE, frame, n, frame + n);
        payload_bytes += OD_TAG_BYTES;
    }
    return od_frame_encode(header, frame, payload_bytes, wire);
}

/* Encode the frame whose payload is in the receiver's bytes, keep it, and send it. */
static void send_reply(od_session_t *session, uint8_t type, uint32_t payload_bytes) {
    const od_header_t header = {OD_PROTOCOL_VERSION, type, session->id, session->sequence};
    session->wire_bytes = encode(key_of(session, session->id), &header, session->receiver.bytes,
                                 payload_bytes, session->wire);
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
    uint8_t frame[OD_HEADER_BYTES + 4u + OD_TAG_BYTES + 4u];
    uint8_t wire[OD_WIRE_BYTES(sizeof frame)];
    const bool greeted = to_session != 0 && to_session == session->pending.id;
    const uint32_t next = greeted ? 1u : session->sequence + 1u;
    const od_header_t header = {OD_PROTOCOL_VERSION, OD_NAK, to_session, next};
    (void)od_put_u32(frame + OD_HEADER_BYTES, (uint32_t)reason);
    const uint32_t n = encode(key_of(session, to_session), &header, frame, 4, wire);
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

/* Answer a HELLO without ending the session that is open: whoever sent it has proved nothing yet.
 */
static void greet(od_session_t *session, const od_frame_receiver_t *received) {
    const od_header_t *header = &received->header;
    const uint8_t *host_nonce = received->bytes + OD_HEADER_BYTES;
    od_pending_t *pending = &session->pending;
    if (header->session == 0 || header->sequence != 0) {
        send_nak(session, header->session, OD_NAK_SESSION);
        return;
    }
    if (header->session == session->id) {
        return; /* a late copy: the session is open */
    }
    if (received->payload_bytes != OD_NONCE_BYTES || !session->port->start_seed.fresh) {
        send_nak(session, header->session, OD_NAK_AUTHENTICATION);
        return;
    }
    if (header->session != pending->id ||
        memcmp(pending->host_nonce, host_nonce, OD_NONCE_BYTES) != 0) {
        pending->id = header->session;
        memcpy(pending->host_nonce, host_nonce, OD_NONCE_BYTES);
        od_device_nonce(session->port->key, &session->port->start_seed, session->port->unique_id,
                        session->greetings++, pending->device_nonce);
        od_session_key(session->port->key, pending->id, host_nonce, pending->device_nonce,
                       pending->key);
    } /* else its reply was lost */
    uint8_t *payload = session->receiver.bytes + OD_HEADER_BYTES;
    uint32_t n = od_device_info(session, payload);
    memcpy(payload + n, pending->device_nonce, OD_NONCE_BYTES);
    n += OD_NONCE_BYTES;
    /* Not through session->wire: the open session's reply there may be needed yet. */
    uint8_t wire[OD_WIRE_BYTES(OD_HEADER_BYTES + OD_INFO_BYTES_MAX + OD_NONCE_BYTES + OD_TAG_BYTES +
                               4u)];
    const od_header_t reply = {OD_PROTOCOL_VERSION, OD_HELLO | OD_REPLY, pending->id, 0};
    n = encode(pending->key, &reply, session->receiver.bytes, n, wire);
    session->port->write(session->port->context, wire, n);
}

/* The session that was greeted has proved the key: it takes the place of the one before. */
static void open_pending(od_session_t *session) {
    session->id = session->pending.id;
    memcpy(session->key, session->pending.key, sizeof session->key);
    memset(&session->pending, 0, sizeof session->pending);
    session->sequence = 0;
    session->wire_bytes = 0;
    session->nak_sent = false;
    session->write_error = OD_FAIL_NONE;
}

/* Check and take off the tag of a frame of the session that is open or greeted. */
static bool is_authentic(od_session_t *session, od_frame_receiver_t *received) {
    const uint8_t *key = key_of(session, received->header.session);
    if (key == NULL) {
        return true; /* of no session: it will not be executed */
    }
    uint8_t tag[OD_TAG_BYTES];
    if (received->payload_bytes >= OD_TAG_BYTES) {
        const uint32_t n = OD_HEADER_BYTES + received->payload_bytes - OD_TAG_BYTES;
        od_frame_tag(key, OD_FROM_HOST, received->bytes, n, tag);
        if (od_bytes_match(tag, received->bytes + n, OD_TAG_BYTES)) {
            received->payload_bytes -= OD_TAG_BYTES;
            if (received->header.session != session->id) {
                open_pending(session);
            }
            return true;
        }
    }
    send_nak(session, received->header.session, OD_NAK_AUTHENTICATION);
    return false;
}

static void take_frame(od_session_t *session, od_frame_receiver_t *received) {
    const od_header_t *header = &received->header;
    if ((header->type & OD_REPLY) != 0) {
        return; /* our own words echoed */
    }
    if (header->version != OD_PROTOCOL_VERSION) {
        send_nak(session, header->session, OD_NAK_VERSION);
    } else if (header->type == OD_HELLO) {
        if (session->port->key != NULL) {
            greet(session, received);
        } else {
            take_hello(session, received);
        }
    } else if (!is_authentic(session, received)) {
        return;
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
