/* Reading the log: headers, order, and whether what they promise is there. */
#include "ondevice/checkpoint_log.h"

#include <string.h>

#include "ondevice/checkpoint_layout.h"
#include "ondevice/crc32.h"
#include "ondevice/little_endian.h"

uint32_t od_log_padded(const od_storage_t *storage, uint32_t n) {
    return (n + storage->unit_bytes - 1u) & ~(storage->unit_bytes - 1u);
}

uint32_t od_log_payload_offset(const od_storage_t *storage) {
    return od_log_padded(storage, RECORD_HEADER_BYTES);
}

uint32_t od_log_commit_offset(const od_storage_t *storage, uint32_t payload_bytes) {
    return od_log_payload_offset(storage) + od_log_padded(storage, payload_bytes);
}

uint32_t od_log_record_bytes(const od_storage_t *storage, uint32_t payload_bytes) {
    return od_log_commit_offset(storage, payload_bytes) + od_log_padded(storage, COMMIT_BYTES);
}

uint32_t od_log_start(const od_storage_t *storage) {
    return od_log_padded(storage, BANK_HEADER_BYTES);
}

bool od_bank_read(const od_storage_t *storage, uint32_t bank, od_bank_header_t *found) {
    uint8_t header[BANK_HEADER_BYTES];
    if (storage->read(storage->context, bank, 0, header, sizeof header) < 0 ||
        od_get_u32(header) != BANK_MAGIC || od_get_u32(header + 4) != STORAGE_FORMAT ||
        od_get_u32(header + 16) != od_crc32(0, header, 16)) {
        return false;
    }
    found->erases = od_get_u32(header + 8);
    found->erases_of_other = od_get_u32(header + 12);
    return true;
}

static bool is_committed(const od_storage_t *storage, const od_checkpoint_t *record) {
    uint8_t commit[COMMIT_BYTES];
    const uint32_t at = record->offset + od_log_commit_offset(storage, record->payload_bytes);
    return storage->read(storage->context, record->bank, at, commit, sizeof commit) >= 0 &&
           od_get_u32(commit) == record->sequence && od_get_u32(commit + 4) == record->header_crc;
}

static void take_header(const uint8_t *header, od_checkpoint_t *record) {
    record->sequence = od_get_u32(header + 24);
    record->payload_bytes = od_get_u32(header + 28);
    record->counters.run = od_get_u64(header + 32);
    record->counters.trained = od_get_u32(header + 40);
    record->counters.updates = od_get_u32(header + 44);
    record->counters.evaluated = od_get_u32(header + 48);
    record->counters.correct = od_get_u32(header + 52);
    record->counters.loss_sum = od_get_f64(header + 56);
    record->update_steps = od_get_u32(header + 64);
    record->loss = od_get_f32(header + 68);
    record->payload_crc = od_get_u32(header + 72);
    record->header_crc = od_get_u32(header + 76);
}

bool od_log_next(const od_storage_t *storage, const od_model_t *model, uint32_t bank,
                 uint32_t *offset, od_checkpoint_t *record) {
    const uint32_t at = *offset;
    const uint32_t least = od_log_record_bytes(storage, 0);
    if (at > storage->bank_bytes || storage->bank_bytes - at < least) {
        return false;
    }
    uint8_t header[RECORD_HEADER_BYTES];
    if (storage->read(storage->context, bank, at, header, sizeof header) < 0 ||
        od_get_u32(header) != RECORD_MAGIC || od_get_u32(header + 4) != STORAGE_FORMAT ||
        od_get_u32(header + 76) != od_crc32(0, header, 76)) {
        return false;
    }
    take_header(header, record);
    const uint32_t left = storage->bank_bytes - at;
    if (record->payload_bytes > left ||
        od_log_record_bytes(storage, record->payload_bytes) > left) {
        return false;
    }
    record->bank = bank;
    record->offset = at;
    record->whole = is_committed(storage, record);
    record->ours = memcmp(header + 8, model->id, sizeof model->id) == 0 &&
                   record->payload_bytes == od_payload_bytes(model);
    *offset = at + od_log_record_bytes(storage, record->payload_bytes);
    return true;
}

