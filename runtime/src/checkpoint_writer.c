/* Writing the log: in order, every unit once, and read back before it counts. */
#include <string.h>

#include "ondevice/checkpoint_layout.h"
#include "ondevice/crc32.h"
#include "ondevice/little_endian.h"
#include "ondevice/start_count.h"

/* Here, not where records are read: gcc 12 takes the function that it would be inlined into for
 * shorter than it is on Cortex-M55, and the assembler refuses its branch. */
uint32_t od_payload_bytes(const od_model_t *model) {
    uint32_t n = model->scale_count * (uint32_t)sizeof *model->scales;
    for (uint32_t i = 0; i < model->parameter_count; i++) {
        n += model->parameters[i].bytes;
    }
    return n;
}

/* Collects bytes into chunks of whole units. */
typedef struct {
    const od_storage_t *storage;
    uint32_t bank;
    uint32_t offset; /* of the chunk */
    uint32_t fill;
    int32_t status; /* the first failure; nothing is programmed after it */
    uint8_t chunk[OD_LOG_CHUNK_BYTES];
} writer_t;

static void start(writer_t *writer, const od_storage_t *storage, uint32_t bank, uint32_t offset) {
    writer->storage = storage;
    writer->bank = bank;
    writer->offset = offset;
    writer->fill = 0;
    writer->status = OD_OK;
}

static void program(writer_t *writer) {
    const od_storage_t *storage = writer->storage;
    if (writer->status >= 0 && writer->fill > 0) {
        writer->status = storage->program(storage->context, writer->bank, writer->offset,
                                          writer->chunk, writer->fill);
    }
    writer->offset += writer->fill;
    writer->fill = 0;
}

static void put(writer_t *writer, const void *data, uint32_t n) {
    const uint8_t *from = data;
    while (n > 0) {
        const uint32_t room = OD_LOG_CHUNK_BYTES - writer->fill;
        const uint32_t step = n < room ? n : room;
        memcpy(writer->chunk + writer->fill, from, step);
        writer->fill += step;
        from += step;
        n -= step;
        if (writer->fill == OD_LOG_CHUNK_BYTES) {
            program(writer);
        }
    }
}

/* Programs what was put so far, up to a whole unit. */
static void finish(writer_t *writer) {
    const uint32_t padded = od_log_padded(writer->storage, writer->fill);
    memset(writer->chunk + writer->fill, 0xFF, padded - writer->fill);
    writer->fill = padded;
    program(writer);
}

int32_t od_log_erase(const od_storage_t *storage, uint32_t bank) {
    od_bank_header_t own = {0, 0};
    od_bank_header_t other = {0, 0};
    const bool known = od_bank_read(storage, bank, &own);
    const bool other_known = od_bank_read(storage, OD_STORAGE_BANKS - 1u - bank, &other);
    const uint32_t erases = (known ? own.erases : other.erases_of_other) + 1u;
    const uint32_t starts = od_starts_count(storage);
    int32_t status = storage->erase(storage->context, bank);
    if (status < 0) {
        return status;
    }
    uint8_t header[BANK_HEADER_BYTES];
    uint8_t *at = od_put_u32(header, BANK_MAGIC);
    at = od_put_u32(at, STORAGE_FORMAT);
    at = od_put_u32(at, erases);
    at = od_put_u32(at, other_known ? other.erases : own.erases_of_other);
    (void)od_put_u32(at, od_crc32(0, header, BANK_HEADER_BYTES - 4u));
    writer_t writer;
    start(&writer, storage, bank, 0);
    put(&writer, header, sizeof header);
    finish(&writer);
    if (writer.status < 0) {
        return writer.status;
    }
    status = starts > 0 ? od_starts_mark(storage, bank, starts) : OD_OK;
    if (status < 0) {
        return status;
    }
    return od_bank_read(storage, bank, &own) && own.erases == erases ? OD_OK : OD_ERROR_STATE;
}

