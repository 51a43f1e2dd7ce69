/* The supply's voltage, by the programmable voltage detector: a flash that is written while it
 * falls keeps what cannot be read. The brown-out level is an option byte: the user's, left alone.
 */
#include "chip.h"
#include "stm32/parts.h"
#include "stm32/wait.h"

#if !OD_SIMULATED

#define STEADY_READS 1000u

void supply_init(void) {
#if defined(POWER_CLOCKS)
    POWER_CLOCKS |= POWER_CLOCK;
    (void)POWER_CLOCKS;
#endif
    SUPPLY_CONTROL = (SUPPLY_CONTROL & ~SUPPLY_LEVELS) | SUPPLY_LEVEL;
    SUPPLY_CONTROL |= SUPPLY_ENABLE;
}

int supply_is_good(void) {
    for (uint32_t reads = 0; reads < STEADY_READS; reads++) {
        if ((SUPPLY_STATUS & SUPPLY_LOW) != 0u) {
            if (!wait_until(&SUPPLY_STATUS, SUPPLY_LOW, 0u, WAIT_TURNS)) {
                return 0;
            }
            reads = 0;
        }
    }
    return 1;
}

#endif
