#include "ondevice/image.h"

#include <stddef.h>

#include "ondevice/blake2s.h"

bool od_image_is_whole(const od_image_t *image, const uint8_t *start, uint32_t n) {
    static const uint8_t blank[OD_IMAGE_DIGEST_BYTES];
    const uint32_t at = (uint32_t)(image->digest - start);
    if (image->bytes != n || at > n - OD_IMAGE_DIGEST_BYTES) {
        return false;
    }
    uint8_t digest[OD_IMAGE_DIGEST_BYTES];
    od_blake2s_t state;
    od_blake2s_begin(&state, sizeof digest, NULL, 0);
    od_blake2s_add(&state, start, at);
    od_blake2s_add(&state, blank, sizeof blank);
    const uint32_t after = at + OD_IMAGE_DIGEST_BYTES;
    od_blake2s_add(&state, start + after, n - after);
    od_blake2s_end(&state, digest);
    return od_bytes_match(digest, image->digest, sizeof digest);
}

const uint8_t *od_image_key(const od_image_t *image) {
    bool zeros = true;
    bool erased = true;
    for (uint32_t i = 0; i < OD_KEY_BYTES; i++) {
        zeros = zeros && image->key[i] == 0;
        erased = erased && image->key[i] == 0xFF;
    }
    return zeros || erased ? NULL : image->key;
}
