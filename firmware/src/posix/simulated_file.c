/* The host board's files: the program's arguments, of which an empty one is none. */
#include "simulated_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "ondevice/model.h"

#define NO_FILE_EXIT_CODE 98

static const int modes[SIMULATED_FILES] = {[FLASH_FILE] = O_RDWR, [SENSOR_FILE] = O_RDONLY};
static int argument_count;
static char **arguments;
static int files[SIMULATED_FILES];

/* main() of every board takes none; the loader hands them to constructors, too. */
__attribute__((constructor)) static void keep_arguments(int argc, char **argv) {
    argument_count = argc;
    arguments = argv;
}

bool simulated_file_open(simulated_file_t file) {
    const int place = 1 + (int)file;
    if (place >= argument_count || arguments[place][0] == '\0') {
        return false;
    }
    files[file] = open(arguments[place], modes[file]);
    if (files[file] < 0) {
        (void)fprintf(stderr, "the file %s cannot be opened\n", arguments[place]);
        exit(NO_FILE_EXIT_CODE);
    }
    return true;
}

uint32_t simulated_file_bytes(simulated_file_t file) {
    return (uint32_t)lseek(files[file], 0, SEEK_END);
}

static bool seek(simulated_file_t file, uint32_t offset) {
    return lseek(files[file], (off_t)offset, SEEK_SET) >= 0;
}

int32_t simulated_file_read(simulated_file_t file, uint32_t offset, void *to, uint32_t n) {
    return seek(file, offset) && read(files[file], to, n) == (ssize_t)n ? OD_OK : OD_ERROR_STATE;
}

int32_t simulated_file_write(simulated_file_t file, uint32_t offset, const void *from, uint32_t n) {
    return seek(file, offset) && write(files[file], from, n) == (ssize_t)n ? OD_OK : OD_ERROR_STATE;
}
