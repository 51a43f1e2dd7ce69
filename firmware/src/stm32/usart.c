/* The link's UART. On silicon an interrupt fills a ring; in QEMU it is polled, since a ring would
 * defeat QEMU's back-pressure. */
#include "stm32/usart.h"

#include "board.h"
#include "stm32/family.h"
#include "stm32/parts.h"

#if OD_SIMULATED

static void receive_init(void) {}

uint32_t board_read(uint8_t *bytes, uint32_t capacity) {
    (void)capacity;
    while ((USART_STATUS & USART_STATUS_RECEIVED) == 0u) {
    }
    bytes[0] = (uint8_t)USART_RECEIVED;
    return 1;
}

uint32_t board_receive_bytes(void) { return 0; }

#else

#define RING_BYTES 2048u

/* Volatile, so that a byte is read before its place is given back to the interrupt. */
static volatile uint8_t ring[RING_BYTES];
static volatile uint32_t ring_head, ring_tail;

void uart_interrupt(void);

void uart_interrupt(void) {
#if defined(USART_HAS_ONE_DATA_REGISTER)
    (void)USART_STATUS; /* reading status, then data, clears errors */
#else
    USART_CLEAR = USART_CLEAR_ERRORS;
    if ((USART_STATUS & USART_STATUS_RECEIVED) == 0u) {
        return; /* it was an overrun */
    }
#endif
    const uint8_t byte = (uint8_t)USART_RECEIVED;
    const uint32_t next = (ring_head + 1u) % RING_BYTES;
    if (next != ring_tail) { /* full: the byte is lost, the CRC fails, the host sends again */
        ring[ring_head] = byte;
        ring_head = next;
    }
}

static void receive_init(void) {
    USART_CONTROL |= USART_CONTROL_INTERRUPT;
    NVIC_ISER(OD_UART_INTERRUPT / 32u) = 1u << (OD_UART_INTERRUPT % 32u);
    __asm__ volatile("cpsie i");
}

uint32_t board_read(uint8_t *bytes, uint32_t capacity) {
    uint32_t n = 0;
    while (ring_tail == ring_head) {
        board_watchdog_feed();
    }
    while (n < capacity && ring_tail != ring_head) {
        bytes[n++] = ring[ring_tail];
        ring_tail = (ring_tail + 1u) % RING_BYTES;
    }
    return n;
}

uint32_t board_receive_bytes(void) { return RING_BYTES - 1u; }

#endif

#if defined(OD_UART_TX_PORT)

#define GPIO_MODER(port) REGISTER(GPIO_ORIGIN + 0x400u * (port))
#define GPIO_AFR(port, half) REGISTER(GPIO_ORIGIN + 0x400u * (port) + 0x20u + 4u * (half))
#define MODE_ALTERNATE 2u

static void pin_init(uint32_t port, uint32_t pin) {
    const uint32_t mode_shift = 2u * pin;
    const uint32_t function_shift = 4u * (pin % 8u);
    GPIO_CLOCKS |= 1u << port;
    (void)GPIO_CLOCKS; /* the clock needs two cycles */
    volatile uint32_t *const function = &GPIO_AFR(port, pin / 8u);
    *function = (*function & ~(0xFu << function_shift)) | (OD_UART_ALTERNATE << function_shift);
    GPIO_MODER(port) = (GPIO_MODER(port) & ~(3u << mode_shift)) | (MODE_ALTERNATE << mode_shift);
}

static void pins_init(void) {
    pin_init(OD_UART_TX_PORT, OD_UART_TX_PIN);
    pin_init(OD_UART_RX_PORT, OD_UART_RX_PIN);
}

#else

static void pins_init(void) {}

#endif

void usart_init(void) {
    pins_init();
    UART_CLOCKS |= UART_CLOCK;
    (void)UART_CLOCKS;
    USART_BAUD = (clock_uart_hz() + OD_UART_BAUD / 2u) / OD_UART_BAUD;
    USART_CONTROL = USART_CONTROL_ENABLE | USART_CONTROL_SEND | USART_CONTROL_RECEIVE;
    receive_init();
}

void board_write(const uint8_t *bytes, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        while ((USART_STATUS & USART_STATUS_MAY_SEND) == 0u) {
        }
        USART_TO_SEND = bytes[i];
    }
}
