/* Files of the computer that simulates the board: what simulated_flash.c keeps checkpoints in, and
 * what simulated_sensor.c reads. */
#ifndef ONDEVICE_FIRMWARE_SIMULATED_FILE_H
#define ONDEVICE_FIRMWARE_SIMULATED_FILE_H

#include <stdbool.h>
#include <stdint.h>

typedef enum { FLASH_FILE, SENSOR_FILE, SIMULATED_FILES } simulated_file_t;

/* Opens the file that the simulation was started with; false where there is none. What was written
 * is in the file when a call returns, even if the simulator is killed then. */
bool simulated_file_open(simulated_file_t file);

uint32_t simulated_file_bytes(simulated_file_t file);

/* OD_OK, or below 0. */
int32_t simulated_file_read(simulated_file_t file, uint32_t offset, void *to, uint32_t n);
int32_t simulated_file_write(simulated_file_t file, uint32_t offset, const void *from, uint32_t n);

#endif
