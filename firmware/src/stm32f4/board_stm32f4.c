/* STM32F405/F446: clock, USART1 or USART2, cycle counter (RM0090, RM0390).
 *
 * In QEMU (netduinoplus2) the UART is polled, since an interrupt ring would defeat QEMU's
 * back-pressure, and TIM2 counts instructions. On silicon an interrupt fills a ring and DWT counts
 * cycles; that half has been built but not run on a board yet.
 */
#include "board.h"
#include "cortex_m/registers.h"

#define RCC_CR REGISTER(0x40023800u)
#define RCC_PLLCFGR REGISTER(0x40023804u)
#define RCC_CFGR REGISTER(0x40023808u)
#define RCC_AHB1ENR REGISTER(0x40023830u)
#define RCC_APB1ENR REGISTER(0x40023840u)
#define RCC_APB2ENR REGISTER(0x40023844u)
#define PWR_CR REGISTER(0x40007000u)
#define PWR_CSR REGISTER(0x40007004u)
#define FLASH_ACR REGISTER(0x40023C00u)
#define GPIOA_MODER REGISTER(0x40020000u)
#define GPIOA_AFRL REGISTER(0x40020020u)
#define TIM2_CR1 REGISTER(0x40000000u)
#define TIM2_CNT REGISTER(0x40000024u)

#if defined(OD_UART_USART1)
#define USART_BASE 0x40011000u
#else
#define USART_BASE 0x40004400u
#endif
#define USART_SR REGISTER(USART_BASE + 0x00u)
#define USART_DR REGISTER(USART_BASE + 0x04u)
#define USART_BRR REGISTER(USART_BASE + 0x08u)
#define USART_CR1 REGISTER(USART_BASE + 0x0Cu)
#define SR_RXNE (1u << 5)
#define SR_TXE (1u << 7)
#define CR1_RE (1u << 2)
#define CR1_TE (1u << 3)
#define CR1_RXNEIE (1u << 5)
#define CR1_UE (1u << 13)

#if OD_SIMULATED

static void clock_init(void) {}

uint32_t board_clock_hz(void) { return OD_CLOCK_HZ; }

static uint32_t uart_clock_hz(void) { return OD_CLOCK_HZ / 2u; }

#else

#define HSI_HZ 16000000u
#define WAIT_TURNS 1000000u
#define RING_BYTES 2048u

/* Volatile, so that a byte is read before its place is given back to the interrupt. */
static volatile uint8_t ring[RING_BYTES];
static volatile uint32_t ring_head, ring_tail;
static uint32_t core_clock_hz = HSI_HZ;

/* Waits at most WAIT_TURNS for all bits of `mask`; 0 where they did not come. */
static int wait_for(const volatile uint32_t *address, uint32_t mask) {
    for (uint32_t turn = 0; turn < WAIT_TURNS; turn++) {
        if ((*address & mask) == mask) {
            return 1;
        }
    }
    return 0;
}

/* 180 MHz from the ST-LINK's 8 MHz (bypass), or from HSI; stays at 16 MHz HSI if the PLL fails. */
static void clock_init(void) {
    RCC_APB1ENR |= 1u << 28;
    PWR_CR |= 3u << 14;
    RCC_CR |= 1u << 18; /* bypass: only while HSE is off */
    RCC_CR |= 1u << 16;
    const int external = wait_for(&RCC_CR, 1u << 17);
    const uint32_t divider = external ? 4u : 8u;
    /* M, N = 180, P = 2, source, Q = 8, R = 2 (unused; its 0 and 1 are forbidden). */
    RCC_PLLCFGR =
        divider | (180u << 6) | (0u << 16) | ((external ? 1u : 0u) << 22) | (8u << 24) | (2u << 28);
    RCC_CR |= 1u << 24;
    if (!wait_for(&RCC_CR, 1u << 25)) {
        return;
    }
    PWR_CR |= 1u << 16; /* over-drive, needed above 168 MHz */
    if (!wait_for(&PWR_CSR, 1u << 16)) {
        return;
    }
    PWR_CR |= 1u << 17;
    if (!wait_for(&PWR_CSR, 1u << 17)) {
        return;
    }
    FLASH_ACR = 5u | (7u << 8); /* 5 wait states, prefetch, caches */
    RCC_CFGR = (5u << 10) | (4u << 13);
    RCC_CFGR |= 2u;
    if (wait_for(&RCC_CFGR, 2u << 2)) {
        core_clock_hz = OD_CLOCK_HZ;
    }
}

