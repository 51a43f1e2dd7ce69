/* Entropy of a Cortex-M board: a simulated one borrows its host's; on silicon there is no driver
 * yet, so a count of starts in flash must do (authentication.h). */
#include "board.h"

#if OD_SIMULATED

#include "semihosting.h"

#define SYS_OPEN 0x01
#define SYS_CLOSE 0x02
#define SYS_READ 0x06
#define OPEN_RB 1u

bool board_entropy(uint8_t *to, uint32_t n) {
    static const char name[] = "/dev/urandom";
    const uint32_t open[3] = {(uint32_t)(uintptr_t)name, OPEN_RB, sizeof name - 1u};
    const int32_t file = semihost(SYS_OPEN, open);
    if (file < 0) {
        return false;
    }
    const uint32_t read[3] = {(uint32_t)file, (uint32_t)(uintptr_t)to, n};
    const int32_t missing = semihost(SYS_READ, read);
    (void)semihost(SYS_CLOSE, read);
    return missing == 0;
}

#else

bool board_entropy(uint8_t *to, uint32_t n) {
    (void)to;
    (void)n;
    return false;
}

#endif
