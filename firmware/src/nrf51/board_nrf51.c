/* nRF51 in QEMU: its UART, polled; TIMER0, 32 bits wide, as instruction counter. */
#include "board.h"
#include "cortex_m/registers.h"

#define UART(offset) REGISTER(OD_UART_ORIGIN + (offset))
#define UART_START_RX UART(0x000u)
#define UART_START_TX UART(0x008u)
#define UART_RX_READY UART(0x108u)
#define UART_TX_READY UART(0x11Cu)
#define UART_ENABLE UART(0x500u)
#define UART_RXD UART(0x518u)
#define UART_TXD UART(0x51Cu)

#define TIMER(offset) REGISTER(OD_COUNTER_ORIGIN + (offset))
#define TIMER_START TIMER(0x000u)
#define TIMER_CAPTURE TIMER(0x040u)
#define TIMER_BIT_MODE TIMER(0x508u)
#define TIMER_PRESCALER TIMER(0x510u)
#define TIMER_VALUE TIMER(0x540u)

#define ENABLE_UART 4u
#define BIT_MODE_32 3u

void board_init(void) {
    UART_ENABLE = ENABLE_UART;
    UART_START_TX = 1u;
    UART_START_RX = 1u;
    TIMER_BIT_MODE = BIT_MODE_32;
    TIMER_PRESCALER = 0u;
    TIMER_START = 1u;
}

uint32_t board_clock_hz(void) { return OD_CLOCK_HZ; }

uint32_t board_read(uint8_t *bytes, uint32_t capacity) {
    (void)capacity;
    while (UART_RX_READY == 0u) {
    }
    UART_RX_READY = 0u; /* before the read: reading may announce the next byte */
    bytes[0] = (uint8_t)UART_RXD;
    return 1;
}

void board_write(const uint8_t *bytes, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        UART_TX_READY = 0u;
        UART_TXD = bytes[i];
        while (UART_TX_READY == 0u) {
        }
    }
}

/* 16 MHz against 1 instruction a nanosecond (-icount shift=0): 62.5 instructions a tick. */
uint32_t board_counter(void) {
    TIMER_CAPTURE = 1u;
    return (uint32_t)(((uint64_t)TIMER_VALUE * 125u) / 2u);
}

od_counter_kind_t board_counter_kind(void) { return OD_COUNTER_INSTRUCTIONS; }
uint32_t board_counter_resolution(void) { return 63u; }
uint32_t board_receive_bytes(void) { return 0; }

od_start_reason_t board_start_reason(void) { return OD_START_UNKNOWN; }

uint32_t board_unique_id(uint8_t *id) {
    (void)id;
    return 0;
}

void board_watchdog_start(uint32_t timeout_ms) { (void)timeout_ms; }
void board_watchdog_feed(void) {}
