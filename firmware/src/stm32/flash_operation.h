/* What every operation of a flash controller begins and ends with: idle, unlocked, old errors
 * cleared; new errors read and cleared, locked. */
#ifndef ONDEVICE_FIRMWARE_FLASH_OPERATION_H
#define ONDEVICE_FIRMWARE_FLASH_OPERATION_H

#include "chip.h"
#include "ondevice/model.h"
#include "stm32/family.h"
#include "stm32/interrupts.h"
#include "stm32/wait.h"

#define FLASH_KEY_1 0x45670123u
#define FLASH_KEY_2 0xCDEF89ABu

/* 0 where the flash does not get idle in `turns` reads of its status. */
static inline int flash_begin(uint32_t control, uint32_t turns) {
    if (!wait_until(&FLASH_STATUS, FLASH_BUSY, 0u, turns)) {
        return 0;
    }
    if ((FLASH_CONTROL & FLASH_LOCK) != 0u) {
        FLASH_KEYS = FLASH_KEY_1;
        FLASH_KEYS = FLASH_KEY_2;
    }
    FLASH_CLEAR = FLASH_ENDED | FLASH_ERRORS;
    FLASH_CONTROL = control;
    return 1;
}

/* Of a flash with ECC: the words of a unit must follow each other. */
static inline void flash_write_unit(uint32_t address, const uint32_t *words) {
    const uint32_t mask = interrupts_off();
    for (uint32_t i = 0; i < OD_STORAGE_UNIT_BYTES / 4u; i++) {
        REGISTER(address + 4u * i) = words[i];
    }
    barrier();
    interrupts_restore(mask);
}

static inline int32_t flash_end(uint32_t turns) {
    const int idle = wait_until(&FLASH_STATUS, FLASH_BUSY, 0u, turns);
    const uint32_t errors = FLASH_STATUS & FLASH_ERRORS;
    FLASH_CLEAR = FLASH_ENDED | FLASH_ERRORS;
    FLASH_CONTROL = FLASH_LOCK;
    if (!idle) {
        return FLASH_FAILED_BUSY;
    }
    return errors == 0u ? OD_OK : -(int32_t)errors;
}

#endif
