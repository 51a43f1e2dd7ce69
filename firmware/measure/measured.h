/* One call of one kernel: what tools/ondevice/measure generates, and measure.c calls. */
#ifndef ONDEVICE_FIRMWARE_MEASURED_H
#define ONDEVICE_FIRMWARE_MEASURED_H

#include <stdint.h>

#include "ondevice/model.h"

/* The operands in RAM, and what they hold before the call. */
extern uint32_t od_arena[];
extern const uint32_t od_arena_first[];
extern const uint32_t od_arena_bytes;

/* State of the delayed gradients that the kernel reads or writes. */
extern od_grad_scale_t od_scales[];
extern const od_grad_scale_t od_scales_first[];
extern const uint32_t od_scale_count;

extern const float od_measured_rate;

void od_measured(float rate);

#endif
