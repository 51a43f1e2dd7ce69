/* The firmware of every board: bytes from the UART into the session, for ever. */
#include <stddef.h>
#include <string.h>

#include "board.h"
#include "image_header.h"
#include "ondevice/model.h"
#include "ondevice/session.h"
#include "ondevice/start_count.h"

/* One entry an operator; a model with more has no profile. */
#define PROFILE_ENTRIES 512
#define READ_BYTES 64

/* Longer than any request takes; what a watchdog of 12 bits at 32 kHz can count (STM32: 32.7 s). */
#define WATCHDOG_MS 30000u

static od_session_t session;
static uint32_t profile[PROFILE_ENTRIES];

static void port_write(void *context, const uint8_t *bytes, uint32_t n) {
    (void)context;
    board_write(bytes, n);
}

static void port_stack_paint(void *context) {
    (void)context;
    board_stack_paint();
}

static uint32_t port_stack_high_water(void *context) {
    (void)context;
    return board_stack_high_water();
}

static void port_exit(void *context) {
    (void)context;
    board_exit(0);
}

/* The flash without what counts the starts; NULL where the board has none. */
static const od_storage_t *port_storage(void) {
    static od_storage_t storage;
    const od_storage_t *whole = board_storage();
    if (whole == NULL) {
        return NULL;
    }
    storage = od_starts_reserve(whole);
    return &storage;
}

/* What makes the nonces of this start differ from those of every other; flash is worn for it only
 * where there is a key. */
static od_start_seed_t start_seed(const od_storage_t *storage) {
    od_start_seed_t seed = {0};
    const bool counted = storage != NULL && od_image_key(&od_image) != NULL &&
                         od_starts_next(storage, &od_model, &seed.boots) == OD_OK;
    /* Of a board without entropy: its flash may be erased as a whole, but not flashed unchanged. */
    memcpy(seed.entropy, od_image.salt, sizeof seed.entropy);
    seed.fresh = board_entropy(seed.entropy, sizeof seed.entropy) || counted;
    return seed;
}

int main(void) {
    board_init();
    board_watchdog_start(WATCHDOG_MS);
    od_port_t port = {
        .write = port_write,
        .counter = board_counter_kind() == OD_COUNTER_NONE ? 0 : board_counter,
        .counter_kind = board_counter_kind(),
        .counter_resolution = board_counter_resolution(),
        .clock_hz = board_clock_hz(),
        .board = OD_BOARD_NAME,
        .receive_bytes = board_receive_bytes(),
        .stack_bytes = OD_STACK_BYTES,
        .stack_paint = port_stack_paint,
        .stack_high_water = port_stack_high_water,
        .exit = port_exit,
        .profile = profile,
        .profile_count = PROFILE_ENTRIES,
        .image_damaged = !image_is_whole(),
        .image_digest = od_image.digest,
        .key = od_image_key(&od_image),
        .sensor = board_sensor(),
        .allow_export = OD_ALLOW_EXPORT != 0,
        .start_reason = board_fault_start(board_start_reason()),
    };
    port.unique_id_bytes = board_unique_id(port.unique_id);
    port.storage = port_storage();
    port.start_seed = start_seed(port.storage);
    if (od_session_init(&session, &od_model, &port) != OD_OK) {
        board_exit(2);
        return 2;
    }
    od_session_announce(&session);
    board_fault_announce(port.start_reason);
    for (;;) {
        uint8_t bytes[READ_BYTES];
        const uint32_t n = board_read(bytes, sizeof bytes);
        if (n == 0) {
            return 0;
        }
        board_watchdog_feed();
        od_session_receive(&session, bytes, n);
        board_stack_check();
        board_watchdog_feed();
    }
}
