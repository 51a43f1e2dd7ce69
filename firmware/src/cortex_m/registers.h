/* Memory-mapped registers, and those that every Cortex-M has. */
#ifndef ONDEVICE_FIRMWARE_REGISTERS_H
#define ONDEVICE_FIRMWARE_REGISTERS_H

#include <stdint.h>

#define REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))

#define SCB_VTOR REGISTER(0xE000ED08u)
#define SCB_CFSR REGISTER(0xE000ED28u)
#define SCB_CPACR REGISTER(0xE000ED88u)
#define NVIC_ISER(n) REGISTER(0xE000E100u + 4u * (n))
#define DEMCR REGISTER(0xE000EDFCu)
#define DWT_CTRL REGISTER(0xE0001000u)
#define DWT_CYCCNT REGISTER(0xE0001004u)

#endif
