/* From reset to main: FPU, vector table, data, bss, stacks. Main runs in thread mode on PSP. */
#include "board.h"
#include "fault.h"
#include "registers.h"
#include "stack.h"

#if OD_UART_INTERRUPT
#define INTERRUPTS (OD_UART_INTERRUPT + 1) /* no later one is ever enabled */
#else
#define INTERRUPTS 0
#endif

extern uint32_t od_data_load[], od_data_start[], od_data_end[], od_bss_start[], od_bss_end[];

int main(void);
void reset_handler(void);
void uart_interrupt(void); /* of the driver, where the board has that interrupt */

__attribute__((section(".vectors"), used)) void (*const od_vectors[16 + INTERRUPTS])(void) = {
    (void (*)(void))(uintptr_t)od_handler_stack_top,
    reset_handler,
    nmi_handler,
    fault_handler, /* HardFault */
    fault_handler, /* MemManage */
    fault_handler, /* BusFault */
    fault_handler, /* UsageFault */
    fault_handler, /* SecureFault */
    0,
    0,
    0,
    fault_handler, /* SVCall, and what else nobody asked for */
    fault_handler,
    0,
    fault_handler,
    fault_handler,
#if OD_UART_INTERRUPT
    [16 ... 15 + OD_UART_INTERRUPT] = fault_handler,
    [16 + OD_UART_INTERRUPT] = uart_interrupt,
#endif
};

/* noinline: vectors of floats must not be touched before the FPU is on. */
__attribute__((noinline)) static void prepare(void) {
    volatile uint32_t *to = od_data_start;
    for (const uint32_t *from = od_data_load; to < od_data_end;) {
        *to++ = *from++;
    }
    for (to = od_bss_start; to < od_bss_end;) {
        *to++ = 0;
    }
    board_stack_paint();
    stack_guard_start();
    faults_enable();
}

__attribute__((noreturn, noinline)) static void run(void) {
    board_exit(main());
    for (;;) {
    }
}

void reset_handler(void) {
#if CORTEX_M_FAULT_STATUS
    SCB_CPACR |= 0xFu << 20;
    SCB_VTOR = (uint32_t)(uintptr_t)od_vectors;
#endif
    __asm__ volatile("dsb\n isb");
    prepare();
    /* The stack pointer changes under the compiler's feet: nothing but the jump may follow. */
    __asm__ volatile("msr psp, %0\n"
                     "msr control, %1\n"
                     "isb\n"
                     "bx %2" ::"r"(od_stack_top),
                     "r"(2), "r"(run)
                     : "memory");
    __builtin_unreachable();
}
