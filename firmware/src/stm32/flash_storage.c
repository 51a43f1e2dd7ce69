/* Checkpoints in the chip's own flash: od_storage_t over a family's flash_erase() and
 * flash_program(). The banks are OD_STORAGE_ORIGIN and what follows it, both whole sectors. */
#include "board.h"
#include "chip.h"
#include "ondevice/model.h"
#include "stm32/family.h"
#include "stm32/parts.h"

#if OD_SIMULATED || OD_STORAGE_BANK_BYTES == 0

#if !OD_STORAGE_IN_FILE
const od_storage_t *board_storage(void) { return 0; }
#endif

#else

#define UNIT_WORDS (OD_STORAGE_UNIT_BYTES / 4u)

typedef struct {
    uint32_t count, bytes;
} sectors_t;

/* Of the whole flash, in the order of their addresses. */
static const sectors_t sectors[] = {OD_FLASH_SECTORS};

static uint32_t address_of(uint32_t bank, uint32_t offset) {
    return OD_STORAGE_ORIGIN + bank * OD_STORAGE_BANK_BYTES + offset;
}

static int is_within(uint32_t bank, uint32_t offset, uint32_t n) {
    return bank < OD_STORAGE_BANKS && offset <= OD_STORAGE_BANK_BYTES &&
           n <= OD_STORAGE_BANK_BYTES - offset;
}

static int32_t read(void *context, uint32_t bank, uint32_t offset, uint8_t *to, uint32_t n) {
    (void)context;
    if (!is_within(bank, offset, n)) {
        return FLASH_FAILED_PLACE;
    }
    const volatile uint8_t *from = (const volatile uint8_t *)(uintptr_t)address_of(bank, offset);
    int32_t status = OD_OK;
    for (uint32_t done = 0; done < n && status == OD_OK;) {
        flash_read_begin();
        for (uint32_t i = 0; i < OD_STORAGE_UNIT_BYTES && done < n; i++, done++) {
            to[done] = from[done];
        }
        status = flash_read_end();
    }
    return status;
}

static int32_t program(void *context, uint32_t bank, uint32_t offset, const uint8_t *from,
                       uint32_t n) {
    (void)context;
    if (!is_within(bank, offset, n) || (offset | n) % OD_STORAGE_UNIT_BYTES != 0u) {
        return FLASH_FAILED_PLACE;
    }
    if (!supply_is_good()) {
        return FLASH_FAILED_SUPPLY;
    }
    int32_t status = OD_OK;
    caches_off();
    for (uint32_t done = 0; done < n && status == OD_OK; done += OD_STORAGE_UNIT_BYTES) {
        uint32_t words[UNIT_WORDS];
        for (uint32_t i = 0; i < UNIT_WORDS; i++) {
            const uint8_t *byte = from + done + 4u * i;
            words[i] = (uint32_t)byte[0] | (uint32_t)byte[1] << 8 | (uint32_t)byte[2] << 16 |
                       (uint32_t)byte[3] << 24;
        }
        status = flash_program(address_of(bank, offset + done), words);
    }
    caches_on();
    return status;
}

/* Erases the sectors from `start` to `end`. */
static int32_t erase_between(uint32_t start, uint32_t end) {
    uint32_t number = 0;
    uint32_t address = OD_FLASH_ORIGIN;
    for (uint32_t row = 0; row < sizeof sectors / sizeof sectors[0]; row++) {
        for (uint32_t i = 0; i < sectors[row].count; i++, number++) {
            if (address >= start && address < end) {
                board_watchdog_feed();
                const int32_t status = flash_erase(number);
                if (status != OD_OK) {
                    return status;
                }
            }
            address += sectors[row].bytes;
        }
    }
    return OD_OK;
}

static int32_t erase(void *context, uint32_t bank) {
    (void)context;
    if (!is_within(bank, 0, OD_STORAGE_BANK_BYTES)) {
        return FLASH_FAILED_PLACE;
    }
    if (!supply_is_good()) {
        return FLASH_FAILED_SUPPLY;
    }
    caches_off();
    const int32_t status = erase_between(address_of(bank, 0), address_of(bank + 1u, 0));
    caches_on();
    board_watchdog_feed();
    return status;
}

const od_storage_t *board_storage(void) {
    static const od_storage_t storage = {
        .bank_bytes = OD_STORAGE_BANK_BYTES,
        .unit_bytes = OD_STORAGE_UNIT_BYTES,
        .read = read,
        .program = program,
        .erase = erase,
    };
    return &storage;
}

#endif
