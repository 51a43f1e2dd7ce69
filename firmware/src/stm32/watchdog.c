/* The independent watchdog: its own oscillator, and no way to stop it again. */
#include "board.h"
#include "chip.h"
#include "stm32/wait.h"

#if OD_SIMULATED

void board_watchdog_start(uint32_t timeout_ms) { (void)timeout_ms; }
void board_watchdog_feed(void) {}

#else

#define IWDG_KR REGISTER(OD_WATCHDOG_ORIGIN)
#define IWDG_PR REGISTER(OD_WATCHDOG_ORIGIN + 0x04u)
#define IWDG_RLR REGISTER(OD_WATCHDOG_ORIGIN + 0x08u)
#define IWDG_SR REGISTER(OD_WATCHDOG_ORIGIN + 0x0Cu)
#define IWDG_SR_PVU (1u << 0)
#define IWDG_SR_RVU (1u << 1)
#define KEY_START 0xCCCCu
#define KEY_UNLOCK 0x5555u
#define KEY_FEED 0xAAAAu
#define PRESCALER_MAX 6u /* divides by 4 << 6 = 256 */
#define RELOAD_MAX 0xFFFu

/* `timeout_ms` by the oscillator's nominal OD_WATCHDOG_HZ; what is more than 12 bits hold at the
 * slowest (32.7 s at 32 kHz) is cut to that. */
void board_watchdog_start(uint32_t timeout_ms) {
    const uint64_t ticks = (uint64_t)timeout_ms * OD_WATCHDOG_HZ / 1000u;
    uint32_t prescaler = 0;
    while (prescaler < PRESCALER_MAX && (ticks >> (2u + prescaler)) > RELOAD_MAX) {
        prescaler++;
    }
    const uint64_t reload = ticks >> (2u + prescaler);
    IWDG_KR = KEY_START;
    IWDG_KR = KEY_UNLOCK;
    IWDG_PR = prescaler;
    IWDG_RLR = reload > RELOAD_MAX ? RELOAD_MAX : (uint32_t)reload;
    (void)wait_until(&IWDG_SR, IWDG_SR_PVU | IWDG_SR_RVU, 0u, WAIT_TURNS);
    IWDG_KR = KEY_FEED;
}

void board_watchdog_feed(void) { IWDG_KR = KEY_FEED; }

#endif
