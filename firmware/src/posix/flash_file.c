/* The host board's flash file: the program's argument. */
#include "flash_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "ondevice/model.h"

#define NO_FLASH_EXIT_CODE 98

static int argument_count;
static char **arguments;
static int file;

/* main() of every board takes none; the loader hands them to constructors, too. */
__attribute__((constructor)) static void keep_arguments(int argc, char **argv) {
    argument_count = argc;
    arguments = argv;
}

bool flash_file_open(uint32_t bytes) {
    if (argument_count < 2) {
        return false;
    }
    file = open(arguments[1], O_RDWR);
    if (file < 0 || lseek(file, 0, SEEK_END) != (off_t)bytes) {
        (void)fprintf(stderr, "the flash file %s cannot be opened, or is of another board\n",
                      arguments[1]);
        exit(NO_FLASH_EXIT_CODE);
    }
    return true;
}

static bool seek(uint32_t offset) { return lseek(file, (off_t)offset, SEEK_SET) >= 0; }

int32_t flash_file_read(uint32_t offset, void *to, uint32_t n) {
    return seek(offset) && read(file, to, n) == (ssize_t)n ? OD_OK : OD_ERROR_STATE;
}

int32_t flash_file_write(uint32_t offset, const void *from, uint32_t n) {
    return seek(offset) && write(file, from, n) == (ssize_t)n ? OD_OK : OD_ERROR_STATE;
}
