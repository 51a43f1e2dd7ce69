/* The bytes of bank and record headers; for the files of the log alone. */
#ifndef ONDEVICE_CHECKPOINT_LAYOUT_H
#define ONDEVICE_CHECKPOINT_LAYOUT_H

#include "ondevice/checkpoint_log.h"

#define STORAGE_FORMAT 1u
#define BANK_MAGIC 0x4B42444Fu   /* "ODBK" */
#define RECORD_MAGIC 0x5043444Fu /* "ODCP" */

/* magic u32, format u32, erases u32, erases of the other bank u32, CRC-32 of these u32 */
#define BANK_HEADER_BYTES 20u

/* magic u32, format u32, model id 16, sequence u32, payload bytes u32,
 * run u64, trained u32, updates u32, evaluated u32, correct u32, loss sum f64,
 * update_steps u32, loss f32, CRC-32 of the payload u32, CRC-32 of these u32 */
#define RECORD_HEADER_BYTES 80u

/* sequence u32, CRC-32 of the header u32 */
#define COMMIT_BYTES 8u

typedef struct {
    uint32_t erases;
    uint32_t
        erases_of_other; /* when this one was erased: all that is known if its header is lost */
} od_bank_header_t;

/* False where the bank's header is not whole: it must be erased before use. */
bool od_bank_read(const od_storage_t *storage, uint32_t bank, od_bank_header_t *found);

/* Parameters and gradient scales. */
uint32_t od_payload_bytes(const od_model_t *model);

#endif
