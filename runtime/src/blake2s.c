/* Written from RFC 7693. Rolled up: 1 KB of code, for chips with 64 KB of flash. */
#include "ondevice/blake2s.h"

#include <string.h>

#include "ondevice/little_endian.h"

#define ROUNDS 10u

static const uint32_t initial[8] = {0x6A09E667u, 0xBB67AE85u, 0x3C6EF372u, 0xA54FF53Au,
                                    0x510E527Fu, 0x9B05688Cu, 0x1F83D9ABu, 0x5BE0CD19u};

static const uint8_t sigma[ROUNDS][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
    {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4},
    {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13},
    {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11},
    {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5},
    {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
};

static uint32_t rotate_right(uint32_t x, uint32_t n) { return (x >> n) | (x << (32u - n)); }

/* G of RFC 7693, 3.1, on one column or diagonal. */
static inline void mix(uint32_t *v, uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t x,
                       uint32_t y) {
    v[a] += v[b] + x;
    v[d] = rotate_right(v[d] ^ v[a], 16);
    v[c] += v[d];
    v[b] = rotate_right(v[b] ^ v[c], 12);
    v[a] += v[b] + y;
    v[d] = rotate_right(v[d] ^ v[a], 8);
    v[c] += v[d];
    v[b] = rotate_right(v[b] ^ v[c], 7);
}

static void compress(od_blake2s_t *state, bool last) {
    uint32_t m[16];
    uint32_t v[16];
    for (uint32_t i = 0; i < 16; i++) {
        m[i] = od_get_u32(&state->block[(size_t)i * 4u]);
    }
    memcpy(v, state->h, sizeof state->h);
    memcpy(v + 8, initial, sizeof initial);
    v[12] ^= (uint32_t)state->count;
    v[13] ^= (uint32_t)(state->count >> 32);
    if (last) {
        v[14] = ~v[14];
    }
    for (uint32_t round = 0; round < ROUNDS; round++) {
        const uint8_t *s = sigma[round];
        mix(v, 0, 4, 8, 12, m[s[0]], m[s[1]]);
        mix(v, 1, 5, 9, 13, m[s[2]], m[s[3]]);
        mix(v, 2, 6, 10, 14, m[s[4]], m[s[5]]);
        mix(v, 3, 7, 11, 15, m[s[6]], m[s[7]]);
        mix(v, 0, 5, 10, 15, m[s[8]], m[s[9]]);
        mix(v, 1, 6, 11, 12, m[s[10]], m[s[11]]);
        mix(v, 2, 7, 8, 13, m[s[12]], m[s[13]]);
        mix(v, 3, 4, 9, 14, m[s[14]], m[s[15]]);
    }
    for (uint32_t i = 0; i < 8; i++) {
        state->h[i] ^= v[i] ^ v[i + 8u];
    }
}

void od_blake2s_begin(od_blake2s_t *state, uint32_t digest_bytes, const uint8_t *key,
                      uint32_t key_bytes) {
    memset(state, 0, sizeof *state);
    memcpy(state->h, initial, sizeof initial);
    state->h[0] ^= 0x01010000u ^ key_bytes << 8 ^ digest_bytes;
    state->digest_bytes = digest_bytes;
    if (key_bytes > 0) {
        memcpy(state->block, key, key_bytes);
        state->fill = OD_BLAKE2S_BLOCK_BYTES; /* the key is a block of its own */
    }
}

void od_blake2s_add(od_blake2s_t *state, const uint8_t *bytes, uint32_t n) {
    while (n > 0) {
        if (state->fill == OD_BLAKE2S_BLOCK_BYTES) { /* more follows: it is not the last */
            state->count += OD_BLAKE2S_BLOCK_BYTES;
            compress(state, false);
            state->fill = 0;
        }
        const uint32_t room = OD_BLAKE2S_BLOCK_BYTES - state->fill;
        const uint32_t step = n < room ? n : room;
        memcpy(state->block + state->fill, bytes, step);
        state->fill += step;
        bytes += step;
        n -= step;
    }
}

/* A plain memset of what is not read again may be left out by the compiler. */
static void wipe(void *memory, uint32_t n) {
    volatile uint8_t *at = memory;
    while (n-- > 0) {
        *at++ = 0;
    }
}

void od_blake2s_end(od_blake2s_t *state, uint8_t *digest) {
    state->count += state->fill;
    memset(state->block + state->fill, 0, OD_BLAKE2S_BLOCK_BYTES - state->fill);
    compress(state, true);
    for (uint32_t i = 0; i < state->digest_bytes; i++) {
        digest[i] = (uint8_t)(state->h[i / 4u] >> 8u * (i % 4u));
    }
    wipe(state, sizeof *state);
}

bool od_bytes_match(const uint8_t *a, const uint8_t *b, uint32_t n) {
    uint32_t difference = 0;
    for (uint32_t i = 0; i < n; i++) {
        difference |= (uint32_t)(a[i] ^ b[i]);
    }
    return difference == 0;
}
