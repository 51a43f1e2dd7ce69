/* A session on a board that lends nothing but a way out, and with a model that lacks what it may:
 * no counter, no profile, no stack figures, no APPLY. Prints what differs; exits with 0 if nothing
 * does. */
#include <stdio.h>
#include <string.h>

#include "ondevice/little_endian.h"
#include "ondevice/messages.h"
#include "ondevice/session.h"

static od_session_t session;
static od_frame_receiver_t host;
static uint8_t reply_type;
static uint32_t reply_bytes;
static uint32_t painted;
static int failed;

static void take_reply(void *context, const uint8_t *bytes, uint32_t n) {
    (void)context;
    for (uint32_t i = 0; i < n; i++) {
        if (od_frame_push(&host, bytes[i]) == OD_FRAME_GOOD) {
            reply_type = host.header.type;
            reply_bytes = host.payload_bytes;
        }
    }
}

static void count_paint(void *context) {
    (void)context;
    painted++;
}

static int32_t fail_to_apply(float learning_rate, od_trace_t *trace) {
    (void)learning_rate;
    (void)trace;
    return -42;
}

static void ask(uint8_t type, const uint8_t *payload, uint32_t n) {
    static uint8_t frame[OD_FRAME_BYTES];
    static uint8_t wire[OD_WIRE_BYTES(OD_FRAME_BYTES)];
    const od_header_t header = {OD_PROTOCOL_VERSION, type, 1,
                                type == OD_HELLO ? 0 : session.sequence + 1u};
    if (n > 0) {
        memcpy(frame + OD_HEADER_BYTES, payload, n);
    }
    reply_type = 0;
    od_session_receive(&session, wire, od_frame_encode(&header, frame, n, wire));
}

static const uint8_t *reply(void) { return host.bytes + OD_HEADER_BYTES; }

static void expect(const char *what, uint32_t found, uint32_t wanted) {
    if (found != wanted) {
        printf("%s: %u, not %u\n", what, found, wanted);
        failed = 1;
    }
}

static void expect_failure(const char *what, od_failure_t failure, int32_t detail) {
    expect(what, reply_type, OD_ERROR);
    expect(what, reply()[0], (uint32_t)failure);
    expect(what, od_get_u32(reply() + 4), (uint32_t)detail);
}

static void start(const od_model_t *model, const od_port_t *port) {
    od_frame_start(&host);
    expect("init", (uint32_t)od_session_init(&session, model, port), OD_OK);
    ask(OD_HELLO, NULL, 0);
    expect("HELLO", reply_type, OD_HELLO | OD_REPLY);
}

int main(void) {
    static const uint8_t rate[4] = {0, 0, 0, 0x3F};
    static const uint8_t profile[12] = {OD_REGION_PROFILE, 0, 0, 0, 0, 0, 0, 0, 4};
    static const uint8_t pattern[1] = {0x5A};
    od_model_t model = od_model;
    od_port_t port = {.write = take_reply, .board = "bare"};

    model.abi = OD_MODEL_ABI + 1;
    expect("another ABI", (uint32_t)od_session_init(&session, &model, &port),
           (uint32_t)OD_ERROR_ABI);

    model = od_model;
    model.apply = NULL;
    start(&model, &port);
    expect("operators in the profile", od_get_u32(reply() + 60), 0);
    ask(OD_READ, profile, sizeof profile);
    expect_failure("a profile that is not there", OD_FAIL_REGION, 0);
    ask(OD_APPLY, rate, sizeof rate);
    expect_failure("APPLY where every step updates", OD_FAIL_UNSUPPORTED, 0);
    ask(OD_RESET_COUNTERS, NULL, 0);
    expect("RESET_COUNTERS", reply_type, OD_RESET_COUNTERS | OD_REPLY);
    ask(OD_MEMORY, NULL, 0);
    expect("stack that is not measured", od_get_u32(reply() + 4), 0);
    ask(OD_TRAIN, rate, sizeof rate);
    expect("TRAIN", reply_type, OD_TRAIN | OD_REPLY);
    expect("ticks without a counter", od_get_u32(reply() + 12), 0);
    ask(OD_BYE, NULL, 0);
    expect("BYE", reply_type, OD_BYE | OD_REPLY);
    expect("the session after BYE", session.id, 0);

    model.apply = fail_to_apply;
    model.name = NULL;
    port.stack_paint = count_paint;
    start(&model, &port);
    expect("a name that is not there", reply()[76], 0);
    ask(OD_APPLY, rate, sizeof rate);
    expect_failure("APPLY that fails", OD_FAIL_MODEL, -42);
    ask(OD_PAINT, pattern, sizeof pattern);
    expect("PAINT of the stack", painted, 1);
    expect("a reply without payload", reply_bytes, 0);
    return failed;
}
