/* BLAKE2s (RFC 7693): a hash of any bytes, or with a key their authentication tag. */
#ifndef ONDEVICE_BLAKE2S_H
#define ONDEVICE_BLAKE2S_H

#include <stdbool.h>
#include <stdint.h>

#define OD_BLAKE2S_BLOCK_BYTES 64u
#define OD_BLAKE2S_DIGEST_BYTES 32u /* the longest */
#define OD_BLAKE2S_KEY_BYTES 32u    /* the longest */

typedef struct {
    uint32_t h[8];
    uint64_t count; /* of bytes compressed */
    uint32_t fill;  /* bytes in `block` */
    uint32_t digest_bytes;
    uint8_t block[OD_BLAKE2S_BLOCK_BYTES];
} od_blake2s_t;

/* Begin a digest of 1 to 32 bytes, keyed where key_bytes is 1 to 32 and not 0. */
void od_blake2s_begin(od_blake2s_t *state, uint32_t digest_bytes, const uint8_t *key,
                      uint32_t key_bytes);

void od_blake2s_add(od_blake2s_t *state, const uint8_t *bytes, uint32_t n);

/* Write the digest and wipe the state, which may hold a key. */
void od_blake2s_end(od_blake2s_t *state, uint8_t *digest);

/* Whether n bytes are the same, in a time that does not depend on what they are. */
bool od_bytes_match(const uint8_t *a, const uint8_t *b, uint32_t n);

#endif
