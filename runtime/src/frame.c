#include "ondevice/frame.h"

#include "ondevice/crc32.h"
#include "ondevice/little_endian.h"

void od_header_write(const od_header_t *header, uint8_t *frame) {
    uint8_t *at = od_put_u8(frame, header->version);
    at = od_put_u8(at, header->type);
    at = od_put_u32(at, header->session);
    (void)od_put_u32(at, header->sequence);
}

uint32_t od_frame_encode(const od_header_t *header, uint8_t *frame, uint32_t payload_bytes,
                         uint8_t *wire) {
    od_header_write(header, frame);
    const uint32_t n = OD_HEADER_BYTES + payload_bytes;
    (void)od_put_u32(frame + n, od_crc32(0, frame, n));

    wire[0] = 0; /* ends whatever noise came before */
    const uint32_t encoded = od_cobs_encode(frame, n + 4u, wire + 1);
    wire[1u + encoded] = 0;
    return encoded + 2u;
}

static void begin(od_frame_receiver_t *receiver) {
    od_cobs_start(&receiver->decoder);
    receiver->count = 0;
    receiver->begun = false;
    receiver->too_long = false;
}

void od_frame_start(od_frame_receiver_t *receiver) {
    begin(receiver);
    receiver->payload_bytes = 0;
}

static bool is_whole(const od_frame_receiver_t *receiver) {
    if (receiver->too_long || !od_cobs_complete(&receiver->decoder) ||
        receiver->count < OD_HEADER_BYTES + 4u) {
        return false;
    }
    const uint32_t n = receiver->count - 4u;
    return od_get_u32(receiver->bytes + n) == od_crc32(0, receiver->bytes, n);
}

static od_frame_status_t finish(od_frame_receiver_t *receiver) {
    if (!receiver->begun) {
        return OD_FRAME_NONE; /* two delimiters in a row */
    }
    const bool good = is_whole(receiver);
    if (good) {
        receiver->payload_bytes = receiver->count - OD_HEADER_BYTES - 4u;
        receiver->header.version = receiver->bytes[0];
        receiver->header.type = receiver->bytes[1];
        receiver->header.session = od_get_u32(receiver->bytes + 2);
        receiver->header.sequence = od_get_u32(receiver->bytes + 6);
    }
    begin(receiver);
    return good ? OD_FRAME_GOOD : OD_FRAME_BAD;
}

od_frame_status_t od_frame_push(od_frame_receiver_t *receiver, uint8_t byte) {
    if (byte == 0) {
        return finish(receiver);
    }
    receiver->begun = true;
    uint8_t decoded = 0;
    if (!receiver->too_long && od_cobs_push(&receiver->decoder, byte, &decoded) == 1) {
        if (receiver->count < OD_FRAME_BYTES) {
            receiver->bytes[receiver->count++] = decoded;
        } else {
            receiver->too_long = true;
        }
    }
    return OD_FRAME_NONE;
}
