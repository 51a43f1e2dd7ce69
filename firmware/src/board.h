/* What a driver folder gives to main.c. */
#ifndef ONDEVICE_FIRMWARE_BOARD_H
#define ONDEVICE_FIRMWARE_BOARD_H

#include <stdint.h>

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

/* Flash for checkpoints; NULL: none. */
const od_storage_t *board_storage(void);

/* Why the board started, and the chip's unique id (at most 16 bytes; returns how many). */
od_start_reason_t board_start_reason(void);
uint32_t board_unique_id(uint8_t *id);

/* The watchdog restarts the board when it is not fed for `timeout_ms`; where the board has none,
 * both do nothing. Waiting loops of a driver feed it. */
void board_watchdog_start(uint32_t timeout_ms);
void board_watchdog_feed(void);

/* Called on a non-maskable interrupt; 1 where the driver expected it and saw to it (flash that
 * cannot correct what was read), 0 where nobody knows why it came. */
int board_nmi(void);

/* Last words of a Cortex-M board, where the host quotes them: QEMU's standard error; on silicon the
 * UART, between frames. */
void board_report(const char *text);

/* End of a simulated board; on silicon it returns. */
void board_exit(int32_t code);

#endif
