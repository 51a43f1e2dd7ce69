/* The clock of the H743: 400 MHz by PLL1 on the ST-LINK's 8 MHz, or on HSI where that does not
 * come; HSI alone, 64 MHz, where the voltage or the PLL does not (RM0433 6 and 8). 400 MHz at
 * voltage scale 1 hold for every revision of the chip; 480 MHz do not. */
#include "chip.h"
#include "stm32/family.h"
#include "stm32/wait.h"

#define HSI_HZ 64000000u
#define FIRST_REVISION_V 0x20000000u

static uint32_t core_hz = HSI_HZ;

/* The chip takes this choice once after power-on; an H743 has nothing but the LDO. */
static int raise_voltage(void) {
    PWR_CR3 = (PWR_CR3 & ~(PWR_CR3_SCUEN | PWR_CR3_BYPASS)) | PWR_CR3_LDOEN;
    if (!wait_for(&PWR_CSR1, PWR_CSR1_ACTVOSRDY)) {
        return 0;
    }
    PWR_D3CR |= PWR_D3CR_VOS_SCALE_1;
    return wait_for(&PWR_D3CR, PWR_D3CR_VOSRDY);
}

/* 2 MHz in, 800 MHz, halved. */
static int start_pll(void) {
    RCC_CR |= RCC_CR_HSEBYP; /* only while HSE is off */
    RCC_CR |= RCC_CR_HSEON;
    RCC_PLLCKSELR = wait_for(&RCC_CR, RCC_CR_HSERDY)
                        ? RCC_PLLCKSELR_PLLSRC_HSE | RCC_PLLCKSELR_DIVM1_4
                        : RCC_PLLCKSELR_PLLSRC_HSI | RCC_PLLCKSELR_DIVM1_32;
    RCC_PLLCFGR = RCC_PLLCFGR_PLL1RGE_2_4 | RCC_PLLCFGR_DIVP1EN;
    RCC_PLL1DIVR =
        RCC_PLL1DIVR_DIVN1_400 | RCC_PLL1DIVR_DIVP1_2 | RCC_PLL1DIVR_DIVQ1_2 | RCC_PLL1DIVR_DIVR1_2;
    RCC_CR |= RCC_CR_PLL1ON;
    return wait_for(&RCC_CR, RCC_CR_PLL1RDY);
}

/* Revision Y reads its AXI SRAM wrongly under load (its errata sheet, ES0392). */
static void mend_axi_sram(void) {
    if (DBGMCU_IDC < FIRST_REVISION_V) {
        AXI_TARG7_FN_MOD = AXI_TARG7_FN_MOD_READ_ISS_OVERRIDE;
    }
}

uint32_t clock_init(void) {
    mend_axi_sram();
    if (!raise_voltage() || !start_pll()) {
        return core_hz;
    }
    /* One wait state more than 200 MHz at scale 1 ask for. */
    FLASH_ACR = FLASH_ACR_LATENCY_3 | FLASH_ACR_WRHIGHFREQ_2;
    (void)FLASH_ACR;
    RCC_D1CFGR = RCC_D1CFGR_HPRE_2 | RCC_D1CFGR_D1PPRE_2;
    RCC_D2CFGR = RCC_D2CFGR_D2PPRE1_2 | RCC_D2CFGR_D2PPRE2_2;
    RCC_D3CFGR = RCC_D3CFGR_D3PPRE_2;
    RCC_CFGR = (RCC_CFGR & ~RCC_CFGR_SW) | RCC_CFGR_SW_PLL1;
    if (wait_until(&RCC_CFGR, RCC_CFGR_SWS, RCC_CFGR_SWS_PLL1, WAIT_TURNS)) {
        core_hz = OD_CLOCK_HZ;
    }
    return core_hz;
}

/* APB1 runs at a quarter of the core's clock; of HSI's, if the switch was what failed. */
uint32_t clock_uart_hz(void) {
    const uint32_t divided = (RCC_D1CFGR & RCC_D1CFGR_HPRE_2) != 0u ? 4u : 1u;
    return core_hz / divided;
}
