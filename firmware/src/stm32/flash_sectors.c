/* The flash controller of F4 and F7: large sectors, words of 32 bits, no ECC (RM0390 3, RM0383 3,
 * RM0410 3). Programming words wants a supply of 2.7 V at least: supply.c. */
#include "chip.h"

#if defined(FLASH_OF_SECTORS) && !OD_SIMULATED

#include "ondevice/model.h"
#include "stm32/family.h"
#include "stm32/flash_operation.h"
#include "stm32/interrupts.h"

#define IDLE_TURNS 400000000u /* a sector of 256 KB takes 4 s at most */

int32_t flash_erase(uint32_t number) {
    const uint32_t control = FLASH_CR_PSIZE_32 | FLASH_CR_SER | ((number << 3) & FLASH_CR_SNB);
    if (!flash_begin(control, IDLE_TURNS)) {
        return FLASH_FAILED_BUSY;
    }
    FLASH_CONTROL = control | FLASH_CR_STRT;
    barrier();
    return flash_end(IDLE_TURNS);
}

int32_t flash_program(uint32_t address, const uint32_t *words) {
    if (!flash_begin(FLASH_CR_PSIZE_32 | FLASH_CR_PG, IDLE_TURNS)) {
        return FLASH_FAILED_BUSY;
    }
    REGISTER(address) = words[0];
    barrier();
    return flash_end(IDLE_TURNS);
}

void flash_read_begin(void) {}
int32_t flash_read_end(void) { return OD_OK; }

#endif
