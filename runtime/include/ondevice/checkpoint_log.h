/* How checkpoints lie in a bank: a header, then records one after the other.
 *
 *   bank     magic, format, how often this bank and the other were erased, CRC
 *   record   header (sequence, progress, loss, CRC of the payload, CRC)
 *            payload (all parameters in the model's order, then the gradient scales)
 *            commit (sequence, CRC of the header), programmed last
 *
 * Each part is padded with 0xFF to whole units. A record counts as whole once its commit is right;
 * its payload was read back before that. A header that is whole gives the record's length, so the
 * log goes on behind a record that was cut short; where a header is not whole, the bank is full.
 */
#ifndef ONDEVICE_CHECKPOINT_LOG_H
#define ONDEVICE_CHECKPOINT_LOG_H

#include "ondevice/checkpoint.h"

#define OD_LOG_CHUNK_BYTES 64u /* of the buffers on the stack; a multiple of every unit */

/* The order in which od_log_ranked() gives records. */
typedef enum {
    OD_RANK_NEWEST, /* by sequence, the highest first */
    /* By loss, the lowest first; of equal ones the newest; unknown ones never. Only of the newest
     * one's run: the loss that another run reached says nothing of this one. */
    OD_RANK_BEST
} od_rank_t;

#define OD_LOG_BANK(bank) (1u << (bank))
#define OD_LOG_ALL_BANKS (OD_LOG_BANK(OD_STORAGE_BANKS) - 1u)

/* Bytes that n bytes take in whole units. */
uint32_t od_log_padded(const od_storage_t *storage, uint32_t n);

/* Offset of the payload and of the commit from the record's start, and its bytes in all. */
uint32_t od_log_payload_offset(const od_storage_t *storage);
uint32_t od_log_commit_offset(const od_storage_t *storage, uint32_t payload_bytes);
uint32_t od_log_record_bytes(const od_storage_t *storage, uint32_t payload_bytes);

/* Where the first record of a bank lies. */
uint32_t od_log_start(const od_storage_t *storage);

/* Read the record at `offset` of a bank, and move `offset` behind it. Returns false where no header
 * is: at the end of the log, or where a header was cut short. Begin with od_log_start(). */
bool od_log_next(const od_storage_t *storage, const od_model_t *model, uint32_t bank,
                 uint32_t *offset, od_checkpoint_t *record);

/* The first whole record of the model in this order; after `after`, where that is not NULL. */
bool od_log_ranked(const od_storage_t *storage, const od_model_t *model, uint32_t banks,
                   od_rank_t rank, const od_checkpoint_t *after, od_checkpoint_t *found);

/* Whether the payload's CRC is right. */
bool od_log_verify(const od_storage_t *storage, const od_checkpoint_t *record);

/* The first whole record of the model in this order whose payload's CRC is right. */
bool od_log_find(const od_storage_t *storage, const od_model_t *model, uint32_t banks,
                 od_rank_t rank, od_checkpoint_t *found);

/* Whether n bytes are erased. */
bool od_log_blank(const od_storage_t *storage, uint32_t bank, uint32_t offset, uint32_t n);

/* Erase a bank and write its header. */
int32_t od_log_erase(const od_storage_t *storage, uint32_t bank);

/* Write `record` and the model's parameters at an offset of a bank that is erased from there on;
 * fills in where it lies and its CRCs. */
int32_t od_log_append(const od_storage_t *storage, const od_model_t *model, uint32_t bank,
                      uint32_t offset, od_checkpoint_t *record);

/* Copy a record likewise, from flash to flash. */
int32_t od_log_copy(const od_storage_t *storage, const od_model_t *model,
                    const od_checkpoint_t *record, uint32_t bank, uint32_t offset);

#endif
