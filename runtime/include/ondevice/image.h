/* What a firmware image says of itself: written into it by the host after linking (image.py). */
#ifndef ONDEVICE_IMAGE_H
#define ONDEVICE_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "ondevice/authentication.h"

#define OD_IMAGE_MAGIC "ODIMAGE1"
#define OD_IMAGE_DIGEST_BYTES 32u

typedef struct {
    uint8_t magic[8];
    uint32_t bytes; /* of the whole image; 0: never sealed */
    uint32_t reserved;
    uint8_t model_id[16];
    uint8_t digest[OD_IMAGE_DIGEST_BYTES]; /* BLAKE2s of the image, with zeros in its own place */
    uint8_t key[OD_KEY_BYTES];             /* all 0 or all 0xFF: none */
    uint8_t salt[16];                      /* random, of each build with a key for a real board */
} od_image_t;

/* Whether the image of n bytes that holds this header is as it was when it was sealed. */
bool od_image_is_whole(const od_image_t *image, const uint8_t *start, uint32_t n);

/* The key; NULL where there is none. */
const uint8_t *od_image_key(const od_image_t *image);

#endif
