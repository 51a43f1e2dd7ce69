/* Numbers on the wire: little-endian, at any alignment. */
#ifndef ONDEVICE_LITTLE_ENDIAN_H
#define ONDEVICE_LITTLE_ENDIAN_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t od_get_u16(const uint8_t *from) {
    return (uint16_t)(from[0] | (uint16_t)(from[1] << 8));
}

static inline uint32_t od_get_u32(const uint8_t *from) {
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 |
           (uint32_t)from[3] << 24;
}

static inline uint64_t od_get_u64(const uint8_t *from) {
    return (uint64_t)od_get_u32(from) | (uint64_t)od_get_u32(from + 4) << 32;
}

static inline float od_get_f32(const uint8_t *from) {
    const uint32_t bits = od_get_u32(from);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline double od_get_f64(const uint8_t *from) {
    const uint64_t bits = od_get_u64(from);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Each put returns the byte after what it wrote. */
static inline uint8_t *od_put_u8(uint8_t *to, uint8_t value) {
    to[0] = value;
    return to + 1;
}

static inline uint8_t *od_put_u16(uint8_t *to, uint16_t value) {
    to[0] = (uint8_t)value;
    to[1] = (uint8_t)(value >> 8);
    return to + 2;
}

static inline uint8_t *od_put_u32(uint8_t *to, uint32_t value) {
    to[0] = (uint8_t)value;
    to[1] = (uint8_t)(value >> 8);
    to[2] = (uint8_t)(value >> 16);
    to[3] = (uint8_t)(value >> 24);
    return to + 4;
}

static inline uint8_t *od_put_u64(uint8_t *to, uint64_t value) {
    return od_put_u32(od_put_u32(to, (uint32_t)value), (uint32_t)(value >> 32));
}

static inline uint8_t *od_put_f32(uint8_t *to, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return od_put_u32(to, bits);
}

static inline uint8_t *od_put_f64(uint8_t *to, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return od_put_u64(to, bits);
}

/* A length byte and as many bytes of `name`, which may be NULL: at most OD_NAME_BYTES_MAX. */
#define OD_NAME_BYTES_MAX 63u
static inline uint8_t *od_put_name(uint8_t *to, const char *name) {
    uint32_t n = 0;
    while (name != NULL && n < OD_NAME_BYTES_MAX && name[n] != '\0') {
        to[1u + n] = (uint8_t)name[n];
        n++;
    }
    to[0] = (uint8_t)n;
    return to + 1 + n;
}

#endif
