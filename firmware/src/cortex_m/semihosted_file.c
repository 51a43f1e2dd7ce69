/* A simulated board's flash file, by semihosting. QEMU is told its name on the command line, as
 * "flash:NAME"; without that there is none. */
#include "flash_file.h"

#include <string.h>

#include "board.h"
#include "ondevice/model.h"
#include "semihosting.h"

#if OD_STORAGE_IN_FILE && OD_STORAGE_BANK_BYTES

#define SYS_OPEN 0x01
#define SYS_WRITE 0x05
#define SYS_READ 0x06
#define SYS_SEEK 0x0A
#define SYS_FLEN 0x0C
#define SYS_GET_CMDLINE 0x15

#define MARK "flash:"
#define MARK_BYTES (sizeof MARK - 1u)
#define COMMAND_LINE_BYTES 512u /* tools/ondevice/flash_file.py allows shorter names only */
#define READ_AND_WRITE_BINARY 3u
#define NO_FLASH_EXIT_CODE 98

static int32_t handle;

static uint32_t word(const void *pointer) { return (uint32_t)(uintptr_t)pointer; }

bool flash_file_open(uint32_t bytes) {
    char line[COMMAND_LINE_BYTES] = {0};
    const uint32_t asked[2] = {word(line), sizeof line};
    if (semihost(SYS_GET_CMDLINE, asked) != 0 || strncmp(line, MARK, MARK_BYTES) != 0) {
        return false;
    }
    const char *name = line + MARK_BYTES;
    const uint32_t open[3] = {word(name), READ_AND_WRITE_BINARY, (uint32_t)strlen(name)};
    handle = semihost(SYS_OPEN, open);
    const uint32_t length[1] = {(uint32_t)handle};
    if (handle < 0 || semihost(SYS_FLEN, length) != (int32_t)bytes) {
        board_report("\nthe flash file cannot be opened, or is of another board\n");
        board_exit(NO_FLASH_EXIT_CODE);
    }
    return true;
}

static int32_t transfer(int32_t operation, uint32_t offset, const void *memory, uint32_t n) {
    const uint32_t seek[2] = {(uint32_t)handle, offset};
    const uint32_t block[3] = {(uint32_t)handle, word(memory), n};
    /* Both return how many bytes were left over. */
    return semihost(SYS_SEEK, seek) == 0 && semihost(operation, block) == 0 ? OD_OK
                                                                            : OD_ERROR_STATE;
}

int32_t flash_file_read(uint32_t offset, void *to, uint32_t n) {
    return n == 0 ? OD_OK : transfer(SYS_READ, offset, to, n);
}

int32_t flash_file_write(uint32_t offset, const void *from, uint32_t n) {
    return transfer(SYS_WRITE, offset, from, n);
}

#else
typedef int od_no_file_t; /* ISO C wants something in every file */
#endif
