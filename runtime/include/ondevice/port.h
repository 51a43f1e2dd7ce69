/* What the firmware of a board lends to the session: a way out, a clock, and its memory figures.
 *
 * Bytes in are pushed by the firmware into od_session_receive(); nothing here blocks on input.
 */
#ifndef ONDEVICE_PORT_H
#define ONDEVICE_PORT_H

#include <stdbool.h>
#include <stdint.h>

#include "ondevice/authentication.h"
#include "ondevice/image.h"
#include "ondevice/sensor.h"
#include "ondevice/storage.h"

typedef enum {
    OD_COUNTER_NONE = 0,
    OD_COUNTER_INSTRUCTIONS = 1, /* retired instructions: simulators */
    OD_COUNTER_CYCLES = 2,       /* of clock_hz: DWT on silicon */
    OD_COUNTER_NANOSECONDS = 3   /* wall time: the host board */
} od_counter_kind_t;

typedef enum {
    OD_START_UNKNOWN = 0,
    OD_START_POWER = 1,
    OD_START_PIN = 2, /* the reset button, or the debugger */
    OD_START_SOFTWARE = 3,
    OD_START_WATCHDOG = 4,
    OD_START_BROWN_OUT = 5,
    OD_START_FAULT = 6 /* restarted by its own fault handler */
} od_start_reason_t;

typedef struct {
    void *context; /* handed back to the functions below */

    /* Send all n bytes (one whole frame a call), waiting for room where it must. */
    void (*write)(void *context, const uint8_t *bytes, uint32_t n);
    /* Monotonic, wraps at 2^32; NULL where counter_kind is OD_COUNTER_NONE. */
    uint32_t (*counter)(void);
    od_counter_kind_t counter_kind;
    uint32_t counter_resolution; /* smallest step of counter(), in its own unit; 1 is the best */
    uint32_t clock_hz;           /* 0: unknown */
    const char *board;           /* as in boards/NAME.ini */

    /* Bytes the driver holds while the session is busy (its receive ring). The host keeps no more
     * than this on the way unanswered, except for one frame, which is always allowed. */
    uint32_t receive_bytes;

    uint32_t stack_bytes; /* the reserve checked at link time; 0: unknown */
    /* Refill the unused stack with the pattern; NULL: only the paint of start-up is there. */
    void (*stack_paint)(void *context);
    /* Bytes of stack used at most since it was painted; NULL: not measured. */
    uint32_t (*stack_high_water)(void *context);

    /* A simulated board ends here after BYE; NULL: the board waits for the next host. */
    void (*exit)(void *context);

    /* Memory for the ticks of each operator; NULL or too small for the model: no profile. */
    uint32_t *profile;
    uint32_t profile_count; /* entries */

    /* OD_KEY_BYTES that the host has, too; NULL: sessions are not authenticated. */
    const uint8_t *key;
    od_start_seed_t start_seed; /* needed where there is a key */

    bool image_damaged; /* the firmware is not what was built: nothing is executed */

    /* Whether samples, labels, accumulated gradients and optimiser state may be read out. */
    bool allow_export;

    /* Where checkpoints are kept; NULL: this board keeps none. */
    const od_storage_t *storage;

    /* The board's own sensor; NULL: it has none. */
    const od_sensor_t *sensor;

    od_start_reason_t start_reason;
    uint8_t unique_id[16]; /* of the chip; unique_id_bytes of it, 0: none */
    uint32_t unique_id_bytes;
    const uint8_t *image_digest; /* OD_IMAGE_DIGEST_BYTES of the firmware; NULL: unknown */
} od_port_t;

#endif
