/* Fuzzes a session: the input is a script of frames, so that it comes past CRC and numbering.
 *
 * First byte: what the port lends (bit 0: export allowed, 1: flash, 2: a key). Then operations, a
 * byte and its arguments each: see `operate`. Watched besides the sanitizers: every good request is
 * executed once and answered by one frame, no other frame changes anything, forged ones least, a
 * refused request changes nothing, weights move only by requests that may move them, and nothing
 * private leaves unless the build allows it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../c/fake_port.h"
#include "../c/nor_flash.h"
#include "ondevice/authentication.h"
#include "ondevice/crc32.h"
#include "ondevice/little_endian.h"
#include "ondevice/messages.h"
#include "ondevice/session.h"
#include "script.h"

#define BANK_BYTES 1024u
#define UNIT_BYTES 8u
#define WEIGHT_BYTES 128u

static od_session_t session;
static nor_flash_t flash;
static od_storage_t storage;
static od_port_t port;

static od_frame_receiver_t host;
static uint32_t replies;
static uint8_t wire[OD_WIRE_BYTES(OD_FRAME_BYTES)];
static uint8_t kept[OD_WIRE_BYTES(OD_FRAME_BYTES)]; /* the request that was executed last */
static uint32_t kept_bytes;
static uint8_t weights_before[WEIGHT_BYTES];

/* Whose frames with this session's number carry a tag, and with which key; else NULL. */
static const uint8_t *key_of(uint32_t id) {
    if (port.key == NULL || id == 0) {
        return NULL;
    }
    if (id == session.id) {
        return session.key;
    }
    return id == session.pending.id ? session.pending.key : NULL;
}

static void take_reply(void *context, const uint8_t *bytes, uint32_t n) {
    (void)context;
    replies++;
    for (uint32_t i = 0; i < n; i++) {
        const od_frame_status_t status = od_frame_push(&host, bytes[i]);
        CHECK(status == (i + 1u == n ? OD_FRAME_GOOD : OD_FRAME_NONE));
    }
    CHECK((host.header.type & OD_REPLY) != 0);
    CHECK(host.payload_bytes <= OD_LINK_PAYLOAD_BYTES);
    const uint8_t *key = key_of(host.header.session);
    if (key != NULL) {
        uint8_t tag[OD_TAG_BYTES];
        CHECK(host.payload_bytes >= OD_TAG_BYTES);
        host.payload_bytes -= OD_TAG_BYTES;
        const uint32_t tagged = OD_HEADER_BYTES + host.payload_bytes;
        od_frame_tag(key, OD_FROM_DEVICE, host.bytes, tagged, tag);
        CHECK(memcmp(tag, host.bytes + tagged, OD_TAG_BYTES) == 0);
    }
}

static void copy_weights(uint8_t *to) {
    for (uint32_t i = 0; i < od_model.parameter_count; i++) {
        memcpy(to, od_model.parameters[i].data, od_model.parameters[i].bytes);
        to += od_model.parameters[i].bytes;
    }
}

static bool weights_moved(void) {
    uint8_t now[WEIGHT_BYTES] = {0};
    copy_weights(now);
    return memcmp(now, weights_before, sizeof now) != 0;
}

static uint32_t weights_crc(void) {
    uint32_t crc = 0;
    for (uint32_t i = 0; i < od_model.parameter_count; i++) {
        crc = od_crc32(crc, od_model.parameters[i].data, od_model.parameters[i].bytes);
    }
    return crc;
}

static void power_on(void) {
    od_frame_start(&host);
    CHECK(od_session_init(&session, &od_model, &port) == OD_OK);
    od_session_announce(&session);
    CHECK(host.header.type == OD_READY);
    copy_weights(weights_before);
}

