/* How a simulated board ends: ARM semihosting, SYS_WRITE0 for its last words (QEMU prints them on
 * standard error) and SYS_EXIT_EXTENDED, which carries an exit code. */
#include "board.h"

#if OD_SIMULATED

#define SYS_WRITE0 0x04
#define SYS_EXIT_EXTENDED 0x20
#define APPLICATION_EXIT 0x20026u

static void semihost(int operation, const void *argument) {
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

void board_report(const char *text) { semihost(SYS_WRITE0, text); }

void board_exit(int32_t code) {
    const uint32_t block[2] = {APPLICATION_EXIT, (uint32_t)code};
    semihost(SYS_EXIT_EXTENDED, block);
    for (;;) {
    }
}

#else

void board_report(const char *text) { (void)text; }

void board_exit(int32_t code) { (void)code; }

#endif
