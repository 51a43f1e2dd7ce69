/* A model whose weights tell which steps ran, in which order and on what: a step that is lost,
 * repeated or given another sample leaves other weights. */
#include <stdbool.h>
#include <string.h>

#include "ondevice/model.h"
#include "ondevice/trace.h"

#ifndef INPUT_BYTES /* fuzzers take less */
#define INPUT_BYTES 600
#define TABLE_BYTES 3000
#endif
#define LABEL_NOT_FINITE 999u
#define LABEL_BROKEN 998u

static uint8_t input[INPUT_BYTES];
static uint32_t label;
static float output[3];
static uint8_t arena[256];
static uint32_t weights[4];
static uint32_t update_steps;
static uint8_t table[TABLE_BYTES];
static od_grad_scale_t scales[2];

static const od_parameter_t parameters[] = {
    {"fc.weight", weights, sizeof weights, OD_INT32, OD_WEIGHT},
    {"fc.table", table, sizeof table, OD_UINT8, OD_WEIGHT},
};
static const char *const op_names[] = {"forward/fc", "loss", "update/fc"};

static void reset(void) {
    for (uint32_t i = 0; i < 4; i++) {
        weights[i] = i;
    }
    for (uint32_t i = 0; i < sizeof table; i++) {
        table[i] = (uint8_t)(i * 7u);
    }
    memset(scales, 0, sizeof scales);
    update_steps = 0;
}

static uint32_t hash(uint32_t start) {
    for (uint32_t i = 0; i < INPUT_BYTES; i++) {
        start = start * 31u + input[i];
    }
    return start * 31u + label;
}

static int32_t evaluate(od_result_t *result, od_trace_t *trace) {
    arena[99] = 0xA5; /* the default paint: only the other pattern shows this byte */
    arena[49] = 1;
    output[0] = (float)weights[0];
    od_mark(trace, 0);
    if (label == LABEL_NOT_FINITE) {
        return OD_ERROR_NUMERIC;
    }
    if (label == LABEL_BROKEN) {
        return -77;
    }
    result->loss = (float)(hash(0) & 0xFFFFu) / 256.0f;
    result->predicted = input[0];
    result->correct = input[0] == label ? 1 : 0;
    od_mark(trace, 1);
    return OD_OK;
}

/* Tests use rates up to 1; fuzzers any. */
static uint32_t rate_units(float learning_rate) {
    const bool fits = learning_rate > -1e6f && learning_rate < 1e6f;
    return fits ? (uint32_t)(int32_t)(learning_rate * 1024.0f) : 0;
}

static int32_t train(float learning_rate, od_result_t *result, od_trace_t *trace) {
    const int32_t status = evaluate(result, trace);
    if (status != OD_OK) {
        return status;
    }
    weights[0] += 1u;
    weights[1] = hash(weights[1] * 31u);
    weights[2] = weights[2] * 31u + rate_units(learning_rate);
    table[weights[1] % sizeof table] ^= (uint8_t)weights[0];
    scales[0].saturated += 1;
    scales[1].zeros += 2;
    od_mark(trace, 2);
    return OD_OK;
}

static int32_t apply(float learning_rate, od_trace_t *trace) {
    weights[3] = weights[3] * 31u + rate_units(learning_rate) + weights[0];
    update_steps++;
    od_mark(trace, 2);
    return OD_OK;
}

const od_model_t od_model = {
    .abi = OD_MODEL_ABI,
    .id = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
    .name = "fake",
    .input = input,
    .input_bytes = sizeof input,
    .label = &label,
    .label_bytes = sizeof label,
    .output = output,
    .output_count = 3,
    .arena = arena,
    .arena_bytes = sizeof arena,
    .parameters = parameters,
    .parameter_count = 2,
    .scales = scales,
    .scale_count = 2,
    .op_names = op_names,
    .op_count = 3,
    .accumulation_steps = 2,
    .update_steps = &update_steps,
    .reset = reset,
    .evaluate = evaluate,
    .train = train,
    .apply = apply,
};
