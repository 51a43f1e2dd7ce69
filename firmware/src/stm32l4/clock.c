/* The clock of the L476: 80 MHz by the PLL on HSI16 (16 MHz x 10 / 2; RM0351 6), HSI16 alone where
 * the PLL does not start. The ST-LINK's clock does not reach every revision of the board. Voltage
 * range 1, which 80 MHz need, is the reset state. */
#include "chip.h"
#include "stm32/family.h"
#include "stm32/wait.h"

#define HSI_HZ 16000000u
#define MSI_HZ 4000000u /* what the chip starts with */

static uint32_t core_hz = MSI_HZ;

static int switch_to(uint32_t source, uint32_t status) {
    RCC_CFGR = (RCC_CFGR & ~RCC_CFGR_SW) | source;
    return wait_until(&RCC_CFGR, RCC_CFGR_SWS, status, WAIT_TURNS);
}

uint32_t clock_init(void) {
    RCC_CR |= RCC_CR_HSION;
    if (!wait_for(&RCC_CR, RCC_CR_HSIRDY) || !switch_to(RCC_CFGR_SW_HSI, RCC_CFGR_SWS_HSI)) {
        return core_hz;
    }
    core_hz = HSI_HZ;
    RCC_PLLCFGR = RCC_PLLCFGR_PLLSRC_HSI | RCC_PLLCFGR_PLLM_1 | RCC_PLLCFGR_PLLN_10 |
                  RCC_PLLCFGR_PLLREN | RCC_PLLCFGR_PLLR_2;
    RCC_CR |= RCC_CR_PLLON;
    FLASH_ACR = (FLASH_ACR & ~FLASH_ACR_LATENCY) | FLASH_ACR_LATENCY_4;
    if (wait_until(&FLASH_ACR, FLASH_ACR_LATENCY, FLASH_ACR_LATENCY_4, WAIT_TURNS) &&
        wait_for(&RCC_CR, RCC_CR_PLLRDY) && switch_to(RCC_CFGR_SW_PLL, RCC_CFGR_SWS_PLL)) {
        core_hz = OD_CLOCK_HZ;
    }
    return core_hz;
}

uint32_t clock_uart_hz(void) { return core_hz; }
