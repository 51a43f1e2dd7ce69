#include "ondevice/regions.h"

#include <stddef.h>
#include <string.h>

#include "ondevice/messages.h"

/* Regions go over the wire as they lie in memory. */
typedef char scale_is_20_bytes[sizeof(od_grad_scale_t) == 20 ? 1 : -1];
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the link sends memory as it is: the device must be little-endian"
#endif

static bool is_private(const od_parameter_t *parameter) {
    return parameter->kind != OD_WEIGHT && parameter->kind != OD_UPDATE_COUNT;
}

void od_sample_clear(const od_model_t *model) {
    memset(model->input, 0, model->input_bytes);
    memset(model->label, 0, model->label_bytes);
}

void od_state_clear(const od_model_t *model) {
    for (uint32_t i = 0; i < model->parameter_count; i++) {
        if (is_private(&model->parameters[i])) {
            memset(model->parameters[i].data, 0, model->parameters[i].bytes);
        }
    }
}

static od_region_t sample_part(const od_session_t *session, void *data, uint32_t bytes,
                               const char *name) {
    return (od_region_t){data, bytes, OD_NO_DTYPE, OD_NO_KIND, session->port->allow_export,
                         true, name};
}

bool od_region_find(const od_session_t *session, uint8_t id, uint16_t index, od_region_t *found) {
    const od_model_t *model = session->model;
    const bool uploading = !session->parameters_valid;
    if (id == OD_REGION_PARAMETER) {
        if (index >= model->parameter_count) {
            return false;
        }
        const od_parameter_t *parameter = &model->parameters[index];
        const bool key = parameter->kind == OD_NOISE_KEY;
        const bool readable = !key && (session->port->allow_export || !is_private(parameter));
        *found =
            (od_region_t){parameter->data,          parameter->bytes, (uint8_t)parameter->dtype,
                          (uint8_t)parameter->kind, readable,         uploading || key,
                          parameter->name};
        return true;
    }
    if (index != 0) {
        return false;
    }
    switch (id) {
    case OD_REGION_INPUT:
        *found = sample_part(session, model->input, model->input_bytes, "input");
        return true;
    case OD_REGION_LABEL:
        *found = sample_part(session, model->label, model->label_bytes, "label");
        return true;
    case OD_REGION_OUTPUT:
        /* Never written: `writable` is false. */
        *found = (od_region_t){(uint8_t *)(uintptr_t)model->output,
                               model->output_count * 4u,
                               OD_FLOAT32,
                               OD_NO_KIND,
                               true,
                               false,
                               "output"};
        return true;
    case OD_REGION_SCALES:
        *found = (od_region_t){(uint8_t *)model->scales,
                               model->scale_count * (uint32_t)sizeof *model->scales,
                               OD_NO_DTYPE,
                               OD_NO_KIND,
                               true,
                               uploading,
                               "scales"};
        return true;
    case OD_REGION_PROFILE:
        if (session->trace.per_op == NULL) {
            return false;
        }
        *found = (od_region_t){(uint8_t *)session->trace.per_op,
                               model->op_count * 4u,
                               OD_UINT32,
                               OD_NO_KIND,
                               true,
                               false,
                               "profile"};
        return true;
    default:
        return false;
    }
}
