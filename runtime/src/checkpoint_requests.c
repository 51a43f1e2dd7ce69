/* Requests of checkpoints: save, load, list, erase. Requests run between steps, so what is saved is
 * the state after a whole one. */
#include "ondevice/checkpoint.h"
#include "ondevice/handlers.h"
#include "ondevice/little_endian.h"

#define FLAG_NEWEST 1u
#define FLAG_BEST 2u

static od_outcome_t put_info(const od_session_t *session, const od_checkpoint_t *record,
                             uint8_t *payload) {
    const od_storage_t *storage = session->port->storage;
    od_checkpoint_t other;
    uint32_t flags = 0;
    if (od_checkpoint_list(storage, session->model, 0, &other) &&
        other.sequence == record->sequence) {
        flags |= FLAG_NEWEST;
    }
    if (od_checkpoint_best(storage, session->model, &other) && other.sequence == record->sequence) {
        flags |= FLAG_BEST;
    }
    uint8_t *at = od_put_u32(payload, record->sequence);
    at = od_put_u64(at, record->counters.run);
    at = od_put_u32(at, record->counters.trained);
    at = od_put_u32(at, record->update_steps);
    at = od_put_f32(at, record->loss);
    at = od_put_u32(at, od_checkpoint_bytes(storage, session->model));
    at = od_put_u8(at, (uint8_t)record->bank);
    at = od_put_u8(at, (uint8_t)flags);
    at = od_put_u16(at, 0);
    at = od_put_u32(at, od_checkpoint_erases(storage, 0));
    at = od_put_u32(at, od_checkpoint_erases(storage, 1));
    at = od_put_u32(at, storage->bank_bytes);
    return od_done((uint32_t)(at - payload));
}

od_outcome_t od_handle_checkpoint_save(od_session_t *session, uint8_t *payload, uint32_t n) {
    (void)n;
    const od_storage_t *storage = session->port->storage;
    if (storage == NULL) {
        return od_failed(OD_FAIL_UNSUPPORTED);
    }
    if (!session->parameters_valid) {
        return od_failed(OD_FAIL_STATE);
    }
    const uint32_t bytes = od_checkpoint_bytes(storage, session->model);
    if (bytes > od_checkpoint_room(storage)) {
        return od_failed_with(OD_FAIL_STORAGE, (int32_t)bytes);
    }
    uint32_t sequence = 0;
    const int32_t status = od_checkpoint_save(storage, session->model, &session->counters,
                                              od_get_f32(payload), &sequence);
    if (status < 0) {
        return od_failed_with(OD_FAIL_STORAGE, status);
    }
    (void)od_put_u32(payload, sequence);
    return od_done(4);
}

od_outcome_t od_handle_checkpoint_load(od_session_t *session, uint8_t *payload, uint32_t n) {
    (void)n;
    const od_storage_t *storage = session->port->storage;
    if (storage == NULL) {
        return od_failed(OD_FAIL_UNSUPPORTED);
    }
    od_checkpoint_t found;
    if (!od_checkpoint_find(storage, session->model, od_get_u32(payload), &found)) {
        return od_failed(OD_FAIL_CHECKPOINT);
    }
    const int32_t status = od_checkpoint_load(storage, session->model, &found);
    session->parameters_valid = status >= 0;
    session->scheduled = false;
    if (status < 0) {
        return od_failed_with(OD_FAIL_STORAGE, status);
    }
    session->counters = found.counters;
    return put_info(session, &found, payload);
}

od_outcome_t od_handle_checkpoint_list(od_session_t *session, uint8_t *payload, uint32_t n) {
    (void)n;
    const od_storage_t *storage = session->port->storage;
    if (storage == NULL) {
        return od_failed(OD_FAIL_UNSUPPORTED);
    }
    od_checkpoint_t found;
    if (!od_checkpoint_list(storage, session->model, od_get_u32(payload), &found)) {
        return od_failed(OD_FAIL_CHECKPOINT);
    }
    return put_info(session, &found, payload);
}

od_outcome_t od_handle_checkpoint_erase(od_session_t *session, uint8_t *payload, uint32_t n) {
    (void)payload;
    (void)n;
    const od_storage_t *storage = session->port->storage;
    if (storage == NULL) {
        return od_failed(OD_FAIL_UNSUPPORTED);
    }
    const int32_t status = od_checkpoint_erase(storage, session->model);
    return status < 0 ? od_failed_with(OD_FAIL_STORAGE, status) : od_done(0);
}
