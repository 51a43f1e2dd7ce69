/* MPS2 boards in QEMU: CMSDK UART 0, polled; the CMSDK dual timer as instruction counter. */
#include "board.h"
#include "cortex_m/registers.h"

#define UART_DATA REGISTER(0x40004000u)
#define UART_STATE REGISTER(0x40004004u)
#define UART_CTRL REGISTER(0x40004008u)
#define UART_BAUDDIV REGISTER(0x40004010u)
#define TIMER_LOAD REGISTER(0x40002000u)
#define TIMER_VALUE REGISTER(0x40002004u)
#define TIMER_CTRL REGISTER(0x40002008u)

#define STATE_TX_FULL 1u
#define STATE_RX_FULL 2u
#define CTRL_ENABLE 0x80u
#define CTRL_32_BIT 0x02u

/* 25 MHz against 1 instruction a nanosecond (-icount shift=0). */
#define INSTRUCTIONS_PER_TICK 40u

void board_init(void) {
    UART_BAUDDIV = 16u;
    UART_CTRL = 3u;
    (void)UART_DATA; /* makes QEMU look for input */
    TIMER_LOAD = 0xFFFFFFFFu;
    TIMER_CTRL = CTRL_ENABLE | CTRL_32_BIT;
}

uint32_t board_clock_hz(void) { return OD_CLOCK_HZ; }

uint32_t board_read(uint8_t *bytes, uint32_t capacity) {
    (void)capacity;
    while ((UART_STATE & STATE_RX_FULL) == 0u) {
    }
    bytes[0] = (uint8_t)UART_DATA;
    return 1;
}

void board_write(const uint8_t *bytes, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        while ((UART_STATE & STATE_TX_FULL) != 0u) {
        }
        UART_DATA = bytes[i];
    }
}

uint32_t board_counter(void) { return (0xFFFFFFFFu - TIMER_VALUE) * INSTRUCTIONS_PER_TICK; }
od_counter_kind_t board_counter_kind(void) { return OD_COUNTER_INSTRUCTIONS; }
uint32_t board_counter_resolution(void) { return INSTRUCTIONS_PER_TICK; }
uint32_t board_receive_bytes(void) { return 0; }
