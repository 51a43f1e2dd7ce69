/* The flash controller of the H7: two banks of 128 KB sectors, units of 32 bytes with ECC (RM0433
 * 4). Checkpoints lie in the second bank, so the first one runs on while it is written.
 *
 * Reading a unit torn by a cut of power ends in a bus error. With BFHFNMIGN and the faults masked
 * the load returns anything instead, and the flash says that it could not correct it. HFNMIENA
 * keeps the MPU's regions, which leave the banks out of the cache, while the faults are masked. */
#include "chip.h"
#include "ondevice/model.h"
#include "stm32/family.h"
#include "stm32/flash_operation.h"
#include "stm32/interrupts.h"

#define IDLE_TURNS 400000000u /* a sector takes 4 s at most */
#define SECTORS_OF_BANK 8u
#define SCB_CCR REGISTER(0xE000ED14u)
#define SCB_CCR_BFHFNMIGN (1u << 8)
#define SCB_CFSR_BUS (0xFFu << 8)
#define MPU_CTRL REGISTER(0xE000ED94u)
#define MPU_CTRL_HFNMIENA (1u << 1)

int32_t flash_erase(uint32_t number) {
    const uint32_t sector = number % SECTORS_OF_BANK;
    const uint32_t control =
        FLASH_CR2_PSIZE2_64 | FLASH_CR2_SER2 | ((sector << 8) & FLASH_CR2_SNB2);
    if (number < SECTORS_OF_BANK || !flash_begin(control, IDLE_TURNS)) {
        return FLASH_FAILED_BUSY;
    }
    FLASH_CONTROL = control | FLASH_CR2_START2;
    barrier();
    return flash_end(IDLE_TURNS);
}

int32_t flash_program(uint32_t address, const uint32_t *words) {
    if (!flash_begin(FLASH_CR2_PSIZE2_64 | FLASH_CR2_PG2, IDLE_TURNS)) {
        return FLASH_FAILED_BUSY;
    }
    flash_write_unit(address, words);
    return flash_end(IDLE_TURNS);
}

void flash_read_begin(void) {
    __asm__ volatile("cpsid f" ::: "memory");
    FLASH_CCR2 = FLASH_SR2_DBECCERR2 | FLASH_SR2_SNECCERR2;
    MPU_CTRL |= MPU_CTRL_HFNMIENA;
    SCB_CCR |= SCB_CCR_BFHFNMIGN;
    barrier();
}

int32_t flash_read_end(void) {
    barrier();
    const int failed = (FLASH_SR2 & FLASH_SR2_DBECCERR2) != 0u || (SCB_CFSR & SCB_CFSR_BUS) != 0u;
    SCB_CFSR = SCB_CFSR_BUS; /* cleared by writing 1 */
    FLASH_CCR2 = FLASH_SR2_DBECCERR2 | FLASH_SR2_SNECCERR2;
    SCB_CCR &= ~SCB_CCR_BFHFNMIGN;
    MPU_CTRL &= ~MPU_CTRL_HFNMIENA;
    barrier();
    __asm__ volatile("cpsie f" ::: "memory");
    return failed ? FLASH_FAILED_UNREADABLE : OD_OK;
}
