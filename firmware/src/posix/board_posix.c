/* The host board: standard input and output are the UART. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "board.h"

void board_init(void) {}

uint32_t board_clock_hz(void) { return 0; }

uint32_t board_read(uint8_t *bytes, uint32_t capacity) {
    const ssize_t n = read(STDIN_FILENO, bytes, capacity);
    return n > 0 ? (uint32_t)n : 0u;
}

void board_write(const uint8_t *bytes, uint32_t n) {
    while (n > 0) {
        const ssize_t written = write(STDOUT_FILENO, bytes, n);
        if (written <= 0) {
            exit(3);
        }
        bytes += written;
        n -= (uint32_t)written;
    }
}

uint32_t board_counter(void) { return 0; }
od_counter_kind_t board_counter_kind(void) { return OD_COUNTER_NONE; }
uint32_t board_counter_resolution(void) { return 1; }

/* The pipe holds at least this much. */
uint32_t board_receive_bytes(void) { return 4096; }

void board_stack_paint(void) {}
uint32_t board_stack_high_water(void) { return 0; }
void board_stack_check(void) {}

void board_report(const char *text) { (void)fputs(text, stderr); }

void board_exit(int32_t code) { exit(code); }

od_start_reason_t board_start_reason(void) { return OD_START_UNKNOWN; }

uint32_t board_unique_id(uint8_t *id) {
    (void)id;
    return 0;
}

bool board_entropy(uint8_t *to, uint32_t n) {
    const int file = open("/dev/urandom", O_RDONLY);
    if (file < 0) {
        return false;
    }
    const ssize_t got = read(file, to, n);
    (void)close(file);
    return got == (ssize_t)n;
}

void board_watchdog_start(uint32_t timeout_ms) { (void)timeout_ms; }
void board_watchdog_feed(void) {}

/* The operating system tells the host how the process ended. */
od_start_reason_t board_fault_start(od_start_reason_t reason) { return reason; }
void board_fault_announce(od_start_reason_t reason) { (void)reason; }
