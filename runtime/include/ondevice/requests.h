/* What each request does, apart from how it arrived. */
#ifndef ONDEVICE_REQUESTS_H
#define ONDEVICE_REQUESTS_H

#include "ondevice/session.h"

typedef struct {
    uint8_t type;
    uint32_t bytes; /* of payload */
} od_reply_t;

/* Execute one request. Its payload of n bytes is replaced by that of the reply; there is room for
 * od_session_payload_bytes(). */
od_reply_t od_request_execute(od_session_t *session, uint8_t type, uint8_t *payload, uint32_t n);

#define OD_INFO_BYTES_MAX (76u + 2u * 64u) /* with the longest names */

/* Write the payload of READY and of the reply to HELLO; returns its bytes. */
uint32_t od_device_info(const od_session_t *session, uint8_t *payload);

#endif
