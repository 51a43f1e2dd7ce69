/* What a driver folder gives to main.c. */
#ifndef ONDEVICE_FIRMWARE_BOARD_H
#define ONDEVICE_FIRMWARE_BOARD_H

#include <stdbool.h>
#include <stdint.h>

#include "ondevice/messages.h"
#include "ondevice/port.h"

/* Clocks, UART, counter. After it the UART receives. */
void board_init(void);

/* Clock of the CPU as it runs now; 0: unknown. */
uint32_t board_clock_hz(void);

/* Wait for input; returns 1 to `capacity` bytes, or 0 where the input has ended for good. */
uint32_t board_read(uint8_t *bytes, uint32_t capacity);

/* Send all n bytes. */
void board_write(const uint8_t *bytes, uint32_t n);

/* What counter the board has; see port.h. */
uint32_t board_counter(void);
od_counter_kind_t board_counter_kind(void);
uint32_t board_counter_resolution(void);

/* Bytes of the receive ring; 0: polled, one frame at a time. */
uint32_t board_receive_bytes(void);

/* Stack figures; 0 where they are unknown. */
void board_stack_paint(void);
uint32_t board_stack_high_water(void);

/* Between requests: does not return where the stack was used to its end and no guard saw it. */
void board_stack_check(void);

/* Flash for checkpoints; NULL: none. */
const od_storage_t *board_storage(void);

/* The board's own sensor; NULL: none. A file of yours that defines it takes the place of the one in
 * simulated_sensor.c. */
const od_sensor_t *board_sensor(void);

/* Why the board started, and the chip's unique id (at most 16 bytes; returns how many). */
od_start_reason_t board_start_reason(void);
uint32_t board_unique_id(uint8_t *id);

/* Fill n bytes that differ at every start and that nobody can predict; returns false where the
 * board has no source of them. */
bool board_entropy(uint8_t *to, uint32_t n);

/* The watchdog restarts the board when it is not fed for `timeout_ms`; where the board has none,
 * both do nothing. Waiting loops of a driver feed it. */
void board_watchdog_start(uint32_t timeout_ms);
void board_watchdog_feed(void);

/* From here on faults are sent over the UART. Returns why the board started: `reason`, or what the
 * record of a fault says. After READY, announce it: a fault, a watchdog or a brown-out is told. */
od_start_reason_t board_fault_start(od_start_reason_t reason);
void board_fault_announce(od_start_reason_t reason);

/* Record, report and restart, without an exception. */
void board_fault(od_fault_kind_t kind);

/* Called on a non-maskable interrupt, in its handler. HANDLED where the driver expected it and saw
 * to it (flash that cannot correct what was read): the program goes on. */
#define BOARD_NMI_UNKNOWN 0
#define BOARD_NMI_HANDLED 1
#define BOARD_NMI_WATCHDOG 2 /* it has not been fed and is about to restart the board */
int board_nmi(void);

/* Last words of a simulated board, on QEMU's standard error. */
void board_report(const char *text);

/* End of a simulated board; on silicon it returns. */
void board_exit(int32_t code);

#endif
