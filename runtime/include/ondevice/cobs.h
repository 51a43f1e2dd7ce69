/* Consistent Overhead Byte Stuffing (Cheshire and Baker, 1999): bytes without any 0x00. */
#ifndef ONDEVICE_COBS_H
#define ONDEVICE_COBS_H

#include <stdbool.h>
#include <stdint.h>

/* The most that n bytes become, without delimiters. */
#define OD_COBS_ENCODED_BYTES(n) ((n) + (n) / 254u + 1u)

/* Encode n bytes into `to`, which has OD_COBS_ENCODED_BYTES(n); returns the bytes written. */
uint32_t od_cobs_encode(const uint8_t *from, uint32_t n, uint8_t *to);

/* Decodes a byte at a time, so that a receiver needs no buffer of encoded bytes. */
typedef struct {
    uint8_t left; /* bytes to come in this block */
    bool zero;    /* a 0x00 stands between this block and the next, if there is one */
} od_cobs_decoder_t;

void od_cobs_start(od_cobs_decoder_t *decoder);

/* Take one encoded byte (not 0x00) and write up to one decoded byte; returns how many (0 or 1). */
uint32_t od_cobs_push(od_cobs_decoder_t *decoder, uint8_t byte, uint8_t *to);

/* True where the data may end here: no byte of the last block is missing. */
bool od_cobs_complete(const od_cobs_decoder_t *decoder);

#endif
