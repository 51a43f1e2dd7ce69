/* Counts the instructions (QEMU) or cycles (silicon) of one call of one kernel, and says so on the
 * UART: "measured COUNT CHECKSUM", where the checksum covers all that the kernel could write.
 *
 * QEMU runs it once and ends. A board measures each time that it receives a byte; that half has
 * been built but not run on a board yet.
 */
#include "board.h"
#include "measured.h"
#include "ondevice/crc32.h"

#define NOT_OPTIMISED __attribute__((noipa))

NOT_OPTIMISED static void nothing(float rate) { (void)rate; }

/* What it counts for `nothing` is the price of counting. */
NOT_OPTIMISED static uint32_t counted(void (*call)(float)) {
    __asm__ volatile("cpsid i" ::: "memory");
    const uint32_t start = board_counter();
    __asm__ volatile("" ::: "memory");
    call(od_measured_rate);
    __asm__ volatile("" ::: "memory");
    const uint32_t stop = board_counter();
    __asm__ volatile("cpsie i" ::: "memory");
    return stop - start;
}

static void reset(void) {
    for (uint32_t i = 0; i < od_arena_bytes / 4u; i++) {
        od_arena[i] = od_arena_first[i];
    }
    for (uint32_t i = 0; i < od_scale_count; i++) {
        od_scales[i] = od_scales_first[i];
    }
}

static void write_text(const char *text) {
    uint32_t n = 0;
    while (text[n] != 0) {
        n++;
    }
    board_write((const uint8_t *)text, n);
}

static void write_number(uint32_t value) {
    char digits[12];
    uint32_t at = sizeof digits - 1u;
    digits[at] = 0;
    do {
        digits[--at] = (char)('0' + value % 10u);
        value /= 10u;
    } while (value != 0u);
    write_text(&digits[at]);
}

static void measure(void) {
    reset();
    const uint32_t overhead = counted(nothing);
    const uint32_t count = counted(od_measured) - overhead;
    uint32_t checksum = od_crc32(0, (const uint8_t *)od_arena, od_arena_bytes);
    checksum = od_crc32(checksum, (const uint8_t *)od_scales,
                        od_scale_count * (uint32_t)sizeof(od_grad_scale_t));
    write_text("measured ");
    write_number(count);
    write_text(" ");
    write_number(checksum);
    write_text("\n");
}

int main(void) {
    board_init();
#if OD_SIMULATED
    measure();
#else
    for (;;) {
        uint8_t byte;
        (void)board_read(&byte, 1);
        measure();
    }
#endif
    return 0;
}
