/* What a fault leaves: a record in memory that no start clears, and a FAULT frame on the UART.
 *
 * Nothing here trusts the state of the program that failed: the handlers' stack begins anew, the
 * session is not touched, and all memory is static. The record is whole before anything is sent; a
 * second fault on the way restarts the board at once. After the restart the record is sent once
 * more, for a host that missed the first.
 */
#include "fault.h"

#include <stdbool.h>

#include "board.h"
#include "ondevice/crc32.h"
#include "ondevice/frame.h"
#include "ondevice/little_endian.h"
#include "registers.h"
#include "stack.h"

#define MAGIC 0x4F444654u
#define CALLERS 8
#define FLAG_REGISTERS 0x100u /* pc, lr and xpsr are known */
#define FLAG_AGAIN 0x200u     /* sent after the restart */

#define CFSR_MSTKERR (1u << 4)
#define CFSR_MMARVALID (1u << 7)
#define CFSR_STKERR (1u << 12)
#define CFSR_BFARVALID (1u << 15)
#define CFSR_STKOF (1u << 20)
#define CCR_DIV_0_TRP (1u << 4)
#define CCR_DC (1u << 16)
#define FPCCR_LSPACT 1u
#define CACHE_LINE_BYTES 32u
#define SHCSR_MEM_BUS_USAGE (7u << 16)
#define AIRCR_RESET 0x05FA0004u
#define EXC_RETURN_PSP 4u
#define EXC_RETURN_NO_FLOATS 0x10u
#define NMI 2u

/* The payload of FAULT, see docs/PROTOCOL.md. */
enum {
    KIND,
    PC,
    LR,
    SP,
    XPSR,
    CFSR,
    HFSR,
    MMFAR,
    BFAR,
    FIRST_CALLER,
    WORDS = FIRST_CALLER + CALLERS
};

typedef struct {
    uint32_t magic;
    uint32_t words[WORDS];
    uint32_t crc;
} fault_record_t;

static fault_record_t record __attribute__((section(".noinit")));
static uint8_t frame[OD_HEADER_BYTES + 4u * WORDS + 4u];
static uint8_t wire[OD_WIRE_BYTES(sizeof frame)];
static bool uart_works;
static uint32_t handling; /* MAGIC from the first fault on */
static int nmi_cause;

extern const uint8_t od_text_start[], od_text_end[];

void faults_enable(void) {
#if CORTEX_M_FAULT_STATUS
    SCB_CCR |= CCR_DIV_0_TRP;
    SCB_SHCSR |= SHCSR_MEM_BUS_USAGE;
#endif
}

static uint32_t record_crc(void) {
    return od_crc32(0, (const uint8_t *)record.words, sizeof record.words);
}

static bool record_is_whole(void) { return record.magic == MAGIC && record.crc == record_crc(); }

/* With delimiters behind it: a restart cuts off what the UART has not shifted out yet. */
static void send_record(void) {
    static const uint8_t delimiters[16] = {0};
    const od_header_t header = {OD_PROTOCOL_VERSION, OD_FAULT, 0, 0};
    uint8_t *at = frame + OD_HEADER_BYTES;
    for (uint32_t i = 0; i < WORDS; i++) {
        at = od_put_u32(at, record.words[i]);
    }
    board_write(wire, od_frame_encode(&header, frame, 4u * WORDS, wire));
    board_write(delimiters, sizeof delimiters);
}

__attribute__((noreturn)) static void restart(void) {
    __asm__ volatile("dsb");
    SCB_AIRCR = AIRCR_RESET;
    for (;;) {
    }
}

static void put_hex(uint32_t value) {
    char digits[9];
    for (uint32_t i = 0; i < 8; i++) {
        digits[i] = "0123456789abcdef"[(value >> (28u - 4u * i)) & 15u];
    }
    digits[8] = 0;
    board_report(digits);
}

/* A restart loses what is only in the data cache. */
static void write_record_to_memory(void) {
#if CORTEX_M_FAULT_STATUS
    if ((SCB_CCR & CCR_DC) != 0u) {
        const uint32_t start = (uint32_t)(uintptr_t)&record & ~(CACHE_LINE_BYTES - 1u);
        const uint32_t end = (uint32_t)(uintptr_t)(&record + 1);
        __asm__ volatile("dsb" ::: "memory");
        for (uint32_t line = start; line < end; line += CACHE_LINE_BYTES) {
            SCB_DCCMVAC = line;
        }
    }
#endif
    __asm__ volatile("dsb" ::: "memory");
}

