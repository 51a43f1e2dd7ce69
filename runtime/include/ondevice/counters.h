/* How far training is: kept in RAM by the session and in flash by checkpoints. */
#ifndef ONDEVICE_COUNTERS_H
#define ONDEVICE_COUNTERS_H

#include <stdint.h>

/* Which run the device is in, how far, and sums since RESET_COUNTERS. */
typedef struct {
    uint64_t run;     /* chosen by the host; 0: none */
    uint32_t trained; /* samples: the run goes on with the next one */
    uint32_t updates; /* of the parameters: fewer than samples where gradients accumulate */
    uint32_t evaluated;
    uint32_t correct;
    double loss_sum;
} od_counters_t;

#endif
