#include "ondevice/noise_key.h"

#include <string.h>

bool od_noise_key_given(const uint32_t *key) {
    uint32_t any = 0;
    for (uint32_t i = 0; i < OD_NOISE_KEY_WORDS; i++) {
        any |= key[i];
    }
    return any != 0;
}

void od_noise_key_clear(const od_model_t *model) {
    for (uint32_t i = 0; i < model->parameter_count; i++) {
        if (model->parameters[i].kind == OD_NOISE_KEY) {
            memset(model->parameters[i].data, 0, model->parameters[i].bytes);
        }
    }
}
