/* Requests of a simulated board to the simulator: ARM semihosting. */
#ifndef ONDEVICE_FIRMWARE_SEMIHOSTING_H
#define ONDEVICE_FIRMWARE_SEMIHOSTING_H

#include <stdint.h>

/* Returns what the operation left in r0. Only where OD_SIMULATED; else it would stop the board. */
static inline int32_t semihost(int32_t operation, const void *argument) {
    register int32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

#endif