/* A copy of exactly its size, so that a read beyond it is seen. */
static void receive(const uint8_t *bytes, uint32_t n) {
    uint8_t *exact = malloc(n + 1u);
    memcpy(exact, bytes, n);
    exact[n] = 0; /* what is damaged ends here, too */
    replies = 0;
    od_session_receive(&session, exact, n + 1u);
    free(exact);
}

static uint32_t encode(uint8_t type, uint32_t id, uint32_t sequence, const uint8_t *payload,
                       uint32_t n) {
    static uint8_t frame[OD_FRAME_BYTES];
    const od_header_t header = {OD_PROTOCOL_VERSION, type, id, sequence};
    memcpy(frame + OD_HEADER_BYTES, payload, n);
    const uint8_t *key = type == OD_HELLO ? NULL : key_of(id);
    if (key != NULL) {
        od_header_write(&header, frame);
        od_frame_tag(key, OD_FROM_HOST, frame, OD_HEADER_BYTES + n, frame + OD_HEADER_BYTES + n);
        n += OD_TAG_BYTES;
    }
    return od_frame_encode(&header, frame, n, wire);
}

static void send_and_keep(uint8_t type, uint32_t id, uint32_t sequence, const uint8_t *payload,
                          uint32_t n) {
    kept_bytes = encode(type, id, sequence, payload, n);
    memcpy(kept, wire, kept_bytes);
    receive(wire, kept_bytes);
}

static uint32_t take_payload(uint8_t *payload) {
    static const uint16_t lengths[] = {0, 4, 12, 8, 28, 16, 1, 9, 20, 100, 250, 255, 256};
    const uint8_t code = take();
    uint32_t n = (code & 0x80u) != 0 ? code & 0x7Fu : lengths[code % (sizeof lengths / 2u)];
    n = n < od_session_payload_bytes(&session) ? n : od_session_payload_bytes(&session);
    memset(payload, 0, OD_LINK_PAYLOAD_BYTES);
    for (uint32_t i = 0; i < n && left > 0; i++) {
        payload[i] = take();
    }
    return n;
}

static bool may_move_weights(uint8_t type, bool uploading) {
    return type == OD_TRAIN || type == OD_APPLY || type == OD_RESET_MODEL ||
           type == OD_CHECKPOINT_LOAD || (type == OD_WRITE && uploading);
}

/* The request that the session waits for: it must be executed and answered. The first one with a
 * key opens the session that was greeted. */
static void request(uint8_t type, const uint8_t *payload, uint32_t n, uint32_t id) {
    const uint32_t sequence = id == session.id ? session.sequence + 1u : 1u;
    const uint32_t trained = session.counters.trained;
    const uint32_t evaluated = session.counters.evaluated;
    const bool uploading = !session.parameters_valid;
    send_and_keep(type, id, sequence, payload, n);
    CHECK(replies == 1);
    CHECK(host.header.sequence == sequence && host.header.session == id);
    CHECK(session.sequence == sequence && session.id == (type == OD_BYE && n == 0 ? 0 : id));
    const uint8_t *reply = host.bytes + OD_HEADER_BYTES;
    const bool refused = host.header.type == OD_ERROR;
    if (refused) {
        CHECK(host.payload_bytes == 8 && reply[1] == type && reply[0] != OD_FAIL_NONE);
        CHECK(!weights_moved());
    } else {
        CHECK(host.header.type == (type | OD_REPLY));
    }
    if (!may_move_weights(type, uploading)) {
        CHECK(!weights_moved());
    }
    if (type == OD_TRAIN || type == OD_EVALUATE) {
        CHECK(session.counters.trained == trained + (!refused && type == OD_TRAIN ? 1u : 0));
        CHECK(session.counters.evaluated == evaluated + (!refused && type == OD_EVALUATE ? 1u : 0));
        CHECK(refused || !uploading);
    } else if (type != OD_RESET_COUNTERS && type != OD_CHECKPOINT_LOAD) {
        CHECK(session.counters.trained == trained && session.counters.evaluated == evaluated);
    }
    if (type == OD_READ && n >= 12 && !port.allow_export && payload[0] <= OD_REGION_LABEL) {
        CHECK(refused || host.payload_bytes == 0);
    }
    copy_weights(weights_before);
}

