/* The session and the fake model as a process: standard input and output are the UART. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fake_port.h"
#include "nor_flash.h"
#include "ondevice/session.h"

static void write_out(void *context, const uint8_t *bytes, uint32_t n) {
    (void)context;
    while (n > 0) {
        const ssize_t written = write(STDOUT_FILENO, bytes, n);
        if (written <= 0) {
            exit(3);
        }
        bytes += written;
        n -= (uint32_t)written;
    }
}

static void quit(void *context) {
    (void)context;
    exit(0);
}

int main(int argc, char **argv) {
    static od_session_t session;
    static od_parameter_t parameters[2];
    od_model_t model = od_model;
    od_port_t port = fake_port(write_out, quit);
    static nor_flash_t flash;
    nor_init(&flash, 16384, 8);
    const od_storage_t storage = nor_storage(&flash);
    if (argc > 1 && argv[1][0] == 'f') {
        port.storage = &storage; /* which forgets when the process ends */
    }
    if (argc > 1 && argv[1][0] == 's') {
        port.receive_bytes = 0; /* one frame at a time */
    }
    if (argc > 1 && argv[1][0] == 'p') { /* private, and its table is optimiser state */
        port.allow_export = false;
        memcpy(parameters, od_model.parameters, sizeof parameters);
        parameters[1].kind = OD_OPTIMIZER_STATE;
        model.parameters = parameters;
    }
    port.image_damaged = argc > 1 && argv[1][0] == 'i';
    if (argc > 2 && argv[1][0] == 'k') {
        port = fake_keyed_port(port, (uint32_t)strtoul(argv[2], NULL, 10));
        port.start_seed.fresh = port.start_seed.boots != 0;
    }
    if (od_session_init(&session, &model, &port) != OD_OK) {
        return 2;
    }
    if (argc > 1 && argv[1][0] == 'd') {
        fprintf(stderr, "HardFault at 0x08001234\n");
        return 7;
    }
    od_session_announce(&session);
    for (;;) {
        uint8_t bytes[256];
        const ssize_t n = read(STDIN_FILENO, bytes, sizeof bytes);
        if (n <= 0) {
            return 0;
        }
        od_session_receive(&session, bytes, (uint32_t)n);
    }
}
