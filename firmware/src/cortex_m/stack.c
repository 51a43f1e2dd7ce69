/* The program's stack: its guard, and how much of it was used.
 *
 * It is the first of the RAM. Below it lies nothing of ours, on most chips nothing at all, so that
 * an overflow reaches no data, however far it jumps. What turns it into a fault is PSPLIM on
 * ARMv8-M, a read-only MPU region below the RAM on ARMv7-M, and the bus error of the void on any
 * core. ARMv6-M may lock up on that one, for want of room for its exception frame; so the stack's
 * last bytes are watched, too.
 */
#include "stack.h"

#include "board.h"
#include "registers.h"

#define STACK_PAINT 0xDEADBEEFu
#define STACK_WATCHED_BYTES 32u

#define GUARD_BYTES 0x10000u
#define RBAR_VALID 0x10u
/* Execute never, privileged read-only, 2^16 bytes, on. */
#define RASR_GUARD ((1u << 28) | (5u << 24) | (15u << 1) | 1u)
#define MPU_ON_WITH_DEFAULT_MAP 5u

void stack_guard_start(void) {
#if CORTEX_M_STACK_LIMIT_REGISTERS
    __asm__ volatile("msr psplim, %0\n msr msplim, %1" ::"r"(od_stack_limit),
                     "r"(od_handler_stack_limit));
#elif CORTEX_M_FAULT_STATUS
    if (MPU_TYPE != 0u) {
        MPU_RBAR = ((uint32_t)(uintptr_t)od_stack_limit - GUARD_BYTES) | RBAR_VALID;
        MPU_RASR = RASR_GUARD;
        MPU_CTRL = MPU_ON_WITH_DEFAULT_MAP;
        __asm__ volatile("dsb\n isb");
    }
#endif
}

bool stack_is_below(uint32_t address) {
    return (uint32_t)(uintptr_t)od_stack_limit - 1u - address < GUARD_BYTES;
}

static uint32_t *stack_pointer(void) {
    uint32_t *sp;
    __asm__ volatile("mov %0, sp" : "=r"(sp));
    return sp;
}

void board_stack_paint(void) {
    /* Some words below the stack pointer belong to this call; before main it is the other stack's.
     */
    const uint32_t *const sp = stack_pointer();
    const uint32_t *const end = sp < od_stack_top ? sp - 16 : od_stack_top;
    for (volatile uint32_t *word = od_stack_limit; word < end;) {
        *word++ = STACK_PAINT;
    }
}

uint32_t board_stack_high_water(void) {
    const uint32_t *word = od_stack_limit;
    while (word < od_stack_top && *word == STACK_PAINT) {
        word++;
    }
    return (uint32_t)((uintptr_t)od_stack_top - (uintptr_t)word);
}

void board_stack_check(void) {
#if !CORTEX_M_FAULT_STATUS
    for (uint32_t i = 0; i < STACK_WATCHED_BYTES / 4u; i++) {
        if (od_stack_limit[i] != STACK_PAINT) {
            board_fault(OD_FAULT_STACK);
        }
    }
#endif
}
