/* Two stacks: the program's (PSP), first of the RAM, and that of handlers (MSP). */
#ifndef ONDEVICE_FIRMWARE_STACK_H
#define ONDEVICE_FIRMWARE_STACK_H

#include <stdbool.h>
#include <stdint.h>

/* Of the linker script. */
extern uint32_t od_stack_limit[], od_stack_top[];
extern uint32_t od_handler_stack_limit[], od_handler_stack_top[];

/* Make the CPU refuse to go below the stack's end. */
void stack_guard_start(void);

/* True for an address where a stack that overflowed would write. */
bool stack_is_below(uint32_t address);

#endif
