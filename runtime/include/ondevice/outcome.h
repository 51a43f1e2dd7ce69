/* How the handler of a request says how the request ended. */
#ifndef ONDEVICE_OUTCOME_H
#define ONDEVICE_OUTCOME_H

#include <stdint.h>

#include "ondevice/messages.h"

/* `bytes` of reply where `fail` is OD_FAIL_NONE. */
typedef struct {
    od_failure_t fail;
    int32_t detail;
    uint32_t bytes;
} od_outcome_t;

static inline od_outcome_t od_done(uint32_t bytes) {
    return (od_outcome_t){OD_FAIL_NONE, 0, bytes};
}

static inline od_outcome_t od_failed(od_failure_t fail) { return (od_outcome_t){fail, 0, 0}; }

static inline od_outcome_t od_failed_with(od_failure_t fail, int32_t detail) {
    return (od_outcome_t){fail, detail, 0};
}

#endif
