/* Learning-rate schedules in float32: the same bits on every CPU, and in the host tool. */
#ifndef ONDEVICE_SCHEDULE_H
#define ONDEVICE_SCHEDULE_H

#include <stdint.h>

typedef enum { OD_CONSTANT = 0, OD_LINEAR = 1, OD_COSINE = 2, OD_STEP = 3 } od_schedule_kind_t;

/* Steps are updates. After a linear warm-up the rate stays, falls to 0 at total_steps along a line
 * or half a cosine, or is multiplied by step_factor every step_every steps. */
typedef struct {
    od_schedule_kind_t kind;
    float learning_rate; /* the highest */
    uint32_t warmup_steps;
    uint32_t total_steps; /* with the warm-up */
    uint32_t step_every;  /* above 0 */
    float step_factor;    /* in [0, 1] */
} od_schedule_t;

/* Rate of the update that follows `step` others. */
float od_learning_rate(const od_schedule_t *schedule, uint32_t step);

#endif
