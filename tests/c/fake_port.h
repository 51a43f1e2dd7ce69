/* A port for tests: a counter of its own calls, and a stack that is always 123 bytes deep. */
#ifndef FAKE_PORT_H
#define FAKE_PORT_H

#include <stddef.h>

#include "ondevice/port.h"

static uint32_t fake_counter(void) {
    static uint32_t calls;
    return calls++;
}

static uint32_t fake_stack_high_water(void *context) {
    (void)context;
    return 123;
}

static uint32_t fake_profile[3];

static inline od_port_t fake_port(void (*write)(void *, const uint8_t *, uint32_t),
                                  void (*quit)(void *)) {
    const od_port_t port = {
        .write = write,
        .counter = fake_counter,
        .counter_kind = OD_COUNTER_INSTRUCTIONS,
        .counter_resolution = 1,
        .clock_hz = 168000000,
        .board = "fake_board",
        .receive_bytes = 2048,
        .stack_bytes = 4096,
        .stack_high_water = fake_stack_high_water,
        .exit = quit,
        .profile = fake_profile,
        .profile_count = 3,
        .allow_export = true,
    };
    return port;
}

#endif
