/* The clock of F4 and F7: the PLL on the ST-LINK's 8 MHz, or on HSI where that does not come;
 * HSI alone, 16 MHz, where the PLL or the over-drive does not start (RM0390 6, RM0383 6, RM0410 5).
 */
#include "chip.h"

#if defined(CLOCK_OF_F4_F7) && !OD_SIMULATED

#include "stm32/family.h"
#include "stm32/wait.h"

#define HSI_HZ 16000000u
/* Both inputs are divided to 2 MHz, multiplied to twice the CPU's clock, and divided by 2. */
#define HSE_DIVIDER 4u
#define HSI_DIVIDER 8u
#define MULTIPLIER (OD_CLOCK_HZ / 1000000u)
#define PLL_OTHERS                                                                                 \
    ((8u << 24) | (2u << 28))   /* Q and R, unused: some of their values are forbidden */
#define WAIT_STATE_HZ 30000000u /* of the flash, at 2.7 V and more */

static uint32_t core_hz = HSI_HZ;

static int start_pll(void) {
    RCC_CR |= RCC_CR_HSEBYP; /* only while HSE is off */
    RCC_CR |= RCC_CR_HSEON;
    const int external = wait_for(&RCC_CR, RCC_CR_HSERDY);
    RCC_PLLCFGR = (external ? HSE_DIVIDER | RCC_PLLCFGR_PLLSRC : HSI_DIVIDER) | (MULTIPLIER << 6) |
                  PLL_OTHERS;
    RCC_CR |= RCC_CR_PLLON;
    return wait_for(&RCC_CR, RCC_CR_PLLRDY);
}

#if OD_CLOCK_HZ > OVERDRIVE_ABOVE_HZ
static int start_overdrive(void) {
    POWER_CONTROL |= POWER_CONTROL_OVERDRIVE;
    if (!wait_for(&POWER_STATUS, POWER_STATUS_OVERDRIVE)) {
        return 0;
    }
    POWER_CONTROL |= POWER_CONTROL_OVERDRIVE_SWITCH;
    return wait_for(&POWER_STATUS, POWER_STATUS_OVERDRIVE_SWITCH);
}
#endif

uint32_t clock_init(void) {
    POWER_CONTROL |= POWER_CONTROL_SCALE_1; /* only while the PLL is off */
    int started = start_pll();
#if OD_CLOCK_HZ > OVERDRIVE_ABOVE_HZ
    started = started && start_overdrive();
#endif
    if (started) {
        FLASH_ACR = (OD_CLOCK_HZ - 1u) / WAIT_STATE_HZ;
        (void)FLASH_ACR;
        RCC_CFGR = RCC_CFGR_PPRE1_4 | RCC_CFGR_PPRE2_2;
        RCC_CFGR |= RCC_CFGR_SW_PLL;
        if (wait_until(&RCC_CFGR, RCC_CFGR_SWS, RCC_CFGR_SWS_PLL, WAIT_TURNS)) {
            core_hz = OD_CLOCK_HZ;
        }
    }
    return core_hz;
}

/* APB1 runs at a quarter of the PLL's clock, at all of HSI's. */
uint32_t clock_uart_hz(void) { return core_hz == HSI_HZ ? HSI_HZ : core_hz / 4u; }

#endif
