/* What the folder of a chip family gives to the drivers that all STM32 share. Its chip.h holds the
 * registers and, under the names below "for the shared drivers", which of them serve what. */
#ifndef ONDEVICE_FIRMWARE_FAMILY_H
#define ONDEVICE_FIRMWARE_FAMILY_H

#include <stdint.h>

/* Raise the clock to OD_CLOCK_HZ, or stay with the internal oscillator where something does not
 * start. Returns the CPU's clock as it runs now, in Hz. */
uint32_t clock_init(void);

/* What the UART's baud rate is divided from, in Hz. */
uint32_t clock_uart_hz(void);

/* Caches of the flash or of the core: on at start, off and empty while the flash changes. */
void caches_on(void);
void caches_off(void);

/* How the flash failed; its own error flags are returned negated: OD_FAIL_STORAGE carries them. */
#define FLASH_FAILED_BUSY (-1)       /* it does not end what it began */
#define FLASH_FAILED_PLACE (-2)      /* outside the banks, or not whole units */
#define FLASH_FAILED_SUPPLY (-4)     /* the voltage stays too low to write */
#define FLASH_FAILED_UNREADABLE (-8) /* torn by a cut of power: erase it */

/* Erase a sector, counted from the start of the flash, or program one unit of
 * OD_STORAGE_UNIT_BYTES. Unlocked and locked again inside. OD_OK, or how it failed. */
int32_t flash_erase(uint32_t number);
int32_t flash_program(uint32_t address, const uint32_t *words);

/* Around a read of at most OD_STORAGE_UNIT_BYTES_MAX: what the flash cannot correct is no crash but
 * an error of flash_read_end(). */
void flash_read_begin(void);
int32_t flash_read_end(void);

#endif
