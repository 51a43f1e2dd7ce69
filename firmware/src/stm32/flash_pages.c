/* The flash controller of L4, G0 and U5: pages, and units with ECC that are programmed once between
 * two erases (RM0351 3, RM0444 3, RM0456 7). A unit torn by a cut of power may raise a
 * non-maskable interrupt when it is read; board_nmi() turns that into an error of the read. */
#include "chip.h"

#if defined(FLASH_OF_PAGES)

#include "board.h"
#include "ondevice/model.h"
#include "stm32/family.h"
#include "stm32/flash_operation.h"
#include "stm32/interrupts.h"

#define IDLE_TURNS 10000000u /* a page takes 25 ms */

static volatile int reading, unreadable;

int32_t flash_erase(uint32_t number) {
    const uint32_t bank = number / FLASH_PAGES_OF_BANK * FLASH_SECOND_BANK;
    const uint32_t page = number % FLASH_PAGES_OF_BANK;
    const uint32_t control = FLASH_ERASE | bank | ((page << 3) & FLASH_PAGE);
    if (!flash_begin(control, IDLE_TURNS)) {
        return FLASH_FAILED_BUSY;
    }
    FLASH_CONTROL = control | FLASH_START;
    barrier();
    return flash_end(IDLE_TURNS);
}

int32_t flash_program(uint32_t address, const uint32_t *words) {
    if (!flash_begin(FLASH_PROGRAM, IDLE_TURNS)) {
        return FLASH_FAILED_BUSY;
    }
    flash_write_unit(address, words);
    return flash_end(IDLE_TURNS);
}

void flash_read_begin(void) {
    FLASH_ECCR |= FLASH_ECCR_ECCD | FLASH_ECCR_ECCC; /* cleared by writing 1 */
    unreadable = 0;
    reading = 1;
}

int32_t flash_read_end(void) {
    barrier();
    reading = 0;
    const int failed = unreadable || (FLASH_ECCR & FLASH_ECCR_ECCD) != 0u;
    return failed ? FLASH_FAILED_UNREADABLE : OD_OK;
}

int board_nmi(void) {
    if (!reading || (FLASH_ECCR & FLASH_ECCR_ECCD) == 0u) {
        return 0;
    }
    FLASH_ECCR |= FLASH_ECCR_ECCD;
    unreadable = 1;
    return 1;
}

#endif