/* Bytes that are no request in order: nothing may happen but an answer or two. */
static void nothing_runs(const uint8_t *bytes, uint32_t n, uint32_t most_replies) {
    const uint32_t sequence = session.sequence;
    const uint32_t id = session.id;
    const od_counters_t counters = session.counters;
    receive(bytes, n);
    CHECK(replies <= most_replies);
    CHECK(session.sequence == sequence && session.id == id && !weights_moved());
    CHECK(memcmp(&counters, &session.counters, sizeof counters) == 0);
}

static void hello(uint32_t id) {
    if (port.key != NULL) {
        uint8_t nonce[OD_NONCE_BYTES];
        memset(nonce, take(), sizeof nonce);
        /* Whoever greets has proved nothing: the session that is open goes on. */
        nothing_runs(wire, encode(OD_HELLO, id, 0, nonce, sizeof nonce), id == session.id ? 0 : 1);
        CHECK(id == session.id || session.pending.id == id);
        return;
    }
    const bool again = id == session.id;
    const bool opened = session.opened;
    send_and_keep(OD_HELLO, id, 0, wire, 0);
    CHECK(replies == (again && !opened ? 0 : 1u));
    CHECK(session.id == id && !weights_moved());
}

static void damaged(const uint8_t *payload, uint32_t n, uint8_t type) {
    const uint32_t bytes = encode(type, session.id, session.sequence + 1u, payload, n);
    const uint32_t at = 1u + (uint32_t)(take() | take() << 8) % (bytes - 2u);
    const uint8_t change = take();
    wire[at] ^= change == 0 ? 1 : change;
    nothing_runs(wire, bytes, 1); /* pieces of a frame that is cut by a zero get one NAK */
}

static void out_of_order(const uint8_t *payload, uint32_t n, uint8_t type) {
    const uint8_t how = take();
    const uint32_t id = session.id + (how & 3u);
    const uint32_t sequence = session.sequence + 2u + (how >> 2);
    if (id != session.id && key_of(id) != NULL) {
        return; /* it would be right for the session that was greeted */
    }
    nothing_runs(wire, encode(type, id, sequence, payload, n), 1);
}

/* A frame in order, of a sender without the key. */
static void forged(const uint8_t *payload, uint32_t n, uint8_t type, uint32_t id) {
    static uint8_t frame[OD_FRAME_BYTES];
    const od_header_t header = {OD_PROTOCOL_VERSION, type, id,
                                id == session.id ? session.sequence + 1u : 1u};
    uint8_t wrong[OD_KEY_BYTES];
    memcpy(wrong, key_of(id), sizeof wrong);
    wrong[take() % sizeof wrong] ^= 1u;
    memcpy(frame + OD_HEADER_BYTES, payload, n);
    if ((take() & 1u) != 0) {
        od_header_write(&header, frame);
        od_frame_tag(wrong, OD_FROM_HOST, frame, OD_HEADER_BYTES + n, frame + OD_HEADER_BYTES + n);
        n += OD_TAG_BYTES;
    }
    nothing_runs(wire, od_frame_encode(&header, frame, n, wire), 1);
}

static const uint8_t types[] = {
    OD_WRITE,
    OD_READ,
    OD_DESCRIBE,
    OD_IDENTIFY,
    OD_TRAIN,
    OD_EVALUATE,
    OD_APPLY,
    OD_SCHEDULE,
    OD_READ_COUNTERS,
    OD_RESET_COUNTERS,
    OD_MEMORY,
    OD_PAINT,
    OD_PARAMETERS_BEGIN,
    OD_PARAMETERS_COMMIT,
    OD_RESET_MODEL,
    OD_BYE,
    OD_CHECKPOINT_SAVE,
    OD_CHECKPOINT_LOAD,
    OD_CHECKPOINT_LIST,
    OD_CHECKPOINT_ERASE,
};

