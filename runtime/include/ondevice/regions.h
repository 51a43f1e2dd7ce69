/* The memory that the host may read or write by name. */
#ifndef ONDEVICE_REGIONS_H
#define ONDEVICE_REGIONS_H

#include "ondevice/session.h"

#define OD_NO_DTYPE 0xFFu /* none of od_dtype_t, or not for the link to know */
#define OD_NO_KIND 0xFFu  /* not a parameter */

typedef struct {
    uint8_t *data;
    uint32_t bytes;
    uint8_t dtype;
    uint8_t kind;  /* od_parameter_kind_t, or OD_NO_KIND */
    bool readable; /* what is private leaves the device only where the build allows it */
    bool writable; /* now */
    const char *name;
} od_region_t;

/* Find the region with this number (messages.h) and index; returns false where there is none. */
bool od_region_find(const od_session_t *session, uint8_t id, uint16_t index, od_region_t *found);

/* Clear what never leaves the device: the sample and its label; optimiser state and gradients. */
void od_sample_clear(const od_model_t *model);
void od_state_clear(const od_model_t *model);

#endif
