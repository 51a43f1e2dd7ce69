#include "ondevice/regions.h"

#include <stddef.h>

#include "ondevice/messages.h"

/* Regions go over the wire as they lie in memory. */
typedef char scale_is_20_bytes[sizeof(od_grad_scale_t) == 20 ? 1 : -1];
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the link sends memory as it is: the device must be little-endian"
#endif

bool od_region_find(const od_session_t *session, uint8_t id, uint16_t index, od_region_t *found) {
    const od_model_t *model = session->model;
    const bool uploading = !session->parameters_valid;
    if (id == OD_REGION_PARAMETER) {
        if (index >= model->parameter_count) {
            return false;
        }
        const od_parameter_t *parameter = &model->parameters[index];
        *found = (od_region_t){parameter->data, parameter->bytes, (uint8_t)parameter->dtype,
                               uploading, parameter->name};
        return true;
    }
    if (index != 0) {
        return false;
    }
    switch (id) {
    case OD_REGION_INPUT:
        *found = (od_region_t){model->input, model->input_bytes, OD_NO_DTYPE, true, "input"};
        return true;
    case OD_REGION_LABEL:
        *found = (od_region_t){model->label, model->label_bytes, OD_NO_DTYPE, true, "label"};
        return true;
    case OD_REGION_OUTPUT:
        /* Never written: `writable` is false. */
        *found = (od_region_t){(uint8_t *)(uintptr_t)model->output, model->output_count * 4u,
                               OD_FLOAT32, false, "output"};
        return true;
    case OD_REGION_SCALES:
        *found = (od_region_t){(uint8_t *)model->scales,
                               model->scale_count * (uint32_t)sizeof *model->scales, OD_NO_DTYPE,
                               uploading, "scales"};
        return true;
    case OD_REGION_PROFILE:
        if (session->trace.per_op == NULL) {
            return false;
        }
        *found = (od_region_t){(uint8_t *)session->trace.per_op, model->op_count * 4u, OD_UINT32,
                               false, "profile"};
        return true;
    default:
        return false;
    }
}
