#include "ondevice/authentication.h"

#include "ondevice/blake2s.h"
#include "ondevice/little_endian.h"

/* What a digest is for is its first input, so that none can be passed off as another. */
#define PURPOSE_BYTES 16u

static void begin(od_blake2s_t *state, uint32_t digest_bytes, const uint8_t *key,
                  const char purpose[PURPOSE_BYTES + 1u]) {
    od_blake2s_begin(state, digest_bytes, key, OD_KEY_BYTES);
    od_blake2s_add(state, (const uint8_t *)purpose, PURPOSE_BYTES);
}

static void add_u32(od_blake2s_t *state, uint32_t value) {
    uint8_t bytes[4];
    (void)od_put_u32(bytes, value);
    od_blake2s_add(state, bytes, sizeof bytes);
}

void od_device_nonce(const uint8_t *key, const od_start_seed_t *seed, const uint8_t unique_id[16],
                     uint32_t greeting, uint8_t nonce[OD_NONCE_BYTES]) {
    od_blake2s_t state;
    begin(&state, OD_NONCE_BYTES, key, "ondevice nonce 1");
    od_blake2s_add(&state, unique_id, 16);
    add_u32(&state, seed->boots);
    add_u32(&state, greeting);
    od_blake2s_add(&state, seed->entropy, sizeof seed->entropy);
    od_blake2s_end(&state, nonce);
}

void od_session_key(const uint8_t *key, uint32_t session, const uint8_t host_nonce[OD_NONCE_BYTES],
                    const uint8_t device_nonce[OD_NONCE_BYTES], uint8_t session_key[OD_KEY_BYTES]) {
    od_blake2s_t state;
    begin(&state, OD_KEY_BYTES, key, "ondevice session");
    add_u32(&state, session);
    od_blake2s_add(&state, host_nonce, OD_NONCE_BYTES);
    od_blake2s_add(&state, device_nonce, OD_NONCE_BYTES);
    od_blake2s_end(&state, session_key);
}

void od_frame_tag(const uint8_t session_key[OD_KEY_BYTES], od_direction_t direction,
                  const uint8_t *frame, uint32_t n, uint8_t tag[OD_TAG_BYTES]) {
    const uint8_t way = (uint8_t)direction;
    od_blake2s_t state;
    od_blake2s_begin(&state, OD_TAG_BYTES, session_key, OD_KEY_BYTES);
    od_blake2s_add(&state, &way, 1);
    od_blake2s_add(&state, frame, n);
    od_blake2s_end(&state, tag);
}
