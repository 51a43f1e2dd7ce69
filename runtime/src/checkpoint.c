/* Which bank takes the next record, and which record is meant. */
#include "ondevice/checkpoint.h"

#include <stddef.h>

#include "ondevice/checkpoint_layout.h"
#include "ondevice/crc32.h"
#include "ondevice/noise_key.h"

uint32_t od_checkpoint_bytes(const od_storage_t *storage, const od_model_t *model) {
    return od_log_record_bytes(storage, od_payload_bytes(model));
}

uint32_t od_checkpoint_room(const od_storage_t *storage) {
    return storage->bank_bytes - od_log_start(storage);
}

uint32_t od_checkpoint_erases(const od_storage_t *storage, uint32_t bank) {
    od_bank_header_t header;
    return od_bank_read(storage, bank, &header) ? header.erases : 0;
}

/* Where the log of the bank ends, if n erased bytes follow; else 0. */
static uint32_t find_room(const od_storage_t *storage, const od_model_t *model, uint32_t bank,
                          uint32_t n) {
    od_bank_header_t header;
    if (!od_bank_read(storage, bank, &header)) {
        return 0;
    }
    od_checkpoint_t record;
    uint32_t offset = od_log_start(storage);
    while (od_log_next(storage, model, bank, &offset, &record)) {
    }
    return offset <= storage->bank_bytes && n <= storage->bank_bytes - offset &&
                   od_log_blank(storage, bank, offset, n)
               ? offset
               : 0;
}

/* Erase a bank that does not hold the newest record, and write there: first the best of the other
 * bank, where both fit. */
static int32_t start_bank(const od_storage_t *storage, const od_model_t *model, uint32_t bank,
                          uint32_t kept_banks, od_checkpoint_t *record) {
    int32_t status = od_log_erase(storage, bank);
    if (status < 0) {
        return status;
    }
    const uint32_t bytes = od_checkpoint_bytes(storage, model);
    uint32_t offset = od_log_start(storage);
    od_checkpoint_t best;
    if (bytes <= od_checkpoint_room(storage) / 2u &&
        od_log_find(storage, model, kept_banks, OD_RANK_BEST, &best)) {
        status = od_log_copy(storage, model, &best, bank, offset);
        if (status < 0) {
            return status;
        }
        offset += bytes;
    }
    return od_log_append(storage, model, bank, offset, record);
}

int32_t od_checkpoint_save(const od_storage_t *storage, const od_model_t *model,
                           const od_counters_t *counters, float loss, uint32_t *sequence) {
    const uint32_t bytes = od_checkpoint_bytes(storage, model);
    if (bytes > od_checkpoint_room(storage)) {
        return OD_ERROR_ARGUMENT;
    }
    od_checkpoint_t newest;
    const bool any = od_log_ranked(storage, model, OD_LOG_ALL_BANKS, OD_RANK_NEWEST, NULL, &newest);
    od_checkpoint_t record = {
        .sequence = any ? newest.sequence + 1u : 1u,
        .counters = *counters,
        .update_steps = *model->update_steps,
        .loss = loss,
    };
    *sequence = record.sequence;
    if (!any) { /* what is in flash, if anything, is not ours: the less worn bank */
        const uint32_t bank =
            od_checkpoint_erases(storage, 0) <= od_checkpoint_erases(storage, 1) ? 0 : 1;
        return start_bank(storage, model, bank, 0, &record);
    }
    /* Flash may have lost what the newest holds: only the bank of one that is right must stay. */
    od_checkpoint_t kept;
    if (!od_log_find(storage, model, OD_LOG_ALL_BANKS, OD_RANK_NEWEST, &kept)) {
        kept = newest;
    }
    const uint32_t offset = find_room(storage, model, kept.bank, bytes);
    if (offset != 0 && od_log_append(storage, model, kept.bank, offset, &record) >= 0) {
        return OD_OK;
    } /* else it is full, or did not take the record: a unit that looked erased was not */
    return start_bank(storage, model, OD_STORAGE_BANKS - 1u - kept.bank, OD_LOG_BANK(kept.bank),
                      &record);
}

bool od_checkpoint_find(const od_storage_t *storage, const od_model_t *model, uint32_t sequence,
                        od_checkpoint_t *found) {
    if (sequence == OD_CHECKPOINT_NEWEST || sequence == OD_CHECKPOINT_BEST) {
        const od_rank_t rank = sequence == OD_CHECKPOINT_BEST ? OD_RANK_BEST : OD_RANK_NEWEST;
        return od_log_find(storage, model, OD_LOG_ALL_BANKS, rank, found);
    }
    od_checkpoint_t passed;
    const od_checkpoint_t *after = NULL;
    while (od_log_ranked(storage, model, OD_LOG_ALL_BANKS, OD_RANK_NEWEST, after, found)) {
        if (found->sequence == sequence && od_log_verify(storage, found)) {
            return true;
        }
        passed = *found;
        after = &passed;
    }
    return false;
}

int32_t od_checkpoint_load(const od_storage_t *storage, const od_model_t *model,
                           const od_checkpoint_t *found) {
    uint32_t at = found->offset + od_log_payload_offset(storage);
    uint32_t crc = 0;
    for (uint32_t i = 0; i <= model->parameter_count; i++) {
        const bool scales = i == model->parameter_count;
        uint8_t *to = scales ? (uint8_t *)model->scales : (uint8_t *)model->parameters[i].data;
        const uint32_t n = scales ? model->scale_count * (uint32_t)sizeof *model->scales
                                  : model->parameters[i].bytes;
        if (n == 0) {
            continue;
        }
        const int32_t status = storage->read(storage->context, found->bank, at, to, n);
        if (status < 0) {
            return status;
        }
        crc = od_crc32(crc, to, n);
        at += n;
    }
    od_noise_key_clear(model); /* updates after this one were made with it already */
    return crc == found->payload_crc ? OD_OK : OD_ERROR_STATE;
}

bool od_checkpoint_list(const od_storage_t *storage, const od_model_t *model, uint32_t index,
                        od_checkpoint_t *found) {
    od_checkpoint_t passed;
    const od_checkpoint_t *after = NULL;
    while (od_log_ranked(storage, model, OD_LOG_ALL_BANKS, OD_RANK_NEWEST, after, found)) {
        const bool copy = after != NULL && found->sequence == after->sequence;
        if (!copy && index-- == 0) {
            return true;
        }
        passed = *found;
        after = &passed;
    }
    return false;
}

bool od_checkpoint_best(const od_storage_t *storage, const od_model_t *model,
                        od_checkpoint_t *found) {
    return od_log_ranked(storage, model, OD_LOG_ALL_BANKS, OD_RANK_BEST, NULL, found);
}

int32_t od_checkpoint_erase(const od_storage_t *storage, const od_model_t *model) {
    od_checkpoint_t newest;
    const bool any = od_log_ranked(storage, model, OD_LOG_ALL_BANKS, OD_RANK_NEWEST, NULL, &newest);
    const uint32_t last = any ? newest.bank : 1u; /* a cut between leaves the newest and the best */
    const int32_t status = od_log_erase(storage, OD_STORAGE_BANKS - 1u - last);
    return status < 0 ? status : od_log_erase(storage, last);
}
