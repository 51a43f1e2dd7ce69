/* Waiting for hardware, but not for ever. */
#ifndef ONDEVICE_FIRMWARE_WAIT_H
#define ONDEVICE_FIRMWARE_WAIT_H

#include <stdint.h>

#define WAIT_TURNS 1000000u /* above 20 ms on every board: oscillators take 10 ms at most */

/* Waits until the bits of `mask` are `value`; 0 where they did not become so in `turns` reads. */
static inline int wait_until(const volatile uint32_t *address, uint32_t mask, uint32_t value,
                             uint32_t turns) {
    for (uint32_t turn = 0; turn < turns; turn++) {
        if ((*address & mask) == value) {
            return 1;
        }
    }
    return 0;
}

static inline int wait_for(const volatile uint32_t *address, uint32_t mask) {
    return wait_until(address, mask, mask, WAIT_TURNS);
}

#endif
