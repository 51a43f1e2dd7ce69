/* NOR flash in RAM, as storage.h promises it, whose power can be cut at any step: at each unit that
 * is programmed and at each erase. What was being written is then torn: any content, or unreadable,
 * and not to be programmed again before an erase, even if it looks erased: that is refused, or
 * goes wrong in silence. */
#ifndef NOR_FLASH_H
#define NOR_FLASH_H

#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ondevice/model.h"
#include "ondevice/storage.h"

#ifndef NOR_BANK_BYTES_MAX /* fuzzers take less */
#define NOR_BANK_BYTES_MAX 65536u
#endif
#define NOR_NEVER 0xFFFFFFFFu
#define NOR_REFUSED (-50)

typedef enum { NOR_ERASED = 0, NOR_PROGRAMMED = 1, NOR_WEAK = 2 } nor_state_t;

typedef struct {
    uint32_t bank_bytes;
    uint32_t unit_bytes;
    uint32_t random;
    uint32_t steps;  /* units programmed and banks erased since power came */
    uint32_t cut_at; /* the step in which power goes */
    jmp_buf *off;    /* where the processor stops then */
    bool cut_in_erase;
    uint32_t erases[OD_STORAGE_BANKS]; /* begun */
    uint8_t bytes[OD_STORAGE_BANKS][NOR_BANK_BYTES_MAX];
    uint8_t state[OD_STORAGE_BANKS][NOR_BANK_BYTES_MAX];      /* of each unit */
    uint8_t unreadable[OD_STORAGE_BANKS][NOR_BANK_BYTES_MAX]; /* likewise */
} nor_flash_t;

static uint32_t nor_draw(nor_flash_t *flash, uint32_t below) {
    flash->random ^= flash->random << 13;
    flash->random ^= flash->random >> 17;
    flash->random ^= flash->random << 5;
    return flash->random % below;
}

static void nor_bug(const char *what, uint32_t bank, uint32_t offset) {
    fprintf(stderr, "%s: bank %u, offset %u\n", what, bank, offset);
    exit(1);
}

static int32_t nor_read(void *context, uint32_t bank, uint32_t offset, uint8_t *to, uint32_t n) {
    nor_flash_t *flash = context;
    if (bank >= OD_STORAGE_BANKS || offset > flash->bank_bytes || n > flash->bank_bytes - offset) {
        nor_bug("read outside of the bank", bank, offset);
    }
    for (uint32_t i = 0; i < n; i++) {
        if (flash->unreadable[bank][(offset + i) / flash->unit_bytes] != 0) {
            return -1;
        }
        to[i] = flash->bytes[bank][offset + i];
    }
    return OD_OK;
}

/* Leaves one unit with any content: `from` is what was being written. */
static void nor_tear(nor_flash_t *flash, uint32_t bank, uint32_t unit, const uint8_t *from) {
    const uint32_t kind = nor_draw(flash, 6);
    uint8_t *bytes = flash->bytes[bank] + unit * flash->unit_bytes;
    for (uint32_t i = 0; i < flash->unit_bytes; i++) {
        const uint8_t any = (uint8_t)nor_draw(flash, 256);
        const uint8_t contents[] = {any, (uint8_t)(from[i] | any), 0xFF, from[i], bytes[i], any};
        bytes[i] = contents[kind];
    }
    flash->unreadable[bank][unit] = kind == 5;
    flash->state[bank][unit] = NOR_WEAK;
}

static int32_t nor_program(void *context, uint32_t bank, uint32_t offset, const uint8_t *from,
                           uint32_t n) {
    nor_flash_t *flash = context;
    const uint32_t size = flash->unit_bytes;
    if (bank >= OD_STORAGE_BANKS || offset % size != 0 || n % size != 0 ||
        offset > flash->bank_bytes || n > flash->bank_bytes - offset) {
        nor_bug("not whole units of a bank", bank, offset);
    }
    for (uint32_t at = 0; at < n; at += size) {
        const uint32_t unit = (offset + at) / size;
        if (flash->state[bank][unit] == NOR_PROGRAMMED) {
            nor_bug("a unit programmed twice", bank, offset + at);
        }
        if (flash->state[bank][unit] == NOR_WEAK && nor_draw(flash, 2) == 0) {
            return NOR_REFUSED;
        }
        const uint8_t lost = flash->state[bank][unit] == NOR_WEAK ? 0x10 : 0;
        if (flash->steps++ == flash->cut_at) {
            flash->cut_in_erase = false;
            nor_tear(flash, bank, unit, from + at);
            longjmp(*flash->off, 1);
        }
        for (uint32_t i = 0; i < size; i++) { /* a weak unit may seem to take it */
            flash->bytes[bank][offset + at + i] = (uint8_t)(from[at + i] ^ lost);
        }
        flash->state[bank][unit] = NOR_PROGRAMMED;
    }
    return OD_OK;
}

static int32_t nor_erase(void *context, uint32_t bank) {
    nor_flash_t *flash = context;
    const uint32_t units = flash->bank_bytes / flash->unit_bytes;
    if (bank >= OD_STORAGE_BANKS) {
        nor_bug("no such bank", bank, 0);
    }
    flash->erases[bank]++;
    if (flash->steps++ == flash->cut_at) {
        static const uint8_t erased[OD_STORAGE_UNIT_BYTES_MAX] = {[0 ... 31] = 0xFF};
        /* All of it, only what follows some point, or nothing that can be read. */
        const uint32_t first = nor_draw(flash, 3) == 0 ? nor_draw(flash, units) : 0;
        const bool looks_erased = nor_draw(flash, 3) == 0;
        for (uint32_t unit = first; unit < units; unit++) {
            nor_tear(flash, bank, unit, erased);
            if (looks_erased) {
                memset(flash->bytes[bank] + unit * flash->unit_bytes, 0xFF, flash->unit_bytes);
                flash->unreadable[bank][unit] = 0;
            }
        }
        flash->cut_in_erase = true;
        longjmp(*flash->off, 1);
    }
    memset(flash->bytes[bank], 0xFF, flash->bank_bytes);
    memset(flash->state[bank], NOR_ERASED, units);
    memset(flash->unreadable[bank], 0, units);
    return OD_OK;
}

/* As delivered: erased. The caller owns the flash. */
static inline void nor_init(nor_flash_t *flash, uint32_t bank_bytes, uint32_t unit_bytes) {
    memset(flash, 0, sizeof *flash);
    memset(flash->bytes, 0xFF, sizeof flash->bytes);
    flash->bank_bytes = bank_bytes;
    flash->unit_bytes = unit_bytes;
    flash->random = 1;
    flash->cut_at = NOR_NEVER;
}

static inline od_storage_t nor_storage(nor_flash_t *flash) {
    return (od_storage_t){.context = flash,
                          .bank_bytes = flash->bank_bytes,
                          .unit_bytes = flash->unit_bytes,
                          .read = nor_read,
                          .program = nor_program,
                          .erase = nor_erase};
}

#endif
