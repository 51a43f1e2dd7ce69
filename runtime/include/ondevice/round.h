/* A round of federated learning: what the board keeps between the global weights that it was given
 * and the change that it sends (docs/compression.md).
 *
 * Each trained weight has one buffer more, `residual`. Between rounds it holds what has been learnt
 * and not been sent; during a round it holds the global weight less that, so that the difference to
 * the trained weight is all that could be sent. The end of a round splits this: what is sent lies
 * in the weight's own memory until the next weights come, the rest stays in the residual.
 */
#ifndef ONDEVICE_ROUND_H
#define ONDEVICE_ROUND_H

#include <stdbool.h>
#include <stdint.h>

#include "ondevice/model.h"

/* What `residual` and the weights hold. */
typedef enum {
    OD_BETWEEN_ROUNDS = 0, /* what was not sent; the weights are nobody's business */
    OD_IN_ROUND = 1,       /* the global weights less what was not sent; trained weights */
    OD_ROUND_SENT = 2      /* what was not sent; the weights are the change that was */
} od_round_phase_t;

/* One trained weight or bias. */
typedef struct {
    od_dtype_t dtype; /* of weights, residual and anchor: OD_INT16, OD_INT32 or OD_FLOAT32 */
    uint32_t elements;
    uint32_t channel_elements; /* that share one of `units` */
    const float *units;        /* real value of one integer step */
    void *weights;
    void *residual; /* NULL where nothing is compressed */
    void *anchor;   /* the global weights, for the proximal term; NULL: none */
    void *velocity; /* momentum, cleared where an element is sent; NULL: kept */
    uint32_t velocity_bytes;
} od_round_tensor_t;

/* How a change is made small. */
typedef struct {
    uint8_t code; /* first byte of what is sent */
    /* Splits the residual: moves what is sent into the weights, which are 0. */
    void (*compress)(const od_round_t *round);
    /* Bytes [offset, offset + n) of the coded weights, as many as there are; returns the length of
     * all of them. A pure function of the weights. */
    uint32_t (*encode)(const od_round_t *round, uint32_t offset, uint8_t *to, uint32_t n);
} od_codec_t;

typedef struct {
    void (*upload)(const od_round_t *round, bool taken);
    void (*begin)(const od_round_t *round);
    void (*end)(const od_round_t *round);
    void (*pull)(const od_round_t *round, float share);
} od_round_operations_t;

struct od_round {
    const od_round_operations_t *operations; /* a pointer, so that other models do not link them */
    const od_codec_t *codec;                 /* NULL: the host reads the weights themselves */
    const od_round_tensor_t *tensors;
    uint32_t count;
    uint32_t kept;   /* elements that top-k sends */
    uint32_t *phase; /* od_round_phase_t, one of the model's parameters */
    bool anchored;
};

extern const od_round_operations_t od_round_operations;
/* upload: new weights are about to be written. An unfinished round's learning goes into the
 *     residual; so does what was sent last, unless it was taken.
 * begin: they are written.
 * end: the change is compressed; to be read by codec->encode.
 * pull: weights -= share * (weights - anchor), the proximal term of FedProx (Li et al., 2020). */

extern const od_codec_t od_codec_topk;
extern const od_codec_t od_codec_ternary;
extern const od_codec_t od_codec_sign;
extern const od_codec_t od_codec_int8;

#endif