static bool is_known(float loss) {
    uint32_t bits;
    memcpy(&bits, &loss, sizeof bits);
    return (bits & 0x7F800000u) != 0x7F800000u;
}

/* A total order, so that going on after one record ends. */
static bool precedes(od_rank_t rank, const od_checkpoint_t *a, const od_checkpoint_t *b) {
    if (rank == OD_RANK_BEST && (a->loss < b->loss || a->loss > b->loss)) {
        return a->loss < b->loss;
    }
    if (a->sequence != b->sequence) {
        return a->sequence > b->sequence;
    }
    return a->bank != b->bank ? a->bank > b->bank : a->offset > b->offset;
}

/* As od_log_ranked(), the best of `run`. */
static bool find_ranked(const od_storage_t *storage, const od_model_t *model, uint32_t banks,
                        od_rank_t rank, uint64_t run, const od_checkpoint_t *after,
                        od_checkpoint_t *found) {
    bool any = false;
    for (uint32_t bank = 0; bank < OD_STORAGE_BANKS; bank++) {
        if ((banks & OD_LOG_BANK(bank)) == 0) {
            continue;
        }
        od_checkpoint_t record;
        uint32_t offset = od_log_start(storage);
        while (od_log_next(storage, model, bank, &offset, &record)) {
            const bool ranks =
                rank == OD_RANK_NEWEST || (record.counters.run == run && is_known(record.loss));
            if (!record.whole || !record.ours || !ranks ||
                (after != NULL && !precedes(rank, after, &record)) ||
                (any && !precedes(rank, &record, found))) {
                continue;
            }
            *found = record;
            any = true;
        }
    }
    return any;
}

bool od_log_ranked(const od_storage_t *storage, const od_model_t *model, uint32_t banks,
                   od_rank_t rank, const od_checkpoint_t *after, od_checkpoint_t *found) {
    od_checkpoint_t newest;
    if (!find_ranked(storage, model, banks, OD_RANK_NEWEST, 0, NULL, &newest)) {
        return false;
    }
    return find_ranked(storage, model, banks, rank, newest.counters.run, after, found);
}

bool od_log_verify(const od_storage_t *storage, const od_checkpoint_t *record) {
    uint8_t chunk[OD_LOG_CHUNK_BYTES];
    uint32_t at = record->offset + od_log_payload_offset(storage);
    uint32_t crc = 0;
    for (uint32_t left = record->payload_bytes; left > 0;) {
        const uint32_t n = left < sizeof chunk ? left : (uint32_t)sizeof chunk;
        if (storage->read(storage->context, record->bank, at, chunk, n) < 0) {
            return false;
        }
        crc = od_crc32(crc, chunk, n);
        at += n;
        left -= n;
    }
    return crc == record->payload_crc;
}

bool od_log_find(const od_storage_t *storage, const od_model_t *model, uint32_t banks,
                 od_rank_t rank, od_checkpoint_t *found) {
    const od_checkpoint_t *after = NULL;
    od_checkpoint_t rejected;
    while (od_log_ranked(storage, model, banks, rank, after, found)) {
        if (od_log_verify(storage, found)) {
            return true;
        }
        rejected = *found;
        after = &rejected;
    }
    return false;
}

bool od_log_blank(const od_storage_t *storage, uint32_t bank, uint32_t offset, uint32_t n) {
    uint8_t chunk[OD_LOG_CHUNK_BYTES];
    while (n > 0) {
        const uint32_t step = n < sizeof chunk ? n : (uint32_t)sizeof chunk;
        if (storage->read(storage->context, bank, offset, chunk, step) < 0) {
            return false;
        }
        for (uint32_t i = 0; i < step; i++) {
            if (chunk[i] != 0xFFu) {
                return false;
            }
        }
        offset += step;
        n -= step;
    }
    return true;
}
