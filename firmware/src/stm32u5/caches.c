/* ICACHE, which holds what is read from flash, code or data (RM0456 8). */
#include "chip.h"
#include "stm32/family.h"
#include "stm32/wait.h"

void caches_on(void) {
    (void)wait_until(&ICACHE_SR, ICACHE_SR_BUSYF, 0u, WAIT_TURNS); /* it empties itself at reset */
    ICACHE_CR |= ICACHE_CR_EN;
    FLASH_ACR |= FLASH_ACR_PRFTEN;
}

void caches_off(void) {
    FLASH_ACR &= ~FLASH_ACR_PRFTEN;
    ICACHE_CR &= ~ICACHE_CR_EN;
    (void)wait_until(&ICACHE_SR, ICACHE_SR_BUSYF, 0u, WAIT_TURNS);
    ICACHE_CR |= ICACHE_CR_CACHEINV;
    (void)wait_until(&ICACHE_SR, ICACHE_SR_BUSYF, 0u, WAIT_TURNS);
}
