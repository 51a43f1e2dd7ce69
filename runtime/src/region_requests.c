/* Requests that move memory: WRITE, READ, DESCRIBE. */
#include <string.h>

#include "ondevice/handlers.h"
#include "ondevice/little_endian.h"
#include "ondevice/regions.h"

/* region u8, reserved u8, index u16, offset u32 */
#define ADDRESS_BYTES 8u

od_outcome_t od_handle_write(od_session_t *session, uint8_t *payload, uint32_t n) {
    od_region_t region;
    if (n < ADDRESS_BYTES) {
        return od_failed(OD_FAIL_LENGTH);
    }
    if (!od_region_find(session, payload[0], od_get_u16(payload + 2), &region)) {
        return od_failed(OD_FAIL_REGION);
    }
    if (!region.writable) {
        return od_failed(OD_FAIL_READ_ONLY);
    }
    const uint32_t offset = od_get_u32(payload + 4);
    const uint32_t length = n - ADDRESS_BYTES;
    if (offset > region.bytes || length > region.bytes - offset) {
        return od_failed(OD_FAIL_RANGE);
    }
    if (length > 0) {
        memcpy(region.data + offset, payload + ADDRESS_BYTES, length);
    }
    return od_done(0);
}

od_outcome_t od_handle_read(od_session_t *session, uint8_t *payload, uint32_t n) {
    (void)n;
    od_region_t region;
    if (!od_region_find(session, payload[0], od_get_u16(payload + 2), &region)) {
        return od_failed(OD_FAIL_REGION);
    }
    if (!region.readable) {
        return od_failed(OD_FAIL_PRIVATE);
    }
    const uint32_t offset = od_get_u32(payload + 4);
    const uint32_t length = od_get_u32(payload + ADDRESS_BYTES);
    if (offset > region.bytes || length > region.bytes - offset ||
        length > od_session_payload_bytes(session)) {
        return od_failed(OD_FAIL_RANGE);
    }
    if (length > 0) {
        memcpy(payload, region.data + offset, length);
    }
    return od_done(length);
}

od_outcome_t od_handle_describe(od_session_t *session, uint8_t *payload, uint32_t n) {
    (void)n;
    od_region_t region;
    if (!od_region_find(session, payload[0], od_get_u16(payload + 2), &region)) {
        return od_failed(OD_FAIL_REGION);
    }
    uint8_t *at = od_put_u32(payload, region.bytes);
    at = od_put_u8(at, region.dtype);
    at = od_put_u8(at, region.kind);
    at = od_put_name(at, region.name);
    return od_done((uint32_t)(at - payload));
}
