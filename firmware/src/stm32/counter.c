/* What counts: cycles by the DWT; cycles, or QEMU's instructions, by the 32 bits of TIM2 where the
 * core has no DWT counter. TIM2 runs at the CPU's clock on the boards that use it. */
#include "board.h"
#include "chip.h"
#include "stm32/parts.h"

#if defined(OD_COUNTER_IS_DWT)

#define DEMCR_TRCENA (1u << 24)
#define DWT_CTRL_CYCCNTENA (1u << 0)
#define DWT_LAR REGISTER(0xE0001FB0u)
#define DWT_LAR_KEY 0xC5ACCE55u /* a Cortex-M7 locks its DWT */

void counter_init(void) {
    DEMCR |= DEMCR_TRCENA;
    DWT_LAR = DWT_LAR_KEY;
    DWT_CTRL |= DWT_CTRL_CYCCNTENA;
}

uint32_t board_counter(void) { return DWT_CYCCNT; }

#else

void counter_init(void) {
#if !OD_SIMULATED
    TIMER_CLOCKS |= TIMER_CLOCK;
    (void)TIMER_CLOCKS;
#endif
    TIM2_CR1 = TIM2_CR1_CEN;
}

uint32_t board_counter(void) { return TIM2_CNT; }

#endif

od_counter_kind_t board_counter_kind(void) {
    return OD_SIMULATED ? OD_COUNTER_INSTRUCTIONS : OD_COUNTER_CYCLES;
}

uint32_t board_counter_resolution(void) { return 1; }
