/* A window on bytes that are made one after the other: a long message is sent in parts, each made
 * again from its beginning, so that nothing of it must be kept. */
#ifndef ONDEVICE_BYTE_WINDOW_H
#define ONDEVICE_BYTE_WINDOW_H

#include <stdint.h>

typedef struct {
    uint8_t *to;
    uint32_t offset; /* of the window in the message */
    uint32_t bytes;  /* of the window */
    uint32_t at;     /* length of the message so far */
} od_window_t;

static inline void od_window_u8(od_window_t *window, uint8_t value) {
    if (window->at >= window->offset && window->at - window->offset < window->bytes) {
        window->to[window->at - window->offset] = value;
    }
    window->at++;
}

static inline void od_window_u32(od_window_t *window, uint32_t value) {
    for (uint32_t shift = 0; shift < 32u; shift += 8u) {
        od_window_u8(window, (uint8_t)(value >> shift));
    }
}

/* LEB128: seven bits a byte, the lowest first. */
static inline void od_window_varint(od_window_t *window, uint32_t value) {
    while (value >= 0x80u) {
        od_window_u8(window, (uint8_t)(value | 0x80u));
        value >>= 7;
    }
    od_window_u8(window, (uint8_t)value);
}

#endif
