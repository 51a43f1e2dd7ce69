/* Fuzzes the checkpoint store on flash of any content: the input is a script that writes to flash,
 * headers and records with right CRCs among it, and uses the store in between, power cuts included.
 *
 * First byte: the flash's unit. Watched besides the sanitizers and the flash's own rules: what is
 * found loads whole, a save that says it worked is found, and no save or erase loses the newest
 * record when power goes or flash refuses.
 */
#include <math.h>
#include <setjmp.h>
#include <string.h>

#include "../c/nor_flash.h"
#include "ondevice/checkpoint_layout.h"
#include "ondevice/crc32.h"
#include "ondevice/little_endian.h"
#include "script.h"

#define BANK_BYTES 1024u

static nor_flash_t flash;
static od_storage_t storage;

static uint32_t take_u32(void) {
    uint32_t value = 0;
    for (uint32_t i = 0; i < 4; i++) {
        value |= (uint32_t)take() << (8u * i);
    }
    return value;
}

/* Puts bytes into flash behind the store's back. */
static uint32_t put(uint32_t bank, uint32_t offset, const uint8_t *bytes, uint32_t n) {
    for (uint32_t i = 0; i < n && offset + i < BANK_BYTES; i++) {
        flash.bytes[bank][offset + i] = bytes[i];
        const uint32_t unit = (offset + i) / flash.unit_bytes;
        flash.state[bank][unit] = bytes[i] == 0xFF ? flash.state[bank][unit] : NOR_PROGRAMMED;
    }
    return offset + n;
}

static void put_bank_header(uint32_t bank) {
    uint8_t header[BANK_HEADER_BYTES];
    uint8_t *at = od_put_u32(header, BANK_MAGIC);
    at = od_put_u32(at, STORAGE_FORMAT);
    at = od_put_u32(at, take());
    at = od_put_u32(at, take());
    (void)od_put_u32(at, od_crc32(0, header, BANK_HEADER_BYTES - 4u));
    (void)put(bank, 0, header, sizeof header);
}

/* A record with right CRCs of whatever the script says; returns the offset behind it. */
static uint32_t put_record(uint32_t bank, uint32_t offset) {
    const uint8_t how = take();
    uint8_t payload[256];
    const uint32_t n = (how & 1u) != 0 ? od_payload_bytes(&od_model) : take();
    uint8_t header[RECORD_HEADER_BYTES] = {0};
    const uint32_t sequence = take_u32() & 0x7FFFFFFFu; /* flash wears out long before */
    memset(payload, take(), sizeof payload);
    uint8_t *at = od_put_u32(header, RECORD_MAGIC);
    (void)od_put_u32(at, STORAGE_FORMAT);
    memcpy(header + 8, od_model.id, sizeof od_model.id);
    header[8] ^= (how & 2u) != 0 ? 1u : 0;
    (void)od_put_u32(header + 24, sequence);
    (void)od_put_u32(header + 28, (how & 4u) != 0 ? take_u32() : n);
    (void)od_put_u32(header + 68, take_u32()); /* loss: any float */
    const uint32_t crc = od_crc32(0, payload, n);
    (void)od_put_u32(header + 72, (how & 8u) != 0 ? ~crc : crc);
    const uint32_t header_crc = od_crc32(0, header, RECORD_HEADER_BYTES - 4u);
    (void)od_put_u32(header + 76, header_crc);
    uint8_t commit[COMMIT_BYTES];
    (void)od_put_u32(od_put_u32(commit, sequence), header_crc);
    (void)put(bank, offset, header, sizeof header);
    (void)put(bank, offset + od_log_payload_offset(&storage), payload, n);
    if ((how & 16u) == 0) {
        (void)put(bank, offset + od_log_commit_offset(&storage, n), commit, sizeof commit);
    }
    return offset + od_log_record_bytes(&storage, n);
}

static uint32_t weights_crc(void) {
    uint32_t crc = 0;
    for (uint32_t i = 0; i < od_model.parameter_count; i++) {
        crc = od_crc32(crc, od_model.parameters[i].data, od_model.parameters[i].bytes);
    }
    return od_crc32(crc, (const uint8_t *)od_model.scales,
                    od_model.scale_count * (uint32_t)sizeof *od_model.scales);
}