__attribute__((noreturn)) static void finish(void) {
    record.crc = record_crc();
    record.magic = MAGIC;
    write_record_to_memory();
    board_report("\nFAULT pc=");
    put_hex(record.words[PC]);
    board_report(" lr=");
    put_hex(record.words[LR]);
    board_report(" cfsr=");
    put_hex(record.words[CFSR]);
    board_report("\n");
    if (uart_works) {
        send_record();
    }
    restart();
}

/* What a call leaves on the stack: an address in the code with a BL or BLX before it. */
static bool is_return_address(uint32_t word) {
    const uint32_t start = (uint32_t)(uintptr_t)od_text_start;
    const uint32_t end = (uint32_t)(uintptr_t)od_text_end;
    if ((word & 1u) == 0u || word < start + 4u || word > end) {
        return false;
    }
    const uint16_t *const next = (const uint16_t *)(uintptr_t)(word - 1u);
    const bool direct = (next[-2] & 0xF800u) == 0xF000u && (next[-1] & 0xD000u) == 0xD000u;
    return direct || (next[-1] & 0xFF87u) == 0x4780u;
}

static void find_callers(const uint32_t *from, const uint32_t *end) {
    uint32_t found = 0;
    for (; from < end && found < CALLERS; from++) {
        if (is_return_address(*from)) {
            record.words[FIRST_CALLER + found++] = *from;
        }
    }
}

static od_fault_kind_t kind_of(uint32_t exception, uint32_t cfsr, uint32_t sp) {
    const bool unstacked = (cfsr & (CFSR_MSTKERR | CFSR_STKERR)) != 0u || !CORTEX_M_FAULT_STATUS;
    if ((cfsr & CFSR_STKOF) != 0u || (unstacked && stack_is_below(sp)) ||
        ((cfsr & CFSR_MMARVALID) != 0u && stack_is_below(record.words[MMFAR])) ||
        ((cfsr & CFSR_BFARVALID) != 0u && stack_is_below(record.words[BFAR]))) {
        return OD_FAULT_STACK;
    }
    if (exception == NMI) {
        return nmi_cause == BOARD_NMI_WATCHDOG ? OD_FAULT_WATCHDOG : OD_FAULT_NMI;
    }
    if ((cfsr >> 16) != 0u) {
        return OD_FAULT_USAGE;
    }
    if ((cfsr & 0xFF00u) != 0u) {
        return OD_FAULT_BUS;
    }
    if (cfsr != 0u) {
        return OD_FAULT_MEMORY;
    }
    return exception > 7u ? OD_FAULT_INTERRUPT : OD_FAULT_HARD;
}

static void begin(void) {
    if (handling == MAGIC) {
        restart();
    }
    handling = MAGIC;
    record.magic = 0;
    for (uint32_t i = 0; i < WORDS; i++) {
        record.words[i] = 0;
    }
}