uint32_t board_clock_hz(void) { return core_clock_hz; }

/* APB1 runs at a quarter of the PLL's clock, at all of HSI's. */
static uint32_t uart_clock_hz(void) {
    return core_clock_hz == HSI_HZ ? HSI_HZ : core_clock_hz / 4u;
}

void uart_interrupt(void);

void uart_interrupt(void) {
    (void)USART_SR; /* reading SR, then DR, clears an overrun */
    const uint8_t byte = (uint8_t)USART_DR;
    const uint32_t next = (ring_head + 1u) % RING_BYTES;
    if (next != ring_tail) { /* full: the byte is lost, the CRC fails, the host sends again */
        ring[ring_head] = byte;
        ring_head = next;
    }
}

#endif

void board_init(void) {
    clock_init();
    RCC_AHB1ENR |= 1u;
#if defined(OD_UART_USART1)
    RCC_APB2ENR |= 1u << 4;
#else
    RCC_APB1ENR |= 1u << 17;
    GPIOA_MODER = (GPIOA_MODER & ~(0xFu << 4)) | (0xAu << 4);
    GPIOA_AFRL = (GPIOA_AFRL & ~(0xFFu << 8)) | (0x77u << 8);
#endif
    USART_BRR = (uart_clock_hz() + OD_UART_BAUD / 2u) / OD_UART_BAUD;
    USART_CR1 = CR1_UE | CR1_TE | CR1_RE;
#if OD_SIMULATED
    TIM2_CR1 = 1u;
#else
    DEMCR |= 1u << 24;
    DWT_CTRL |= 1u;
    USART_CR1 |= CR1_RXNEIE;
    NVIC_ISER(OD_UART_INTERRUPT / 32u) = 1u << (OD_UART_INTERRUPT % 32u);
    __asm__ volatile("cpsie i");
#endif
}

#if OD_SIMULATED

uint32_t board_read(uint8_t *bytes, uint32_t capacity) {
    (void)capacity;
    while ((USART_SR & SR_RXNE) == 0u) {
    }
    bytes[0] = (uint8_t)USART_DR;
    return 1;
}

uint32_t board_counter(void) { return TIM2_CNT; }
od_counter_kind_t board_counter_kind(void) { return OD_COUNTER_INSTRUCTIONS; }
uint32_t board_receive_bytes(void) { return 0; }

#else

uint32_t board_read(uint8_t *bytes, uint32_t capacity) {
    uint32_t n = 0;
    while (ring_tail == ring_head) {
    }
    while (n < capacity && ring_tail != ring_head) {
        bytes[n++] = ring[ring_tail];
        ring_tail = (ring_tail + 1u) % RING_BYTES;
    }
    return n;
}

uint32_t board_counter(void) { return DWT_CYCCNT; }
od_counter_kind_t board_counter_kind(void) { return OD_COUNTER_CYCLES; }
uint32_t board_receive_bytes(void) { return RING_BYTES - 1u; }

#endif

uint32_t board_counter_resolution(void) { return 1; }

void board_write(const uint8_t *bytes, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        while ((USART_SR & SR_TXE) == 0u) {
        }
        USART_DR = bytes[i];
    }
}

#if !OD_STORAGE_IN_FILE
const od_storage_t *board_storage(void) { return 0; }
#endif

od_start_reason_t board_start_reason(void) { return OD_START_UNKNOWN; }

uint32_t board_unique_id(uint8_t *id) {
    (void)id;
    return 0;
}

void board_watchdog_start(uint32_t timeout_ms) { (void)timeout_ms; }
void board_watchdog_feed(void) {}
