/* A few instructions that no interrupt may part. */
#ifndef ONDEVICE_FIRMWARE_INTERRUPTS_H
#define ONDEVICE_FIRMWARE_INTERRUPTS_H

#include <stdint.h>

/* Returns what interrupts_restore() takes. */
static inline uint32_t interrupts_off(void) {
    uint32_t mask;
    __asm__ volatile("mrs %0, primask\n cpsid i" : "=r"(mask)::"memory");
    return mask;
}

static inline void interrupts_restore(uint32_t mask) {
    __asm__ volatile("msr primask, %0" ::"r"(mask) : "memory");
}

static inline void barrier(void) { __asm__ volatile("dsb\n isb" ::: "memory"); }

#endif
