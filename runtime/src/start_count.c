#include "ondevice/start_count.h"

#include <string.h>

#include "ondevice/checkpoint_layout.h"
#include "ondevice/little_endian.h"

/* number u32, its complement u32; then 0xFF up to a whole unit */
#define MARK_BYTES 8u
#define SHARE 16u /* of a bank, for marks */

od_storage_t od_starts_reserve(const od_storage_t *whole) {
    od_storage_t storage = *whole;
    const uint32_t mark = od_log_padded(whole, MARK_BYTES);
    storage.marks_bytes = whole->bank_bytes / SHARE / mark * mark;
    storage.bank_bytes -= storage.marks_bytes;
    return storage;
}

static uint32_t slot_count(const od_storage_t *storage) {
    return storage->marks_bytes / od_log_padded(storage, MARK_BYTES);
}

static uint32_t slot_offset(const od_storage_t *storage, uint32_t slot) {
    return storage->bank_bytes + slot * od_log_padded(storage, MARK_BYTES);
}

/* The number in a slot; 0 where it is empty, torn or cannot be read. */
static uint32_t read_slot(const od_storage_t *storage, uint32_t bank, uint32_t slot) {
    uint8_t mark[MARK_BYTES];
    const uint32_t at = slot_offset(storage, slot);
    if (storage->read(storage->context, bank, at, mark, sizeof mark) < 0 ||
        od_get_u32(mark) != ~od_get_u32(mark + 4)) {
        return 0;
    }
    return od_get_u32(mark);
}

static uint32_t bank_count(const od_storage_t *storage, uint32_t bank) {
    uint32_t highest = 0;
    for (uint32_t slot = 0; slot < slot_count(storage); slot++) {
        const uint32_t number = read_slot(storage, bank, slot);
        highest = number > highest ? number : highest;
    }
    return highest;
}

uint32_t od_starts_count(const od_storage_t *storage) {
    const uint32_t a = bank_count(storage, 0);
    const uint32_t b = bank_count(storage, 1);
    return a > b ? a : b;
}

int32_t od_starts_mark(const od_storage_t *storage, uint32_t bank, uint32_t number) {
    uint8_t mark[OD_STORAGE_UNIT_BYTES_MAX];
    const uint32_t bytes = od_log_padded(storage, MARK_BYTES);
    memset(mark, 0xFF, sizeof mark);
    (void)od_put_u32(od_put_u32(mark, number), ~number);
    uint32_t slot = slot_count(storage);
    while (slot > 0 && od_log_blank(storage, bank, slot_offset(storage, slot - 1u), bytes)) {
        slot--;
    }
    for (; slot < slot_count(storage); slot++) { /* one that only looks erased is passed over */
        const uint32_t at = slot_offset(storage, slot);
        if (storage->program(storage->context, bank, at, mark, bytes) >= 0 &&
            read_slot(storage, bank, slot) == number) {
            return OD_OK;
        }
    }
    return OD_ERROR_STATE;
}

/* Put the best and the newest checkpoint of one bank into the other, which is erased. */
static int32_t move_log(const od_storage_t *storage, const od_model_t *model,
                        const od_checkpoint_t *newest) {
    const uint32_t to = OD_STORAGE_BANKS - 1u - newest->bank;
    int32_t status = od_log_erase(storage, to);
    uint32_t offset = od_log_start(storage);
    od_checkpoint_t best;
    const uint32_t bytes = od_log_record_bytes(storage, newest->payload_bytes);
    if (status >= 0 && 2u * bytes <= storage->bank_bytes - offset &&
        od_log_find(storage, model, OD_LOG_BANK(newest->bank), OD_RANK_BEST, &best) &&
        best.sequence != newest->sequence) {
        status = od_log_copy(storage, model, &best, to, offset);
        offset += bytes;
    }
    return status < 0 ? status : od_log_copy(storage, model, newest, to, offset);
}

static int32_t mark_bank(const od_storage_t *storage, const od_model_t *model, uint32_t bank,
                         uint32_t number) {
    od_bank_header_t header;
    if (od_bank_read(storage, bank, &header) && od_starts_mark(storage, bank, number) >= 0) {
        return OD_OK;
    }
    od_checkpoint_t newest;
    int32_t status = OD_OK;
    if (od_log_find(storage, model, OD_LOG_ALL_BANKS, OD_RANK_NEWEST, &newest) &&
        newest.bank == bank) {
        status = move_log(storage, model, &newest);
    }
    if (status >= 0) {
        status = od_log_erase(storage, bank);
    }
    return status < 0 ? status : od_starts_mark(storage, bank, number);
}

int32_t od_starts_next(const od_storage_t *storage, const od_model_t *model, uint32_t *number) {
    *number = od_starts_count(storage) + 1u;
    for (uint32_t bank = 0; bank < OD_STORAGE_BANKS; bank++) {
        const int32_t status = mark_bank(storage, model, bank, *number);
        if (status < 0) {
            return status;
        }
    }
    return OD_OK;
}
