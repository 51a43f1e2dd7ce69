/* Why the chip started: the reset flags, read once and cleared for the next start. */
#include "board.h"
#include "chip.h"

#if OD_SIMULATED

od_start_reason_t board_start_reason(void) { return OD_START_UNKNOWN; }

#else

/* A reset inside the chip pulls the pin, too, and a power-on counts as a brown-out: so the more
 * special reason first. Where power-on and brown-out share a flag (L4, G0, U5), RESET_BROWN_OUT is
 * 0 and both are OD_START_POWER. */
static od_start_reason_t reason_of(uint32_t flags) {
    if (flags & RESET_WATCHDOG) {
        return OD_START_WATCHDOG;
    }
    if (flags & RESET_SOFTWARE) {
        return OD_START_SOFTWARE;
    }
    if (flags & RESET_POWER) {
        return OD_START_POWER;
    }
    if (flags & RESET_BROWN_OUT) {
        return OD_START_BROWN_OUT;
    }
    return (flags & RESET_PIN) != 0u ? OD_START_PIN : OD_START_UNKNOWN;
}

od_start_reason_t board_start_reason(void) {
    static int known;
    static od_start_reason_t reason;
    if (!known) {
        reason = reason_of(RESET_FLAGS);
        RESET_FLAGS |= RESET_CLEAR;
        known = 1;
    }
    return reason;
}

#endif
