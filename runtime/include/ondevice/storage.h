/* Non-volatile memory for checkpoints, as a driver lends it: two banks of NOR flash, A and B.
 *
 * An erased byte is 0xFF. Programming is in whole units, each at most once between two erases
 * (flash with ECC allows no more). A cut of power may leave the unit that was being programmed, or
 * the bank that was being erased, with any content, or unreadable; it touches nothing else.
 */
#ifndef ONDEVICE_STORAGE_H
#define ONDEVICE_STORAGE_H

#include <stdint.h>

#define OD_STORAGE_BANKS 2u
#define OD_STORAGE_UNIT_BYTES_MAX 32u

typedef struct {
    void *context;        /* handed back to the functions below */
    uint32_t bank_bytes;  /* of each bank; a multiple of unit_bytes */
    uint32_t unit_bytes;  /* what is programmed at once: a power of 2, at most ..._MAX */
    uint32_t marks_bytes; /* behind bank_bytes, see start_count.h; a driver leaves it 0 */

    /* Each returns OD_OK, or below 0 where the flash failed. Offsets are within the bank. */
    int32_t (*read)(void *context, uint32_t bank, uint32_t offset, uint8_t *to, uint32_t n);
    /* offset and n are multiples of unit_bytes. */
    int32_t (*program)(void *context, uint32_t bank, uint32_t offset, const uint8_t *from,
                       uint32_t n);
    int32_t (*erase)(void *context, uint32_t bank);
} od_storage_t;

#endif
