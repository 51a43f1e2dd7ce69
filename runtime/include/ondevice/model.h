/* The contract between the C that the compiler emits and the runtime: one `od_model_t` a model.
 *
 * The compiler emits one constant `od_model` (declared below), its buffers and its listings of
 * kernel calls. The runtime reads the descriptor and never allocates.
 */
#ifndef ONDEVICE_MODEL_H
#define ONDEVICE_MODEL_H

#include <stdint.h>

/* Raised with every change of this header; generated C checks it with #error. */
#define OD_MODEL_ABI 5

#define OD_OK 0
#define OD_ERROR_ARGUMENT (-1)  /* an index, offset or length outside the allowed range */
#define OD_ERROR_STATE (-2)     /* a call that needs another one first */
#define OD_ERROR_ABI (-3)       /* the model was compiled for another runtime */
#define OD_ERROR_NUMERIC (-4)   /* the loss is not a finite number; nothing was updated */
#define OD_ERROR_NOISE_KEY (-5) /* an update with noise needs a fresh key first: noise.h */

typedef enum {
    OD_INT8 = 0,
    OD_INT16 = 1, /* weights in Q8.8 (+128): the high byte is the rounded int8 weight */
    OD_INT32 = 2,
    OD_FLOAT32 = 3,
    OD_UINT8 = 4,
    OD_UINT32 = 5
} od_dtype_t;

/* What a tensor holds, and so whether it may leave the device (regions.h). */
typedef enum {
    OD_WEIGHT = 0,
    OD_OPTIMIZER_STATE = 1,      /* momentum, moments of Adam: made of gradients */
    OD_ACCUMULATED_GRADIENT = 2, /* sums of the samples since the last update */
    OD_UPDATE_COUNT = 3,
    OD_NOISE_KEY = 4 /* never read, never from a checkpoint; may be written at any time */
} od_parameter_kind_t;

/* One tensor in RAM that outlives a step: trained parameters and optimiser state. */
typedef struct {
    const char *name;
    void *data;
    uint32_t bytes;
    od_dtype_t dtype;
    od_parameter_kind_t kind;
} od_parameter_t;

/* Delayed power-of-two scale of one int8 gradient tensor: real = integer * 2^exponent. */
typedef struct {
    float history;     /* decaying maximum of the gradient's magnitude, real units */
    int32_t exponent;  /* of the running step, derived from history before it */
    int32_t amax;      /* largest magnitude before saturation, in units of 2^exponent */
    int32_t saturated; /* elements clamped to +-127, since counters were reset */
    int32_t zeros;     /* elements that rounded to 0 though the gradient was not 0 */
} od_grad_scale_t;

/* Where a listing reports how long each step took; see od_mark() in trace.h. */
typedef struct {
    uint32_t (*counter)(void); /* monotonic, wraps; NULL: nothing is recorded */
    uint32_t last;
    uint32_t *per_op; /* od_model_t.op_count entries, accumulated */
} od_trace_t;

/* What one sample gave. */
typedef struct {
    float loss;
    uint32_t predicted; /* arg max of the output */
    uint32_t correct;   /* 1 where predicted equals the label; 0 for a regression */
} od_result_t;

/* What a round of federated learning needs: round.h. */
typedef struct od_round od_round_t;

typedef struct {
    uint32_t abi;   /* OD_MODEL_ABI at compile time */
    uint8_t id[16]; /* first half of the SHA-256 of the manifest without its id */
    const char *name;

    void *input; /* one sample, batch 1, memory order as in the manifest */
    uint32_t input_bytes;
    void *label; /* uint32_t class index, or float target vector */
    uint32_t label_bytes;
    const float *output; /* logits or prediction of the last forward pass */
    uint32_t output_count;

    uint8_t *arena;
    uint32_t arena_bytes;

    const od_parameter_t *parameters;
    uint32_t parameter_count;

    od_grad_scale_t *scales; /* NULL where there are none (float32) */
    uint32_t scale_count;

    const char *const *op_names; /* forward, then training listing; indices of od_mark() */
    uint32_t op_count;

    uint32_t accumulation_steps;  /* 1: train() updates at once */
    const uint32_t *update_steps; /* updates so far; one of the parameters, for checkpoints */

    /* Put every RAM tensor back to its value in flash. */
    void (*reset)(void);
    /* Forward pass and loss of the sample in `input` and `label`; changes no parameter. */
    int32_t (*evaluate)(od_result_t *result, od_trace_t *trace);
    /* Forward, backward and in-place update (or accumulation). */
    int32_t (*train)(float learning_rate, od_result_t *result, od_trace_t *trace);
    /* Update from the accumulated gradient and clear it; NULL where accumulation_steps is 1. */
    int32_t (*apply)(float learning_rate, od_trace_t *trace);

    const od_round_t *round; /* NULL where neither a codec nor a proximal term was compiled in */
} od_model_t;

extern const od_model_t od_model;

#endif
