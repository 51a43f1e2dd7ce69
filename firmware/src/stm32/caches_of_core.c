/* The Cortex-M7's caches (DDI0489F, Armv7-M B2). There is no DMA, so nothing else reads memory
 * behind their back; except the flash controller: the banks of checkpoints are device memory for
 * the core, neither cached nor reordered. */
#include "chip.h"

#if defined(CORE_HAS_CACHES)

#include "stm32/family.h"
#include "stm32/interrupts.h"

#define SCB_CCR REGISTER(0xE000ED14u)
#define SCB_CCR_DC (1u << 16)
#define SCB_CCR_IC (1u << 17)
#define SCB_CCSIDR REGISTER(0xE000ED80u)
#define SCB_CSSELR REGISTER(0xE000ED84u)
#define SCB_ICIALLU REGISTER(0xE000EF50u)
#define SCB_DCISW REGISTER(0xE000EF60u)

#define MPU_CTRL REGISTER(0xE000ED94u)
#define MPU_CTRL_ENABLE (1u << 0)
#define MPU_CTRL_PRIVDEFENA (1u << 2)
#define MPU_RNR REGISTER(0xE000ED98u)
#define MPU_RBAR REGISTER(0xE000ED9Cu)
#define MPU_RASR REGISTER(0xE000EDA0u)
#define MPU_RASR_DEVICE ((1u << 28) | (3u << 24) | (1u << 16)) /* no code, all access, shared */
#define MPU_RASR_SIZE(log2_bytes) (((log2_bytes) - 1u) << 1)
#define MPU_RASR_ENABLE (1u << 0)
#define MPU_REGION 6u /* start-up's stack guard has a lower one */

static void keep_banks_uncached(void) {
#if OD_STORAGE_BANK_BYTES
    uint32_t log2_bytes = 0;
    while ((1u << log2_bytes) < 2u * OD_STORAGE_BANK_BYTES) {
        log2_bytes++;
    }
    MPU_RNR = MPU_REGION;
    MPU_RBAR = OD_STORAGE_ORIGIN;
    MPU_RASR = MPU_RASR_DEVICE | MPU_RASR_SIZE(log2_bytes) | MPU_RASR_ENABLE;
    MPU_CTRL |= MPU_CTRL_PRIVDEFENA | MPU_CTRL_ENABLE;
    barrier();
#endif
}

/* Lines are 32 bytes; a reset leaves any content. */
static void invalidate_data(void) {
    SCB_CSSELR = 0u;
    barrier();
    const uint32_t geometry = SCB_CCSIDR;
    const uint32_t sets = (geometry >> 13) & 0x7FFFu;
    const uint32_t ways = (geometry >> 3) & 0x3FFu;
    for (uint32_t set = 0; set <= sets; set++) {
        for (uint32_t way = 0; way <= ways; way++) {
            SCB_DCISW = (way << 30) | (set << 5); /* 4 ways */
        }
    }
    barrier();
}

void caches_on(void) {
    if ((SCB_CCR & SCB_CCR_DC) != 0u) {
        return;
    }
    keep_banks_uncached();
    SCB_ICIALLU = 0u;
    barrier();
    SCB_CCR |= SCB_CCR_IC;
    invalidate_data();
    SCB_CCR |= SCB_CCR_DC;
    barrier();
}

void caches_off(void) {} /* the banks are in none */

#endif
