/* A file of the computer that simulates the board: what simulated_flash.c keeps checkpoints in. */
#ifndef ONDEVICE_FIRMWARE_FLASH_FILE_H
#define ONDEVICE_FIRMWARE_FLASH_FILE_H

#include <stdbool.h>
#include <stdint.h>

/* Opens the file that the simulation was started with; false where there is none, or it is not of
 * this size. What was written is in the file when a call returns, even if the simulator is killed
 * then. */
bool flash_file_open(uint32_t bytes);

/* OD_OK, or below 0. */
int32_t flash_file_read(uint32_t offset, void *to, uint32_t n);
int32_t flash_file_write(uint32_t offset, const void *from, uint32_t n);

#endif
