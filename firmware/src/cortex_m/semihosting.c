/* How a simulated board ends: ARM semihosting SYS_EXIT_EXTENDED, which carries an exit code. */
#include "board.h"

#define SYS_EXIT_EXTENDED 0x20
#define APPLICATION_EXIT 0x20026u

void board_exit(int32_t code) {
#if OD_SIMULATED
    uint32_t block[2] = {APPLICATION_EXIT, (uint32_t)code};
    register uint32_t r0 __asm__("r0") = SYS_EXIT_EXTENDED;
    register uint32_t *r1 __asm__("r1") = block;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    for (;;) {
    }
#else
    (void)code;
#endif
}
