/* CRC-32 of IEEE 802.3 (that of zlib): reflected polynomial 0xEDB88320. */
#ifndef ONDEVICE_CRC32_H
#define ONDEVICE_CRC32_H

#include <stdint.h>

/* Continue `crc` (0 to begin with) over n bytes. */
uint32_t od_crc32(uint32_t crc, const uint8_t *bytes, uint32_t n);

#endif
