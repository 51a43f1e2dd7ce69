/* The fuzzer's bytes as a script that a target takes from, and what must hold. */
#ifndef FUZZ_SCRIPT_H
#define FUZZ_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static const uint8_t *script;
static size_t left;

#define CHECK(condition) check((condition), #condition, __LINE__)

static void check(bool holds, const char *condition, int line) {
    if (!holds) {
        fprintf(stderr, "line %d: not so: %s\n", line, condition);
        abort();
    }
}

/* The next byte; 0 behind the end. */
static uint8_t take(void) {
    if (left == 0) {
        return 0;
    }
    left--;
    return *script++;
}

#endif
