/* The key of the noise, one of the parameters: a key and a count of updates give the same noise
 * again, so whatever sets the count back clears the key. Whoever goes on writes a fresh one. */
#ifndef ONDEVICE_NOISE_KEY_H
#define ONDEVICE_NOISE_KEY_H

#include <stdbool.h>
#include <stdint.h>

#include "ondevice/model.h"

#define OD_NOISE_KEY_WORDS 8u

/* Whether there is a key: all zeros are none. */
bool od_noise_key_given(const uint32_t *key);

/* Forget the model's key, where it has one. */
void od_noise_key_clear(const od_model_t *model);

#endif
