/* Memory-mapped registers, and those that every Cortex-M has. */
#ifndef ONDEVICE_FIRMWARE_REGISTERS_H
#define ONDEVICE_FIRMWARE_REGISTERS_H

#include <stdint.h>

#define REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))

#define SCB_VTOR REGISTER(0xE000ED08u)
#define SCB_AIRCR REGISTER(0xE000ED0Cu)
#define SCB_CCR REGISTER(0xE000ED14u)
#define SCB_SHCSR REGISTER(0xE000ED24u)
#define SCB_CFSR REGISTER(0xE000ED28u)
#define SCB_HFSR REGISTER(0xE000ED2Cu)
#define SCB_MMFAR REGISTER(0xE000ED34u)
#define SCB_BFAR REGISTER(0xE000ED38u)
#define SCB_CPACR REGISTER(0xE000ED88u)
#define MPU_TYPE REGISTER(0xE000ED90u)
#define MPU_CTRL REGISTER(0xE000ED94u)
#define MPU_RNR REGISTER(0xE000ED98u)
#define MPU_RBAR REGISTER(0xE000ED9Cu)
#define MPU_RASR REGISTER(0xE000EDA0u)
#define NVIC_ISER(n) REGISTER(0xE000E100u + 4u * (n))
#define FPU_FPCCR REGISTER(0xE000EF34u)
#define SCB_DCCMVAC REGISTER(0xE000EF68u) /* writes a line of the data cache to memory */
#define DEMCR REGISTER(0xE000EDFCu)
#define DWT_CTRL REGISTER(0xE0001000u)
#define DWT_CYCCNT REGISTER(0xE0001004u)

/* ARMv6-M (Cortex-M0, M0+) has one fault, HardFault, and no word of its cause. */
#if defined(__ARM_ARCH_6M__)
#define CORTEX_M_FAULT_STATUS 0
#else
#define CORTEX_M_FAULT_STATUS 1
#endif

/* ARMv8-M Mainline: PSPLIM and MSPLIM, below which no stack pointer goes. */
#if defined(__ARM_ARCH_8M_MAIN__) || defined(__ARM_ARCH_8_1M_MAIN__)
#define CORTEX_M_STACK_LIMIT_REGISTERS 1
#else
#define CORTEX_M_STACK_LIMIT_REGISTERS 0
#endif

#endif