static uint8_t take_type(void) {
    const uint8_t code = take();
    const uint8_t type = code < 0xC0u ? types[code % sizeof types] : (uint8_t)(code & 0x7Fu);
    return type == OD_HELLO ? OD_WRITE : type; /* `hello` is for that */
}

/* WRITE or READ of some region, near its ends as often as not. */
static uint8_t take_access(uint8_t *payload, uint32_t *n) {
    const uint8_t how = take();
    const uint8_t length = take();
    memset(payload, length, OD_LINK_PAYLOAD_BYTES);
    uint8_t *at = od_put_u8(payload, how % 7u);
    at = od_put_u8(at, 0);
    at = od_put_u16(at, how / 7u % 4u);
    at = od_put_u32(at, (how & 1u) != 0 ? take() : 0);
    *n = 8u + length;
    if ((how & 2u) != 0) {
        (void)od_put_u32(at, length);
        *n = 12;
    }
    const uint32_t most = od_session_payload_bytes(&session);
    *n = *n < most ? *n : most;
    return (how & 2u) != 0 ? OD_READ : OD_WRITE;
}

static void operate(uint8_t operation) {
    static uint8_t payload[OD_LINK_PAYLOAD_BYTES];
    uint8_t raw[256];
    uint32_t n = 0;
    const uint32_t kind = operation % 10u;
    switch (kind) {
    case 0: /* any bytes: whether they hold a good frame by chance, only CRC-32 knows */
        n = take();
        n = n < left ? n : (uint32_t)left;
        memcpy(raw, script, n);
        script += n;
        left -= n;
        receive(raw, n);
        kept_bytes = 0; /* it may be another that was executed last */
        copy_weights(weights_before);
        break;
    case 1:
        hello(1u + take() % 3u);
        break;
    case 2:
        power_on();
        break;
    case 3: /* a copy of a request: its reply again, or silence */
        if (session.id != 0 && kept_bytes > 0) {
            nothing_runs(kept, kept_bytes, 1);
        }
        break;
    case 4:
        if (session.id != 0) { /* an upload that is right */
            (void)od_put_u32(payload, weights_crc());
            request(OD_PARAMETERS_COMMIT, payload, 4, session.id);
        }
        break;
    default: {
        const uint8_t type = kind == 8 ? take_access(payload, &n) : take_type();
        n = kind == 8 ? n : take_payload(payload);
        if (session.id == 0 && session.pending.id == 0) {
            hello(1);
        }
        const bool greeted = session.pending.id != 0 && (session.id == 0 || operation > 127u);
        const uint32_t id = greeted ? session.pending.id : session.id;
        if (kind == 5 && session.id != 0) {
            damaged(payload, n, type);
        } else if (kind == 6 && session.id != 0) {
            out_of_order(payload, n, type);
        } else if (kind == 7 && port.key != NULL) {
            forged(payload, n, type, id);
        } else {
            request(type, payload, n, id);
        }
    }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    script = data;
    left = size;
    const uint8_t lent = take();
    if (flash.steps > 0 || flash.bank_bytes == 0) {
        nor_init(&flash, BANK_BYTES, UNIT_BYTES);
    }
    storage = nor_storage(&flash);
    port = fake_port(take_reply, NULL);
    port.allow_export = (lent & 1u) != 0;
    static const uint8_t key[OD_KEY_BYTES] = {1, 2, 3};
    port.key = (lent & 4u) != 0 ? key : NULL;
    port.start_seed = (od_start_seed_t){.fresh = true, .boots = 1};
    port.storage = (lent & 2u) != 0 ? &storage : NULL;
    kept_bytes = 0;
    memset(od_model.label, 0, od_model.label_bytes);
    power_on();
    while (left > 0) {
        operate(take());
    }
    return 0;
}
