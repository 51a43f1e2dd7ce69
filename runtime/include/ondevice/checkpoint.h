/* Checkpoints: all parameters and gradient scales in flash, so that a cut of power, at any time,
 * loses neither the newest whole one nor the best.
 *
 * Both banks are used as a log (checkpoint_log.h). When the bank in use is full, the other one is
 * erased and takes a copy of the best record, then the new one; so each is in flash twice before
 * its first copy may go. A bank with room for only one record keeps no best.
 *
 * No function keeps state in RAM: flash says it all.
 */
#ifndef ONDEVICE_CHECKPOINT_H
#define ONDEVICE_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "ondevice/counters.h"
#include "ondevice/model.h"
#include "ondevice/storage.h"

/* In place of a sequence number. */
#define OD_CHECKPOINT_NEWEST 0u
#define OD_CHECKPOINT_BEST 0xFFFFFFFFu /* of the lowest known loss in the newest one's run */

/* One record, without its parameters. */
typedef struct {
    uint32_t sequence; /* from 1; a copy keeps it */
    od_counters_t counters;
    uint32_t update_steps; /* the model's */
    float loss;            /* lower is better; not finite: unknown */
    uint32_t payload_bytes;
    uint32_t payload_crc;
    uint32_t header_crc;
    uint32_t bank;
    uint32_t offset; /* of the whole record in its bank */
    bool whole;      /* its last unit is there */
    bool ours;       /* of the model that was asked for */
} od_checkpoint_t;

/* Bytes of flash that one record of the model takes. */
uint32_t od_checkpoint_bytes(const od_storage_t *storage, const od_model_t *model);

/* Bytes of a bank that records may fill. */
uint32_t od_checkpoint_room(const od_storage_t *storage);

/* Save the model as it is now, with the loss that it reached; `sequence` is that of the record.
 * Returns OD_OK only once the record was read back whole; OD_ERROR_ARGUMENT where it is larger
 * than a bank, OD_ERROR_STATE where flash did not keep it, or what the driver returned. */
int32_t od_checkpoint_save(const od_storage_t *storage, const od_model_t *model,
                           const od_counters_t *counters, float loss, uint32_t *sequence);

/* Find a whole record of the model by sequence, OD_CHECKPOINT_NEWEST or _BEST, whose CRC is right;
 * returns false where there is none. */
bool od_checkpoint_find(const od_storage_t *storage, const od_model_t *model, uint32_t sequence,
                        od_checkpoint_t *found);

/* Put the parameters of a record that was found into the model. Below 0 the model holds a mixture
 * and must not be used: flash changed since. */
int32_t od_checkpoint_load(const od_storage_t *storage, const od_model_t *model,
                           const od_checkpoint_t *found);

/* The whole record that is `index` older than the newest, its CRC not checked. */
bool od_checkpoint_list(const od_storage_t *storage, const od_model_t *model, uint32_t index,
                        od_checkpoint_t *found);

/* The whole record of the lowest loss, its CRC not checked. */
bool od_checkpoint_best(const od_storage_t *storage, const od_model_t *model,
                        od_checkpoint_t *found);

/* How often a bank has been erased; a cut of power in an erase may lose count of that one. */
uint32_t od_checkpoint_erases(const od_storage_t *storage, uint32_t bank);

/* Erase all records, of every model. A cut of power leaves all, the newest and the best, or none.
 */
int32_t od_checkpoint_erase(const od_storage_t *storage, const od_model_t *model);

#endif
