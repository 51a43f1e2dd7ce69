/* Boards with an STM32: what starts in which order. Each part has a file of its own; a family's
 * clock, flash and registers are in the folder that the board's file names as driver.
 *
 * QEMU's STM32F405 has the UART and the timer, but no oscillators, flash controller, watchdog or
 * reset flags: OD_SIMULATED leaves them out. The rest has been built, but not run on a board yet.
 */
#include "board.h"

#include "chip.h"
#include "stm32/family.h"
#include "stm32/parts.h"

static uint32_t clock_hz;

void board_init(void) {
#if OD_SIMULATED
    clock_hz = OD_CLOCK_HZ;
#else
    supply_init();
    clock_hz = clock_init();
    caches_on();
#endif
    usart_init();
    counter_init();
}

uint32_t board_clock_hz(void) { return clock_hz; }

#if OD_SIMULATED

uint32_t clock_uart_hz(void) { return OD_CLOCK_HZ / 2u; }

uint32_t board_unique_id(uint8_t *id) {
    (void)id;
    return 0;
}

#else

#define UNIQUE_ID_BYTES 12u

uint32_t board_unique_id(uint8_t *id) {
    for (uint32_t i = 0; i < UNIQUE_ID_BYTES; i++) {
        id[i] = (uint8_t)(REGISTER(UNIQUE_ID_ORIGIN + (i & ~3u)) >> (8u * (i % 4u)));
    }
    return UNIQUE_ID_BYTES;
}

#endif
