/* The clock of the G071: 64 MHz by the PLL on HSI16 (16 MHz x 8 / 2; RM0444 5), HSI16 alone, which
 * the chip starts with, where the PLL does not start. Voltage range 1 is the reset state. */
#include "chip.h"
#include "stm32/family.h"
#include "stm32/wait.h"

#define HSI_HZ 16000000u

static uint32_t core_hz = HSI_HZ;

uint32_t clock_init(void) {
    RCC_PLLSYSCFGR = RCC_PLLSYSCFGR_PLLSRC_HSI | RCC_PLLSYSCFGR_PLLM_1 | RCC_PLLSYSCFGR_PLLN_8 |
                     RCC_PLLSYSCFGR_PLLREN | RCC_PLLSYSCFGR_PLLR_2;
    RCC_CR |= RCC_CR_PLLON;
    FLASH_ACR = (FLASH_ACR & ~FLASH_ACR_LATENCY) | FLASH_ACR_LATENCY_2;
    if (!wait_until(&FLASH_ACR, FLASH_ACR_LATENCY, FLASH_ACR_LATENCY_2, WAIT_TURNS) ||
        !wait_for(&RCC_CR, RCC_CR_PLLRDY)) {
        return core_hz;
    }
    RCC_CFGR = (RCC_CFGR & ~RCC_CFGR_SW) | RCC_CFGR_SW_PLL;
    if (wait_until(&RCC_CFGR, RCC_CFGR_SWS, RCC_CFGR_SWS_PLL, WAIT_TURNS)) {
        core_hz = OD_CLOCK_HZ;
    }
    return core_hz;
}

uint32_t clock_uart_hz(void) { return core_hz; }