static void put_header(writer_t *writer, const od_model_t *model, od_checkpoint_t *record) {
    uint8_t header[RECORD_HEADER_BYTES];
    uint8_t *at = od_put_u32(header, RECORD_MAGIC);
    at = od_put_u32(at, STORAGE_FORMAT);
    memcpy(at, model->id, sizeof model->id);
    at += sizeof model->id;
    at = od_put_u32(at, record->sequence);
    at = od_put_u32(at, record->payload_bytes);
    at = od_put_u64(at, record->counters.run);
    at = od_put_u32(at, record->counters.trained);
    at = od_put_u32(at, record->counters.updates);
    at = od_put_u32(at, record->counters.evaluated);
    at = od_put_u32(at, record->counters.correct);
    at = od_put_f64(at, record->counters.loss_sum);
    at = od_put_u32(at, record->update_steps);
    at = od_put_f32(at, record->loss);
    at = od_put_u32(at, record->payload_crc);
    record->header_crc = od_crc32(0, header, RECORD_HEADER_BYTES - 4u);
    (void)od_put_u32(at, record->header_crc);
    put(writer, header, sizeof header);
    finish(writer);
}

static uint32_t payload_crc(const od_model_t *model) {
    uint32_t crc = 0;
    for (uint32_t i = 0; i < model->parameter_count; i++) {
        crc = od_crc32(crc, model->parameters[i].data, model->parameters[i].bytes);
    }
    return od_crc32(crc, (const uint8_t *)model->scales,
                    model->scale_count * (uint32_t)sizeof *model->scales);
}

static void put_payload(writer_t *writer, const od_model_t *model) {
    for (uint32_t i = 0; i < model->parameter_count; i++) {
        put(writer, model->parameters[i].data, model->parameters[i].bytes);
    }
    put(writer, model->scales, model->scale_count * (uint32_t)sizeof *model->scales);
    finish(writer);
}

/* All but the commit is programmed: read it back, and only then let it count. */
static int32_t commit(writer_t *writer, const od_checkpoint_t *record) {
    if (writer->status < 0) {
        return writer->status;
    }
    if (!od_log_verify(writer->storage, record)) {
        return OD_ERROR_STATE;
    }
    uint8_t bytes[COMMIT_BYTES];
    (void)od_put_u32(od_put_u32(bytes, record->sequence), record->header_crc);
    put(writer, bytes, sizeof bytes);
    finish(writer);
    return writer->status;
}

/* Whether the log holds this record there, as a later start will read it. */
static int32_t read_back(const od_storage_t *storage, const od_model_t *model,
                         const od_checkpoint_t *record) {
    od_checkpoint_t found;
    uint32_t offset = record->offset;
    const bool there = od_log_next(storage, model, record->bank, &offset, &found) && found.whole &&
                       found.header_crc == record->header_crc;
    return there ? OD_OK : OD_ERROR_STATE;
}

int32_t od_log_append(const od_storage_t *storage, const od_model_t *model, uint32_t bank,
                      uint32_t offset, od_checkpoint_t *record) {
    record->bank = bank;
    record->offset = offset;
    record->payload_bytes = od_payload_bytes(model);
    record->payload_crc = payload_crc(model);
    writer_t writer;
    start(&writer, storage, bank, offset);
    put_header(&writer, model, record);
    put_payload(&writer, model);
    const int32_t status = commit(&writer, record);
    return status < 0 ? status : read_back(storage, model, record);
}

int32_t od_log_copy(const od_storage_t *storage, const od_model_t *model,
                    const od_checkpoint_t *record, uint32_t bank, uint32_t offset) {
    writer_t writer;
    start(&writer, storage, bank, offset);
    const uint32_t commit_offset = od_log_commit_offset(storage, record->payload_bytes);
    for (uint32_t at = 0; at < commit_offset && writer.status >= 0; at += OD_LOG_CHUNK_BYTES) {
        /* Straight into the writer's chunk, which is empty: the parts are whole units. */
        const uint32_t left = commit_offset - at;
        writer.fill = left < OD_LOG_CHUNK_BYTES ? left : OD_LOG_CHUNK_BYTES;
        writer.status = storage->read(storage->context, record->bank, record->offset + at,
                                      writer.chunk, writer.fill);
        program(&writer);
    }
    od_checkpoint_t copy = *record;
    copy.bank = bank;
    copy.offset = offset;
    const int32_t status = commit(&writer, &copy);
    return status < 0 ? status : read_back(storage, model, &copy);
}