/* On the handlers' stack from its top; msp and psp are what they were in the handler. */
__attribute__((used, noreturn)) static void fault_taken(const uint32_t *msp, const uint32_t *psp,
                                                        uint32_t exc_return) {
    __asm__ volatile("cpsid i" ::: "memory");
#if CORTEX_M_FAULT_STATUS
    /* The floats of the program are not saved when the first vector here is computed: the stack
     * they would go to may be what failed. */
    FPU_FPCCR &= ~FPCCR_LSPACT;
#endif
    begin();
    uint32_t exception;
    __asm__ volatile("mrs %0, ipsr" : "=r"(exception));
    const bool program = (exc_return & EXC_RETURN_PSP) != 0u;
    const uint32_t *const pushed = program ? psp : msp;
    const uint32_t *const limit = program ? od_stack_limit : od_handler_stack_limit;
    const uint32_t *const top = program ? od_stack_top : od_handler_stack_top;
    const uint32_t pushed_words = (exc_return & EXC_RETURN_NO_FLOATS) != 0u ? 8u : 26u;
#if CORTEX_M_FAULT_STATUS
    record.words[CFSR] = SCB_CFSR;
    record.words[HFSR] = SCB_HFSR;
    record.words[MMFAR] = SCB_MMFAR;
    record.words[BFAR] = SCB_BFAR;
#endif
    const uint32_t cfsr = record.words[CFSR];
    /* A frame that did not fit was not pushed; ARMv8-M then leaves the pointer at the limit. */
    const bool whole = (cfsr & (CFSR_MSTKERR | CFSR_STKERR)) == 0u && pushed >= limit &&
                       pushed + pushed_words <= top &&
                       !((cfsr & CFSR_STKOF) != 0u && pushed == limit);
    const uint32_t *sp = pushed + pushed_words;
    if (whole) {
        record.words[PC] = pushed[6];
        record.words[LR] = pushed[5];
        record.words[XPSR] = pushed[7];
        sp += (pushed[7] >> 9) & 1u;
    }
    record.words[SP] = (uint32_t)(uintptr_t)sp;
    find_callers(sp < limit ? limit : sp, top);
    record.words[KIND] = (uint32_t)kind_of(exception, cfsr, (uint32_t)(uintptr_t)pushed) |
                         (whole ? FLAG_REGISTERS : 0u) | (exception << 16);
    finish();
}

/* In instructions of ARMv6-M too. */
__attribute__((naked)) void fault_handler(void) {
    __asm__ volatile(".syntax unified\n"
                     "mrs r0, msp\n"
                     "mrs r1, psp\n"
                     "mov r2, lr\n"
                     "ldr r3, =od_handler_stack_top\n"
                     "mov sp, r3\n"
                     "ldr r3, =%c0\n"
                     "bx r3\n"
                     ".pool\n" ::"i"(fault_taken));
}

/* Of drivers whose chip has none. */
__attribute__((weak)) int board_nmi(void) { return BOARD_NMI_UNKNOWN; }

/* Returns whether the program may go on. */
__attribute__((used)) static uint32_t nmi_taken(void) {
    nmi_cause = board_nmi();
    return nmi_cause == BOARD_NMI_HANDLED;
}

__attribute__((naked)) void nmi_handler(void) {
    __asm__ volatile(".syntax unified\n"
                     "push {r4, lr}\n"
                     "bl %c0\n"
                     "pop {r4}\n"
                     "pop {r1}\n"
                     "mov lr, r1\n"
                     "cmp r0, #0\n"
                     "bne 1f\n"
                     "ldr r0, =fault_handler\n"
                     "bx r0\n"
                     "1: bx lr\n"
                     ".pool\n" ::"i"(nmi_taken));
}

void board_fault(od_fault_kind_t kind) {
    begin();
    record.words[KIND] = (uint32_t)kind;
    record.words[SP] = (uint32_t)(uintptr_t)od_stack_limit;
    find_callers(od_stack_limit, od_stack_top);
    finish();
}

od_start_reason_t board_fault_start(od_start_reason_t reason) {
    uart_works = true;
    if (!record_is_whole()) {
        return reason;
    }
    return (record.words[KIND] & 0xFFu) == (uint32_t)OD_FAULT_WATCHDOG ? OD_START_WATCHDOG
                                                                       : OD_START_FAULT;
}

void board_fault_announce(od_start_reason_t reason) {
    if (!record_is_whole()) {
        if (reason != OD_START_WATCHDOG && reason != OD_START_BROWN_OUT) {
            return;
        }
        for (uint32_t i = 0; i < WORDS; i++) {
            record.words[i] = 0;
        }
        record.words[KIND] =
            (uint32_t)(reason == OD_START_WATCHDOG ? OD_FAULT_WATCHDOG : OD_FAULT_BROWN_OUT);
    }
    record.words[KIND] |= FLAG_AGAIN;
    send_record();
    record.magic = 0;
}

/* libgcc's division by zero, where the CPU has no instruction for that division. */
void __aeabi_idiv0(void);
void __aeabi_ldiv0(void);
void __aeabi_idiv0(void) { __builtin_trap(); }
void __aeabi_ldiv0(void) { __builtin_trap(); }
