/* Throws frames of any content at a session, many of them damaged, and watches three things: the
 * sanitizers, that steps run only when they are asked for in order, and that little answer comes.
 *
 * Arguments: number of frames, seed. Prints "frames executed" and exits with 0. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake_port.h"
#include "ondevice/messages.h"
#include "ondevice/session.h"

static uint32_t state;

static uint32_t draw(uint32_t below) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state % below;
}

static uint32_t sent_frames;

static void count_frames(void *context, const uint8_t *bytes, uint32_t n) {
    (void)context;
    sent_frames++;
    uint32_t zeros = 0;
    for (uint32_t i = 0; i < n; i++) {
        zeros += bytes[i] == 0 ? 1 : 0;
    }
    if (zeros != 2 || bytes[0] != 0 || bytes[n - 1u] != 0 || n > OD_WIRE_BYTES(OD_FRAME_BYTES)) {
        fprintf(stderr, "a call of write() was not one frame\n");
        exit(1);
    }
}

static const uint8_t types[] = {
    OD_WRITE,
    OD_READ,
    OD_DESCRIBE,
    OD_TRAIN,
    OD_EVALUATE,
    OD_APPLY,
    OD_SCHEDULE,
    OD_MEMORY,
    OD_READ_COUNTERS,
    OD_RESET_COUNTERS,
    OD_PAINT,
    OD_PARAMETERS_BEGIN,
    OD_PARAMETERS_COMMIT,
    OD_RESET_MODEL,
    OD_BYE,
    OD_HELLO,
    OD_NAK,
};

static uint32_t random_payload(uint8_t *payload) {
    static const uint32_t lengths[] = {0, 1, 4, 7, 8, 9, 12, 13, 28, 100, OD_LINK_PAYLOAD_BYTES};
    uint32_t n = lengths[draw(sizeof lengths / sizeof lengths[0])];
    if (draw(4) == 0) {
        n = draw(OD_LINK_PAYLOAD_BYTES + 1u);
    }
    for (uint32_t i = 0; i < n; i++) {
        payload[i] = (uint8_t)(draw(3) == 0 ? draw(256) : draw(7)); /* often a valid address */
    }
    return n;
}

static uint32_t damage(uint8_t *wire, uint32_t n) {
    switch (draw(4)) {
    case 0:
        wire[draw(n)] = (uint8_t)draw(256);
        return n;
    case 1:
        return draw(n);
    case 2:
        for (uint32_t i = draw(n); i < n; i++) {
            wire[i] = (uint8_t)draw(256);
        }
        return n;
    default:
        wire[draw(n)] = 0;
        return n;
    }
}

int main(int argc, char **argv) {
    const uint32_t frames = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1000;
    state = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 1;
    od_session_t *session = malloc(sizeof *session);
    uint8_t *frame = malloc(OD_FRAME_BYTES);
    uint8_t *wire = malloc(OD_WIRE_BYTES(OD_FRAME_BYTES));
    const od_port_t port = fake_port(count_frames, NULL);
    if (od_session_init(session, &od_model, &port) != OD_OK) {
        return 1;
    }
    uint32_t executed = 0;
    for (uint32_t i = 0; i < frames; i++) {
        const uint32_t sequence = session->sequence;
        const uint32_t trained = session->counters.trained;
        od_header_t header = {OD_PROTOCOL_VERSION, types[draw(sizeof types)], session->id,
                              sequence + 1u};
        if (header.type == OD_HELLO || session->id == 0) {
            header = (od_header_t){OD_PROTOCOL_VERSION, OD_HELLO, draw(3), 0};
        } else if (draw(4) == 0) {
            header.sequence = sequence + draw(5) - 2u;
        }
        uint32_t n = random_payload(frame + OD_HEADER_BYTES);
        if (header.type == OD_HELLO && draw(2) == 0) {
            n = 0;
        }
        uint32_t bytes = od_frame_encode(&header, frame, n, wire);
        if (draw(2) == 0) {
            bytes = damage(wire, bytes);
        }
        sent_frames = 0;
        uint8_t *exact = malloc(bytes); /* so that a read beyond it is seen */
        memcpy(exact, wire, bytes);
        od_session_receive(session, exact, bytes);
        free(exact);
        const uint8_t delimiter = 0; /* a frame that lost only its own counts for this turn */
        od_session_receive(session, &delimiter, 1);

        executed += session->sequence == sequence + 1u ? 1 : 0;
        if (sent_frames > 3) {
            fprintf(stderr, "%u answers to one frame\n", sent_frames);
            return 1;
        }
        const bool ran = session->counters.trained == trained + 1u;
        const bool set = header.type == OD_RESET_COUNTERS; /* to what its payload says */
        if (session->counters.trained != trained && !set &&
            !(ran && header.type == OD_TRAIN && session->sequence == sequence + 1u)) {
            fprintf(stderr, "a step ran that was not asked for in order\n");
            return 1;
        }
    }
    printf("%u %u\n", frames, executed);
    free(wire);
    free(frame);
    free(session);
    return 0;
}
