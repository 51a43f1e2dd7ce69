/* Ticks of each operator: the listing marks the end of each call with its operator's index. */
#ifndef ONDEVICE_TRACE_H
#define ONDEVICE_TRACE_H

#include <stddef.h>

#include "ondevice/model.h"

static inline void od_trace_start(od_trace_t *trace) {
    if (trace != NULL && trace->counter != NULL) {
        trace->last = trace->counter();
    }
}

/* Add the ticks since the last mark to operator `op`. */
static inline void od_mark(od_trace_t *trace, uint32_t op) {
    if (trace != NULL && trace->counter != NULL) {
        const uint32_t now = trace->counter();
        trace->per_op[op] += now - trace->last;
        trace->last = now;
    }
}

#endif
