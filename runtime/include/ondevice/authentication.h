/* Sessions between a host and a device that share a key: both prove it, and tag every frame.
 *
 * HELLO brings a nonce of the host, its reply one of the device; the session's key is made of both.
 * Neither nonce repeats, so nothing that was recorded is ever right again.
 */
#ifndef ONDEVICE_AUTHENTICATION_H
#define ONDEVICE_AUTHENTICATION_H

#include <stdbool.h>
#include <stdint.h>

#define OD_KEY_BYTES 32u
#define OD_NONCE_BYTES 16u
#define OD_TAG_BYTES 16u

typedef enum { OD_FROM_HOST = 0, OD_FROM_DEVICE = 1 } od_direction_t;

/* What the device keeps to itself at every start, so that its nonces never repeat. */
typedef struct {
    bool fresh; /* the rest differs from that of every other start; else no session is served */
    uint32_t boots;
    uint8_t entropy[16];
} od_start_seed_t;

/* A session that was greeted but has not proved the key: the one before it goes on. */
typedef struct {
    uint32_t id; /* 0: none */
    uint8_t host_nonce[OD_NONCE_BYTES];
    uint8_t device_nonce[OD_NONCE_BYTES];
    uint8_t key[OD_KEY_BYTES];
} od_pending_t;

/* The device's nonce of its `greeting`-th session since the start. */
void od_device_nonce(const uint8_t *key, const od_start_seed_t *seed, const uint8_t unique_id[16],
                     uint32_t greeting, uint8_t nonce[OD_NONCE_BYTES]);

/* The key of one session. */
void od_session_key(const uint8_t *key, uint32_t session, const uint8_t host_nonce[OD_NONCE_BYTES],
                    const uint8_t device_nonce[OD_NONCE_BYTES], uint8_t session_key[OD_KEY_BYTES]);

/* The tag of a frame: of its direction, and of n bytes of header and payload. */
void od_frame_tag(const uint8_t session_key[OD_KEY_BYTES], od_direction_t direction,
                  const uint8_t *frame, uint32_t n, uint8_t tag[OD_TAG_BYTES]);

#endif
