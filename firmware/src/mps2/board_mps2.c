/* MPS2 and MPS3 boards in QEMU: a CMSDK UART, polled; as instruction counter the CMSDK dual timer,
 * or the system counter of the SSE-300, which has none. */
#include "board.h"
#include "cortex_m/registers.h"

#define UART_DATA REGISTER(OD_UART_ORIGIN)
#define UART_STATE REGISTER(OD_UART_ORIGIN + 0x04u)
#define UART_CTRL REGISTER(OD_UART_ORIGIN + 0x08u)
#define UART_BAUDDIV REGISTER(OD_UART_ORIGIN + 0x10u)

#define STATE_TX_FULL 1u
#define STATE_RX_FULL 2u

/* Counts down; at 0 it raises NMI and starts again, and restarts the board at the second 0. */
#define WATCHDOG(offset) REGISTER(OD_WATCHDOG_ORIGIN + (offset))
#define WATCHDOG_LOAD WATCHDOG(0x000u)
#define WATCHDOG_CTRL WATCHDOG(0x008u)
#define WATCHDOG_CLEAR WATCHDOG(0x00Cu)
#define WATCHDOG_LOCK WATCHDOG(0xC00u)
#define WATCHDOG_UNLOCK 0x1ACCE551u

/* In quarters: one instruction is a nanosecond (-icount shift=0), and the clock 20, 25 or 32 MHz.
 */
#define INSTRUCTIONS_PER_4_TICKS (4000000000u / OD_CLOCK_HZ)

#if defined(OD_COUNTER_IS_SYSTEMCOUNTER)

#define COUNTER_CTRL REGISTER(OD_COUNTER_ORIGIN)
#define COUNTER_LOW REGISTER(OD_COUNTER_ORIGIN + 0x08u)
#define COUNTER_HIGH REGISTER(OD_COUNTER_ORIGIN + 0x0Cu)
#define CTRL_ENABLE 1u

static void counter_init(void) { COUNTER_CTRL = CTRL_ENABLE; }

static uint64_t ticks(void) {
    const uint32_t high = COUNTER_HIGH;
    const uint32_t low = COUNTER_LOW;
    const uint32_t now = COUNTER_HIGH; /* moved on: the low word has just begun again */
    return ((uint64_t)now << 32) | (now == high ? low : 0u);
}

#else

#define TIMER_LOAD REGISTER(OD_COUNTER_ORIGIN)
#define TIMER_VALUE REGISTER(OD_COUNTER_ORIGIN + 0x04u)
#define TIMER_CTRL REGISTER(OD_COUNTER_ORIGIN + 0x08u)
#define CTRL_ENABLE 0x80u
#define CTRL_32_BIT 0x02u

static void counter_init(void) {
    TIMER_LOAD = 0xFFFFFFFFu;
    TIMER_CTRL = CTRL_ENABLE | CTRL_32_BIT;
}

static uint64_t ticks(void) { return 0xFFFFFFFFu - TIMER_VALUE; }

#endif

void board_init(void) {
    UART_BAUDDIV = 16u;
    UART_CTRL = 3u;
    (void)UART_DATA; /* makes QEMU look for input */
    counter_init();
}

uint32_t board_clock_hz(void) { return OD_CLOCK_HZ; }

uint32_t board_read(uint8_t *bytes, uint32_t capacity) {
    (void)capacity;
    while ((UART_STATE & STATE_RX_FULL) == 0u) {
        board_watchdog_feed();
    }
    bytes[0] = (uint8_t)UART_DATA;
    return 1;
}

void board_write(const uint8_t *bytes, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        while ((UART_STATE & STATE_TX_FULL) != 0u) {
            board_watchdog_feed();
        }
        UART_DATA = bytes[i];
    }
}

uint32_t board_counter(void) { return (uint32_t)(ticks() * INSTRUCTIONS_PER_4_TICKS / 4u); }
od_counter_kind_t board_counter_kind(void) { return OD_COUNTER_INSTRUCTIONS; }
uint32_t board_counter_resolution(void) { return (INSTRUCTIONS_PER_4_TICKS + 3u) / 4u; }
uint32_t board_receive_bytes(void) { return 0; }

od_start_reason_t board_start_reason(void) { return OD_START_UNKNOWN; }

uint32_t board_unique_id(uint8_t *id) {
    (void)id;
    return 0;
}

void board_watchdog_start(uint32_t timeout_ms) {
    WATCHDOG_LOCK = WATCHDOG_UNLOCK;
    WATCHDOG_LOAD = (uint32_t)((uint64_t)timeout_ms * OD_WATCHDOG_HZ / 1000u);
    WATCHDOG_CTRL = 3u; /* count and interrupt; restart at the second zero */
}

void board_watchdog_feed(void) { WATCHDOG_CLEAR = 1u; }

int board_nmi(void) { return BOARD_NMI_WATCHDOG; }
