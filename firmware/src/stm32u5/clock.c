/* The clock of the U575: 160 MHz by PLL1 on HSI16 (16 MHz x 20 / 2; RM0456 11), HSI16 alone where
 * the voltage, its booster or the PLL does not come. The core's regulator stays the LDO. */
#include "chip.h"
#include "stm32/family.h"
#include "stm32/wait.h"

#define HSI_HZ 16000000u
#define MSI_HZ 4000000u /* what the chip starts with */

static uint32_t core_hz = MSI_HZ;

static int switch_to(uint32_t source, uint32_t status) {
    RCC_CFGR1 = (RCC_CFGR1 & ~RCC_CFGR1_SW) | source;
    return wait_until(&RCC_CFGR1, RCC_CFGR1_SWS, status, WAIT_TURNS);
}

/* Range 1 for more than 110 MHz, with the booster, which PLL1's input clocks. */
static int raise_voltage(void) {
    PWR_VOSR |= PWR_VOSR_VOS_RANGE_1;
    if (!wait_for(&PWR_VOSR, PWR_VOSR_VOSRDY)) {
        return 0;
    }
    RCC_PLL1CFGR = RCC_PLL1CFGR_PLL1SRC_HSI | RCC_PLL1CFGR_PLL1RGE_8_16 | RCC_PLL1CFGR_PLL1M_1 |
                   RCC_PLL1CFGR_PLL1MBOOST_1;
    PWR_VOSR |= PWR_VOSR_BOOSTEN;
    return wait_for(&PWR_VOSR, PWR_VOSR_BOOSTRDY);
}

static int start_pll(void) {
    RCC_PLL1DIVR =
        RCC_PLL1DIVR_PLL1N_20 | RCC_PLL1DIVR_PLL1P_2 | RCC_PLL1DIVR_PLL1Q_2 | RCC_PLL1DIVR_PLL1R_2;
    RCC_PLL1CFGR |= RCC_PLL1CFGR_PLL1REN;
    RCC_CR |= RCC_CR_PLL1ON;
    return wait_for(&RCC_CR, RCC_CR_PLL1RDY);
}

uint32_t clock_init(void) {
    RCC_CR |= RCC_CR_HSION;
    if (!wait_for(&RCC_CR, RCC_CR_HSIRDY) || !switch_to(RCC_CFGR1_SW_HSI, RCC_CFGR1_SWS_HSI)) {
        return core_hz;
    }
    core_hz = HSI_HZ;
    if (!raise_voltage() || !start_pll()) {
        return core_hz;
    }
    FLASH_ACR = (FLASH_ACR & ~FLASH_ACR_LATENCY) | FLASH_ACR_LATENCY_4;
    if (wait_until(&FLASH_ACR, FLASH_ACR_LATENCY, FLASH_ACR_LATENCY_4, WAIT_TURNS) &&
        switch_to(RCC_CFGR1_SW_PLL, RCC_CFGR1_SWS_PLL)) {
        core_hz = OD_CLOCK_HZ;
    }
    return core_hz;
}

uint32_t clock_uart_hz(void) { return core_hz; }
