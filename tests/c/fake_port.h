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

static const uint8_t fake_digest[OD_IMAGE_DIGEST_BYTES] = {0xD1, 0x6E, 0x57};

#define FAKE_SENSOR_SAMPLES 1000u

/* Sample n is n and -n / 8; the last one is no number, and then there are none. */
static inline int32_t fake_sensor_read(void *context, float *values) {
    static uint32_t n;
    (void)context;
    if (n > FAKE_SENSOR_SAMPLES) {
        return -5;
    }
    values[0] = n < FAKE_SENSOR_SAMPLES ? (float)n : (float)(1e38 * 1e38);
    values[1] = -(float)n / 8.0f;
    n++;
    return 0;
}

static const od_sensor_t fake_sensor = {.channels = 2, .rate_hz = 50.0f, .read = fake_sensor_read};

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
        .sensor = &fake_sensor,
        .start_reason = OD_START_BROWN_OUT,
        .unique_id = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12},
        .unique_id_bytes = 12,
        .image_digest = fake_digest,
    };
    return port;
}

/* The port of the n-th start of a board whose key is 0, 1, 2, ... 31, unique id 160, 161, ... */
static inline od_port_t fake_keyed_port(od_port_t port, uint32_t boots) {
    static uint8_t key[OD_KEY_BYTES];
    for (uint8_t i = 0; i < sizeof key; i++) {
        key[i] = i;
    }
    port.key = key;
    for (uint8_t i = 0; i < 16; i++) {
        port.unique_id[i] = (uint8_t)(160u + i);
        port.start_seed.entropy[i] = (uint8_t)(64u + i);
    }
    port.unique_id_bytes = 16;
    port.start_seed.fresh = true;
    port.start_seed.boots = boots;
    return port;
}

#endif
