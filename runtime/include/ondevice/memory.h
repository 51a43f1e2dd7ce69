/* How much of the arena a step really touches, measured by painting it. */
#ifndef ONDEVICE_MEMORY_H
#define ONDEVICE_MEMORY_H

#include "ondevice/model.h"

/* A byte that happens to be written with one pattern's value differs from the other's: a
 * measurement runs once with each and takes the larger. */
#define OD_PAINT_A 0xA5u
#define OD_PAINT_B 0x5Au

/* Destroys what is in the arena, the input included where it lies there. */
void od_arena_paint(const od_model_t *model, uint8_t pattern);

/* 1 + the index of the last byte that differs from the pattern; 0 where all are untouched. */
uint32_t od_arena_high_water(const od_model_t *model, uint8_t pattern);

#endif
