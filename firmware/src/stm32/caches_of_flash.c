/* The small caches between core and flash of F4, L4 and G0. Stale after the flash changed, so they
 * are emptied; and off meanwhile, since on the L4 a read during a write can spoil the data cache
 * (its errata sheet, ES0250). */
#include "chip.h"

#if defined(FLASH_CACHES) && !OD_SIMULATED

#include "stm32/family.h"

void caches_on(void) { FLASH_ACR |= FLASH_ACR_PRFTEN | FLASH_CACHES; }

void caches_off(void) {
    FLASH_ACR &= ~(FLASH_ACR_PRFTEN | FLASH_CACHES);
    FLASH_ACR |= FLASH_CACHES_RESET; /* only while they are off */
    FLASH_ACR &= ~FLASH_CACHES_RESET;
}

#endif
