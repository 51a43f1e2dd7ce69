#include "ondevice/memory.h"

#include <string.h>

void od_arena_paint(const od_model_t *model, uint8_t pattern) {
    if (model->arena_bytes > 0) {
        memset(model->arena, pattern, model->arena_bytes);
    }
}

uint32_t od_arena_high_water(const od_model_t *model, uint8_t pattern) {
    uint32_t n = model->arena_bytes;
    while (n > 0 && model->arena[n - 1u] == pattern) {
        n--;
    }
    return n;
}