static void find_and_load(uint32_t sequence) {
    od_checkpoint_t found;
    if (od_checkpoint_find(&storage, &od_model, sequence, &found)) {
        CHECK(found.whole && found.ours);
        CHECK(od_checkpoint_load(&storage, &od_model, &found) == OD_OK);
        CHECK(weights_crc() == found.payload_crc);
    }
}

static uint32_t newest(void) {
    od_checkpoint_t found;
    return od_checkpoint_find(&storage, &od_model, OD_CHECKPOINT_NEWEST, &found) ? found.sequence
                                                                                 : 0;
}

static void save(void) {
    const od_counters_t counters = {.trained = take()};
    uint32_t *const weight = od_model.parameters[0].data;
    *weight = take();
    const uint8_t loss = take();
    const uint32_t crc = weights_crc();
    const uint32_t before = newest();
    static uint32_t sequence;
    static int32_t status;
    jmp_buf off;
    const uint8_t cut = take();
    flash.cut_at = cut < 128 ? NOR_NEVER : flash.steps + (cut & 0x3Fu);
    flash.off = &off;
    if (setjmp(off) == 0) {
        status = od_checkpoint_save(&storage, &od_model, &counters, loss == 255 ? NAN : (float)loss,
                                    &sequence);
    } else {
        status = -1000;
    }
    flash.cut_at = NOR_NEVER;
    const uint32_t after = newest();
    if (status == OD_OK) {
        od_checkpoint_t found;
        CHECK(od_checkpoint_find(&storage, &od_model, sequence, &found));
        CHECK(od_checkpoint_load(&storage, &od_model, &found) == OD_OK);
        CHECK(weights_crc() == crc);
    }
    CHECK(after >= before);
}

static void erase(void) {
    jmp_buf off;
    const uint8_t cut = take();
    flash.cut_at = cut < 128 ? NOR_NEVER : flash.steps + (cut & 0x3Fu);
    flash.off = &off;
    if (setjmp(off) == 0 && od_checkpoint_erase(&storage, &od_model) == OD_OK) {
        CHECK(newest() == 0);
    }
    flash.cut_at = NOR_NEVER;
}

static void list(void) {
    od_checkpoint_t found;
    uint32_t last = 0xFFFFFFFFu;
    for (uint32_t i = 0; i < 64 && od_checkpoint_list(&storage, &od_model, i, &found); i++) {
        CHECK(found.sequence < last);
        last = found.sequence;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    script = data;
    left = size;
    const uint32_t unit_bytes = 1u << (take() % 6u);
    nor_init(&flash, BANK_BYTES, unit_bytes);
    storage = nor_storage(&flash);
    od_model.reset();
    uint32_t end[OD_STORAGE_BANKS] = {od_log_start(&storage), od_log_start(&storage)};
    while (left > 0) {
        const uint8_t operation = take();
        const uint32_t bank = operation >> 7;
        switch (operation % 8u) {
        case 0: {
            const uint32_t offset = (take_u32() & 0xFFFFu) % BANK_BYTES;
            uint8_t bytes[32];
            const uint32_t n = take() % sizeof bytes;
            for (uint32_t i = 0; i < n; i++) {
                bytes[i] = take();
            }
            (void)put(bank, offset, bytes, n);
            break;
        }
        case 1:
            put_bank_header(bank);
            break;
        case 2:
            end[bank] = put_record(bank, end[bank] < BANK_BYTES ? end[bank] : 0);
            break;
        case 3:
            flash.unreadable[bank][(uint32_t)take() * 4u % (BANK_BYTES / unit_bytes)] = 1;
            break;
        case 4:
            find_and_load((operation & 8u) != 0 ? OD_CHECKPOINT_BEST : take());
            break;
        case 5:
            list();
            break;
        case 6:
            erase();
            break;
        default:
            save();
        }
    }
    return 0;
}
