/* Fuzzes the receiver of frames with a stream of any bytes.
 *
 * Watched besides the sanitizers: a frame that is taken has the CRC that is computed here from its
 * definition, bit by bit, and comes out again as the same bytes; the next frame after any noise is
 * taken; and a receiver remembers nothing of what came before a delimiter.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ondevice/frame.h"
#include "ondevice/little_endian.h"

static void check(bool holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "not so: %s\n", what);
        abort();
    }
}

static uint32_t slow_crc(const uint8_t *bytes, uint32_t n) {
    uint32_t crc = 0xFFFFFFFFu;
    for (uint32_t bit = 0; bit < 8u * n; bit++) {
        const uint32_t in = (uint32_t)bytes[bit / 8u] >> (bit % 8u) & 1u;
        crc = (crc >> 1) ^ (((crc ^ in) & 1u) != 0 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

static void take_good(const od_frame_receiver_t *receiver) {
    static uint8_t frame[OD_FRAME_BYTES];
    static uint8_t wire[OD_WIRE_BYTES(OD_FRAME_BYTES)];
    static od_frame_receiver_t again;
    const uint32_t n = OD_HEADER_BYTES + receiver->payload_bytes;
    check(receiver->payload_bytes <= OD_LINK_PAYLOAD_BYTES, "the payload is within bounds");
    check(slow_crc(receiver->bytes, n) == od_get_u32(receiver->bytes + n), "its CRC is right");
    memcpy(frame, receiver->bytes, n);
    const uint32_t bytes = od_frame_encode(&receiver->header, frame, receiver->payload_bytes, wire);
    check(memcmp(frame, receiver->bytes, n + 4u) == 0, "the same frame");
    od_frame_start(&again);
    for (uint32_t i = 0; i < bytes; i++) {
        const od_frame_status_t status = od_frame_push(&again, wire[i]);
        check(status == (i + 1u == bytes ? OD_FRAME_GOOD : OD_FRAME_NONE), "one frame");
    }
    check(memcmp(again.bytes, receiver->bytes, n + 4u) == 0, "the same bytes");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    od_frame_receiver_t *receiver = malloc(sizeof *receiver);
    od_frame_start(receiver);
    for (size_t i = 0; i < size; i++) {
        if (od_frame_push(receiver, data[i]) == OD_FRAME_GOOD) {
            take_good(receiver);
        }
    }
    /* The input itself as the payload of the frame that follows. */
    static uint8_t frame[OD_FRAME_BYTES];
    static uint8_t wire[OD_WIRE_BYTES(OD_FRAME_BYTES)];
    const uint32_t n = size < OD_LINK_PAYLOAD_BYTES ? (uint32_t)size : OD_LINK_PAYLOAD_BYTES;
    const od_header_t header = {OD_PROTOCOL_VERSION, (uint8_t)size, 1, 2};
    memcpy(frame + OD_HEADER_BYTES, data, n);
    const uint32_t bytes = od_frame_encode(&header, frame, n, wire);
    for (uint32_t i = 0; i < bytes; i++) {
        const od_frame_status_t status = od_frame_push(receiver, wire[i]);
        check(i == 0 || status == (i + 1u == bytes ? OD_FRAME_GOOD : OD_FRAME_NONE),
              "a frame after noise");
    }
    take_good(receiver);
    check(receiver->payload_bytes == n &&
              (n == 0 || memcmp(receiver->bytes + OD_HEADER_BYTES, data, n) == 0),
          "the payload");
    free(receiver);
    return 0;
}
