/* From reset to main: FPU, data, bss, stack paint, vector table; and the fault report. */
#include "board.h"
#include "registers.h"

#define STACK_PAINT 0xDEADBEEFu
#if OD_UART_INTERRUPT
#define INTERRUPTS (OD_UART_INTERRUPT + 1) /* no later one is ever enabled */
#else
#define INTERRUPTS 0
#endif
#define FAULT_EXIT_CODE 99

extern uint32_t od_data_load, od_data_start, od_data_end, od_bss_start, od_bss_end;
extern uint32_t od_stack_limit, od_stack_top;

int main(void);
void reset_handler(void);
void fault_handler(void);
void fault_report(const uint32_t *frame);
void default_handler(void);
void nmi_handler(void);
void uart_interrupt(void) __attribute__((weak, alias("default_handler")));

__attribute__((section(".vectors"), used)) void (*const od_vectors[16 + INTERRUPTS])(void) = {
    (void (*)(void))(uintptr_t)&od_stack_top,
    reset_handler,
    nmi_handler,
    fault_handler,
    fault_handler,
    fault_handler,
    fault_handler,
    0,
    0,
    0,
    0,
    default_handler,
    default_handler,
    0,
    default_handler,
    default_handler,
#if OD_UART_INTERRUPT
    [16 ... 15 + OD_UART_INTERRUPT] = default_handler,
    [16 + OD_UART_INTERRUPT] = uart_interrupt,
#endif
};

/* noinline: the floats of main must not be touched before the FPU is on. */
__attribute__((noinline)) static void run(void) {
    volatile uint32_t *to = &od_data_start;
    for (const uint32_t *from = &od_data_load; to < &od_data_end;) {
        *to++ = *from++;
    }
    for (to = &od_bss_start; to < &od_bss_end;) {
        *to++ = 0;
    }
    board_stack_paint();
    const int code = main();
    board_exit(code);
    for (;;) {
    }
}

void reset_handler(void) {
    SCB_CPACR |= 0xFu << 20;
    __asm__ volatile("dsb\n isb");
    SCB_VTOR = (uint32_t)(uintptr_t)od_vectors;
    run();
}

static uint32_t *stack_pointer(void) {
    uint32_t *sp;
    __asm__ volatile("mov %0, sp" : "=r"(sp));
    return sp;
}

void board_stack_paint(void) {
    /* Some words below the stack pointer belong to this call. */
    const uint32_t *const end = stack_pointer() - 16;
    for (volatile uint32_t *word = &od_stack_limit; word < end;) {
        *word++ = STACK_PAINT;
    }
}

uint32_t board_stack_high_water(void) {
    const uint32_t *word = &od_stack_limit;
    while (word < &od_stack_top && *word == STACK_PAINT) {
        word++;
    }
    return (uint32_t)((uintptr_t)&od_stack_top - (uintptr_t)word);
}

static void put_hex(uint32_t value) {
    char digits[9];
    for (uint32_t i = 0; i < 8; i++) {
        digits[i] = "0123456789abcdef"[(value >> (28u - 4u * i)) & 15u];
    }
    digits[8] = 0;
    board_report(digits);
}

/* Plain text: the frame protocol may be what broke. */
__attribute__((used)) void fault_report(const uint32_t *frame) {
    board_report("\nFAULT pc=");
    put_hex(frame[6]);
    board_report(" lr=");
    put_hex(frame[5]);
    board_report(" cfsr=");
    put_hex(SCB_CFSR);
    board_report("\n");
    board_exit(FAULT_EXIT_CODE);
    for (;;) {
    }
}

/* In instructions of ARMv6-M too. */
__attribute__((naked)) void fault_handler(void) {
    __asm__ volatile(".syntax unified\n"
                     "mov r0, lr\n"
                     "lsls r0, r0, #29\n"
                     "mrs r0, msp\n"
                     "bpl 1f\n"
                     "mrs r0, psp\n"
                     "1: ldr r1, =fault_report\n"
                     "bx r1\n"
                     ".pool\n");
}

/* Of drivers whose chip has none. */
__attribute__((weak)) int board_nmi(void) { return 0; }

void nmi_handler(void) {
    if (!board_nmi()) {
        default_handler();
    }
}

void default_handler(void) {
    board_report("\nFAULT unexpected interrupt\n");
    board_exit(FAULT_EXIT_CODE);
    for (;;) {
    }
}
