/* Frames of the link: 0x00, COBS(header, payload, CRC-32), 0x00. docs/PROTOCOL.md has each byte. */
#ifndef ONDEVICE_FRAME_H
#define ONDEVICE_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#include "ondevice/cobs.h"

#define OD_PROTOCOL_VERSION 3

/* The largest payload, both ways. */
#ifndef OD_LINK_PAYLOAD_BYTES
#define OD_LINK_PAYLOAD_BYTES 1024
#endif
#if OD_LINK_PAYLOAD_BYTES < 256 || OD_LINK_PAYLOAD_BYTES > 32768
#error "OD_LINK_PAYLOAD_BYTES must be 256 to 32768"
#endif

#define OD_HEADER_BYTES 10u
#define OD_FRAME_BYTES (OD_HEADER_BYTES + OD_LINK_PAYLOAD_BYTES + 4u)
/* On the wire a frame of n bytes before COBS takes at most this, with both delimiters. */
#define OD_WIRE_BYTES(n) (OD_COBS_ENCODED_BYTES(n) + 2u)

typedef struct {
    uint8_t version;
    uint8_t type;
    uint32_t session;
    uint32_t sequence;
} od_header_t;

void od_header_write(const od_header_t *header, uint8_t *frame);

/* Finish the frame whose payload lies at frame + OD_HEADER_BYTES: fill in the header before it and
 * the CRC after it (frame has OD_HEADER_BYTES + payload_bytes + 4 bytes), and write it, encoded
 * and delimited, to `wire`; returns the bytes written. */
uint32_t od_frame_encode(const od_header_t *header, uint8_t *frame, uint32_t payload_bytes,
                         uint8_t *wire);

typedef enum {
    OD_FRAME_NONE, /* not yet */
    OD_FRAME_GOOD, /* header and payload are valid until the next push */
    OD_FRAME_BAD   /* something ended that is no frame: noise, cut short, too long or a wrong CRC */
} od_frame_status_t;

typedef struct {
    od_header_t header;
    uint32_t payload_bytes;
    uint8_t bytes[OD_FRAME_BYTES]; /* header, payload and CRC, decoded */

    od_cobs_decoder_t decoder;
    uint32_t count;
    bool begun;    /* a byte came since the last delimiter */
    bool too_long; /* the rest of this one is skipped */
} od_frame_receiver_t;

void od_frame_start(od_frame_receiver_t *receiver);

od_frame_status_t od_frame_push(od_frame_receiver_t *receiver, uint8_t byte);

#endif
