/* The flash of a simulated board: a file with the rules of NOR flash. A kill of the simulator is a
 * cut of power: a unit is programmed and a bank erased in several writes, so that what a kill
 * leaves between them is torn. */
#include "board.h"
#include "ondevice/model.h"
#include "simulated_file.h"

#if OD_STORAGE_IN_FILE && OD_STORAGE_BANK_BYTES

#define PAGE_BYTES 64u
#define WRONG_FLASH_EXIT_CODE 98
#define HALF_PROGRAMMED 0x5Au /* bits that are still 1 after the first write */

static const uint8_t erased[PAGE_BYTES] = {[0 ... PAGE_BYTES - 1u] = 0xFF};
static const uint8_t half_erased[PAGE_BYTES] = {[0 ... PAGE_BYTES - 1u] = 0xB7};

static int32_t flash_read(void *context, uint32_t bank, uint32_t offset, uint8_t *to, uint32_t n) {
    (void)context;
    return simulated_file_read(FLASH_FILE, bank * OD_STORAGE_BANK_BYTES + offset, to, n);
}

static int32_t program_unit(uint32_t at, const uint8_t *from) {
    uint8_t unit[OD_STORAGE_UNIT_BYTES];
    int32_t status = simulated_file_read(FLASH_FILE, at, unit, sizeof unit);
    for (uint32_t i = 0; status >= 0 && i < sizeof unit; i++) {
        if (unit[i] != 0xFFu) {
            return OD_ERROR_STATE; /* needs an erase first */
        }
        unit[i] = from[i] | HALF_PROGRAMMED;
    }
    if (status >= 0) {
        status = simulated_file_write(FLASH_FILE, at, unit, sizeof unit);
    }
    return status < 0 ? status : simulated_file_write(FLASH_FILE, at, from, sizeof unit);
}

static int32_t flash_program(void *context, uint32_t bank, uint32_t offset, const uint8_t *from,
                             uint32_t n) {
    (void)context;
    if ((offset | n) % OD_STORAGE_UNIT_BYTES != 0u) {
        return OD_ERROR_ARGUMENT;
    }
    int32_t status = OD_OK;
    for (uint32_t i = 0; i < n && status >= 0; i += OD_STORAGE_UNIT_BYTES) {
        status = program_unit(bank * OD_STORAGE_BANK_BYTES + offset + i, from + i);
    }
    return status;
}

/* First every second page goes, then all of them, the first one last: in between, what was there,
 * its header included, stands beside pages that are spoilt or erased. */
static int32_t flash_erase(void *context, uint32_t bank) {
    (void)context;
    const uint32_t start = bank * OD_STORAGE_BANK_BYTES;
    int32_t status = OD_OK;
    for (uint32_t at = PAGE_BYTES; at < OD_STORAGE_BANK_BYTES && status >= 0;
         at += 2u * PAGE_BYTES) {
        status = simulated_file_write(FLASH_FILE, start + at, half_erased, PAGE_BYTES);
    }
    for (uint32_t at = OD_STORAGE_BANK_BYTES; at > 0 && status >= 0; at -= PAGE_BYTES) {
        status = simulated_file_write(FLASH_FILE, start + at - PAGE_BYTES, erased, PAGE_BYTES);
    }
    return status;
}

const od_storage_t *board_storage(void) {
    static const od_storage_t storage = {
        .bank_bytes = OD_STORAGE_BANK_BYTES,
        .unit_bytes = OD_STORAGE_UNIT_BYTES,
        .read = flash_read,
        .program = flash_program,
        .erase = flash_erase,
    };
    if (!simulated_file_open(FLASH_FILE)) {
        return 0;
    }
    if (simulated_file_bytes(FLASH_FILE) != OD_STORAGE_BANKS * OD_STORAGE_BANK_BYTES) {
        board_report("\nthe flash file is of another board\n");
        board_exit(WRONG_FLASH_EXIT_CODE);
    }
    return &storage;
}

#elif OD_STORAGE_IN_FILE

const od_storage_t *board_storage(void) { return 0; }

#else
typedef int od_real_flash_t; /* ISO C wants something in every file */
#endif
