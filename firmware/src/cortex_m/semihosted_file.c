/* A simulated board's files, by semihosting. QEMU is told their names on the command line, a line
 * each, as "flash:NAME" and "sensor:NAME"; without such a line there is none. */
#include <string.h>

#include "board.h"
#include "ondevice/model.h"
#include "semihosting.h"
#include "simulated_file.h"

#if OD_STORAGE_IN_FILE

#define SYS_OPEN 0x01
#define SYS_WRITE 0x05
#define SYS_READ 0x06
#define SYS_SEEK 0x0A
#define SYS_FLEN 0x0C
#define SYS_GET_CMDLINE 0x15

#define COMMAND_LINE_BYTES 1024u /* tools/ondevice/simulated_files.py allows shorter names only */
#define READ_BINARY 1u
#define READ_AND_WRITE_BINARY 3u
#define NO_FILE_EXIT_CODE 98

static const char *const marks[SIMULATED_FILES] = {
    [FLASH_FILE] = "flash:", [SENSOR_FILE] = "sensor:"};
static const uint32_t modes[SIMULATED_FILES] = {
    [FLASH_FILE] = READ_AND_WRITE_BINARY, [SENSOR_FILE] = READ_BINARY};
static int32_t handles[SIMULATED_FILES];

static uint32_t word(const void *pointer) { return (uint32_t)(uintptr_t)pointer; }

/* The rest of the line that begins with the mark; NULL where there is none. */
static char *name_behind(char *line, const char *mark) {
    while (line != NULL) {
        char *end = strchr(line, '\n');
        if (strncmp(line, mark, strlen(mark)) == 0) {
            if (end != NULL) {
                *end = '\0';
            }
            return line + strlen(mark);
        }
        line = end != NULL ? end + 1 : NULL;
    }
    return NULL;
}

bool simulated_file_open(simulated_file_t file) {
    char line[COMMAND_LINE_BYTES] = {0};
    const uint32_t asked[2] = {word(line), sizeof line};
    if (semihost(SYS_GET_CMDLINE, asked) != 0) {
        return false;
    }
    const char *name = name_behind(line, marks[file]);
    if (name == NULL) {
        return false;
    }
    const uint32_t open[3] = {word(name), modes[file], (uint32_t)strlen(name)};
    handles[file] = semihost(SYS_OPEN, open);
    if (handles[file] < 0) {
        board_report("\nthe file of a simulated board cannot be opened\n");
        board_exit(NO_FILE_EXIT_CODE);
    }
    return true;
}

uint32_t simulated_file_bytes(simulated_file_t file) {
    const uint32_t length[1] = {(uint32_t)handles[file]};
    return (uint32_t)semihost(SYS_FLEN, length);
}

static int32_t transfer(int32_t operation, simulated_file_t file, uint32_t offset,
                        const void *memory, uint32_t n) {
    const uint32_t seek[2] = {(uint32_t)handles[file], offset};
    const uint32_t block[3] = {(uint32_t)handles[file], word(memory), n};
    /* Both return how many bytes were left over. */
    return semihost(SYS_SEEK, seek) == 0 && semihost(operation, block) == 0 ? OD_OK
                                                                            : OD_ERROR_STATE;
}

int32_t simulated_file_read(simulated_file_t file, uint32_t offset, void *to, uint32_t n) {
    return n == 0 ? OD_OK : transfer(SYS_READ, file, offset, to, n);
}

int32_t simulated_file_write(simulated_file_t file, uint32_t offset, const void *from, uint32_t n) {
    return transfer(SYS_WRITE, file, offset, from, n);
}

#else
typedef int od_no_file_t; /* ISO C wants something in every file */
#endif
