/* Answers questions about the link's C code, one a line, so that pytest can compare it with the
 * vectors and with other implementations. Bytes are in hexadecimal; none at all is "-".
 *
 *   crc32 BYTES                                -> CRC
 *   cobs BYTES                                 -> encoded
 *   uncobs BYTES                               -> decoded, or bad
 *   frame VERSION TYPE SESSION SEQUENCE BYTES  -> wire (numbers in decimal)
 *   frames WIRE                                -> for each: VERSION TYPE SESSION SEQUENCE BYTES;
 *                                                 or bad;
 *   blake2s DIGEST_BYTES KEY BYTES...          -> digest of the pieces
 *   new                                        -> ok, and a fresh session
 *   keyed BOOTS                                -> likewise, with a key (BOOTS: one byte)
 *   receive WIRE                               -> what the session sent
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake_port.h"
#include "ondevice/blake2s.h"
#include "ondevice/crc32.h"
#include "ondevice/session.h"

#define LINE_BYTES 70000u
#define BYTES_MAX (LINE_BYTES / 2u)

static void print_hex(const uint8_t *bytes, uint32_t n) {
    if (n == 0) {
        printf("-");
    }
    for (uint32_t i = 0; i < n; i++) {
        printf("%02x", bytes[i]);
    }
}

/* A block of exactly its size, so that the sanitizer sees a byte read beyond it. */
static uint8_t *parse_hex(const char *text, uint32_t *n) {
    *n = text == NULL || text[0] == '-' ? 0 : (uint32_t)strlen(text) / 2u;
    uint8_t *bytes = malloc(*n);
    for (uint32_t i = 0; i < *n; i++) {
        const char digits[3] = {text[2u * i], text[2u * i + 1u], '\0'};
        bytes[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    return bytes;
}

static uint32_t next_number(void) { return (uint32_t)strtoul(strtok(NULL, " \n"), NULL, 10); }

static void answer_uncobs(const uint8_t *bytes, uint32_t n) {
    uint8_t *decoded = malloc(n + 1u);
    od_cobs_decoder_t decoder;
    od_cobs_start(&decoder);
    uint32_t count = 0;
    for (uint32_t i = 0; i < n; i++) {
        count += od_cobs_push(&decoder, bytes[i], decoded + count);
    }
    if (n > 0 && od_cobs_complete(&decoder)) {
        print_hex(decoded, count);
    } else {
        printf("bad");
    }
    free(decoded);
}

static void answer_frame(void) {
    od_header_t header;
    header.version = (uint8_t)next_number();
    header.type = (uint8_t)next_number();
    header.session = next_number();
    header.sequence = next_number();
    uint32_t n;
    uint8_t *payload = parse_hex(strtok(NULL, " \n"), &n);
    uint8_t *frame = malloc(OD_HEADER_BYTES + n + 4u);
    uint8_t *wire = malloc(OD_WIRE_BYTES(OD_HEADER_BYTES + n + 4u));
    if (n > 0) {
        memcpy(frame + OD_HEADER_BYTES, payload, n);
    }
    print_hex(wire, od_frame_encode(&header, frame, n, wire));
    free(payload);
    free(frame);
    free(wire);
}

static void answer_frames(const uint8_t *bytes, uint32_t n) {
    od_frame_receiver_t *receiver = malloc(sizeof *receiver);
    od_frame_start(receiver);
    for (uint32_t i = 0; i < n; i++) {
        const od_frame_status_t status = od_frame_push(receiver, bytes[i]);
        if (status == OD_FRAME_GOOD) {
            printf("%u %u %u %u ", receiver->header.version, receiver->header.type,
                   receiver->header.session, receiver->header.sequence);
            print_hex(receiver->bytes + OD_HEADER_BYTES, receiver->payload_bytes);
            printf(";");
        } else if (status == OD_FRAME_BAD) {
            printf("bad;");
        }
    }
    free(receiver);
}

static void answer_blake2s(void) {
    const uint32_t digest_bytes = next_number();
    uint32_t n;
    uint8_t *bytes = parse_hex(strtok(NULL, " \n"), &n);
    uint8_t digest[OD_BLAKE2S_DIGEST_BYTES];
    od_blake2s_t state;
    od_blake2s_begin(&state, digest_bytes, bytes, n);
    free(bytes);
    for (const char *piece = strtok(NULL, " \n"); piece != NULL; piece = strtok(NULL, " \n")) {
        bytes = parse_hex(piece, &n);
        od_blake2s_add(&state, bytes, n);
        free(bytes);
    }
    od_blake2s_end(&state, digest);
    print_hex(digest, digest_bytes);
}

static void answer_new(od_session_t *session, const od_port_t *port) {
    printf("%s", od_session_init(session, &od_model, port) == OD_OK ? "ok" : "bad");
    memset(od_model.label, 0, od_model.label_bytes);
    memset(od_model.input, 0, od_model.input_bytes);
}

static void write_hex(void *context, const uint8_t *bytes, uint32_t n) {
    (void)context;
    print_hex(bytes, n);
}

int main(void) {
    static char line[LINE_BYTES];
    od_session_t *session = malloc(sizeof *session);
    const od_port_t port = fake_port(write_hex, NULL);
    od_port_t keyed_port;
    (void)od_session_init(session, &od_model, &port);
    while (fgets(line, sizeof line, stdin) != NULL) {
        const char *command = strtok(line, " \n");
        if (strcmp(command, "frame") == 0) {
            answer_frame();
        } else if (strcmp(command, "blake2s") == 0) {
            answer_blake2s();
        } else {
            uint32_t n;
            uint8_t *bytes = parse_hex(strtok(NULL, " \n"), &n);
            if (strcmp(command, "crc32") == 0) {
                printf("%08x", od_crc32(0, bytes, n));
            } else if (strcmp(command, "cobs") == 0) {
                uint8_t *encoded = malloc(OD_COBS_ENCODED_BYTES(n));
                print_hex(encoded, od_cobs_encode(bytes, n, encoded));
                free(encoded);
            } else if (strcmp(command, "uncobs") == 0) {
                answer_uncobs(bytes, n);
            } else if (strcmp(command, "frames") == 0) {
                answer_frames(bytes, n);
            } else if (strcmp(command, "new") == 0) {
                answer_new(session, &port);
            } else if (strcmp(command, "keyed") == 0) {
                keyed_port = fake_keyed_port(port, bytes[0]);
                answer_new(session, &keyed_port);
            } else if (strcmp(command, "receive") == 0) {
                od_session_receive(session, bytes, n);
            }
            free(bytes);
        }
        printf("\n");
        fflush(stdout);
    }
    free(session);
    return 0;
}
