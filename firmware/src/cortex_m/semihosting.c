/* How a simulated board ends: ARM semihosting, SYS_WRITE0 for its last words (QEMU prints them on
 * standard error) and SYS_EXIT_EXTENDED, which carries an exit code. */
#include "board.h"

#if OD_SIMULATED

#include "semihosting.h"

#define SYS_WRITE0 0x04
#define SYS_EXIT_EXTENDED 0x20
#define APPLICATION_EXIT 0x20026u

void board_report(const char *text) { (void)semihost(SYS_WRITE0, text); }

void board_exit(int32_t code) {
    const uint32_t block[2] = {APPLICATION_EXIT, (uint32_t)code};
    (void)semihost(SYS_EXIT_EXTENDED, block);
    for (;;) {
    }
}

#else

void board_report(const char *text) { (void)text; }

void board_exit(int32_t code) { (void)code; }

#endif
