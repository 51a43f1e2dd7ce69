/* One handler a request, by theme. Each takes the request's payload of n bytes, whose length
 * `requests.c` has checked where it is fixed, and leaves the reply's in its place; there is room
 * for od_session_payload_bytes(). */
#ifndef ONDEVICE_HANDLERS_H
#define ONDEVICE_HANDLERS_H

#include "ondevice/outcome.h"
#include "ondevice/session.h"

/* device_info.c */
od_outcome_t od_handle_hello(od_session_t *session, uint8_t *payload, uint32_t n);
od_outcome_t od_handle_identify(od_session_t *session, uint8_t *payload, uint32_t n);

/* region_requests.c */
od_outcome_t od_handle_write(od_session_t *session, uint8_t *payload, uint32_t n);
od_outcome_t od_handle_read(od_session_t *session, uint8_t *payload, uint32_t n);
od_outcome_t od_handle_describe(od_session_t *session, uint8_t *payload, uint32_t n);

/* training_requests.c */
od_outcome_t od_handle_train(od_session_t *session, uint8_t *payload, uint32_t n);
od_outcome_t od_handle_evaluate(od_session_t *session, uint8_t *payload, uint32_t n);
od_outcome_t od_handle_apply(od_session_t *session, uint8_t *payload, uint32_t n);
od_outcome_t od_handle_schedule(od_session_t *session, uint8_t *payload, uint32_t n);

/* measurement_requests.c */
od_outcome_t od_handle_read_counters(od_session_t *session, uint8_t *payload, uint32_t n);
od_outcome_t od_handle_reset_counters(od_session_t *session, uint8_t *payload, uint32_t n);
od_outcome_t od_handle_memory(od_session_t *session, uint8_t *payload, uint32_t n);
od_outcome_t od_handle_paint(od_session_t *session, uint8_t *payload, uint32_t n);

/* parameter_requests.c */
od_outcome_t od_handle_parameters_begin(od_session_t *session, uint8_t *payload, uint32_t n);
od_outcome_t od_handle_parameters_commit(od_session_t *session, uint8_t *payload, uint32_t n);
od_outcome_t od_handle_reset_model(od_session_t *session, uint8_t *payload, uint32_t n);

/* checkpoint_requests.c */
od_outcome_t od_handle_checkpoint_save(od_session_t *session, uint8_t *payload, uint32_t n);
od_outcome_t od_handle_checkpoint_load(od_session_t *session, uint8_t *payload, uint32_t n);
od_outcome_t od_handle_checkpoint_list(od_session_t *session, uint8_t *payload, uint32_t n);
od_outcome_t od_handle_checkpoint_erase(od_session_t *session, uint8_t *payload, uint32_t n);

/* sensor_requests.c */
od_outcome_t od_handle_sensor_describe(od_session_t *session, uint8_t *payload, uint32_t n);
od_outcome_t od_handle_sensor_read(od_session_t *session, uint8_t *payload, uint32_t n);
od_outcome_t od_handle_sensor_setup(od_session_t *session, uint8_t *payload, uint32_t n);
od_outcome_t od_handle_sense(od_session_t *session, uint8_t *payload, uint32_t n);

/* round_requests.c */
od_outcome_t od_handle_round_end(od_session_t *session, uint8_t *payload, uint32_t n);
od_outcome_t od_handle_round_read(od_session_t *session, uint8_t *payload, uint32_t n);
od_outcome_t od_handle_round_pull(od_session_t *session, uint8_t *payload, uint32_t n);

/* The failure of a WRITE before this request, once, or OD_FAIL_STATE where the parameters are not
 * whole: what TRAIN, EVALUATE, APPLY and PARAMETERS_COMMIT need to know before they begin. */
od_failure_t od_take_write_error(od_session_t *session);

#endif
