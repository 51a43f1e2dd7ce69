/* Cuts the power at every single step of every save, and looks what a start finds then.
 *
 * Arguments: unit_bytes, bank_bytes, saves, seed, and what is in flash at first: "erased",
 * "garbage", or "other" (records of another model). Prints
 *   cuts, of them in a program, in an erase, records they left torn, later cuts,
 *   erases of both banks without a cut, bytes and units that were damaged one by one
 * and exits with 0, or says what is wrong. */
#include "nor_flash.h"
#include "ondevice/checkpoint.h"
#include "ondevice/checkpoint_log.h"

#define SAVES_MAX 64u
#define LATER_SAVES 4u

static uint8_t first[7];
static uint8_t second[61];
static uint32_t update_steps;
static od_grad_scale_t scales[1];
static const od_parameter_t parameters[] = {
    {.name = "first", .data = first, .bytes = sizeof first, .dtype = OD_UINT8},
    {.name = "second", .data = second, .bytes = sizeof second, .dtype = OD_UINT8},
    {.name = "steps", .data = &update_steps, .bytes = 4, .dtype = OD_UINT32},
};

static od_model_t model = {
    .id = {1, 2, 3},
    .parameters = parameters,
    .parameter_count = 3,
    .scales = scales,
    .scale_count = 1,
    .update_steps = &update_steps,
};

static uint32_t mix(uint32_t save, uint32_t i) {
    uint32_t x = save * 2654435761u + i * 40503u + 12345u;
    x ^= x >> 15;
    x *= 2246822519u;
    return x ^ x >> 13;
}

/* A run saves seven times. */
static uint64_t run_of(uint32_t save) { return (uint64_t)mix(save / 7u, 1) << 20; }

/* The last save, of `saves`, of the run that `save` belongs to. */
static uint32_t last_of_run(uint32_t save, uint32_t saves) {
    const uint32_t last = save / 7u * 7u + 6u;
    return last < saves ? last : saves;
}

/* What the model and its counters are at save number `save`; every byte depends on it. */
static od_counters_t be(uint32_t save) {
    for (uint32_t i = 0; i < sizeof first; i++) {
        first[i] = (uint8_t)mix(save, i);
    }
    for (uint32_t i = 0; i < sizeof second; i++) {
        second[i] = (uint8_t)mix(save, 100u + i);
    }
    update_steps = save;
    memset(scales, (int)(save & 0x3Fu), sizeof scales);
    return (od_counters_t){run_of(save), save * 3u,      save,
                           save + 7u,    save % 5u + 1u, (double)save * 0.25};
}

static float loss_of(uint32_t save, uint32_t seed) {
    const uint32_t draw = mix(save + seed * 1000u, 999) % 8u;
    return draw == 0 ? (float)(1.0 / 0.0) : (float)draw; /* an eighth unknown, many equal */
}

typedef struct {
    uint8_t bytes[sizeof first + sizeof second + sizeof update_steps + sizeof scales];
} image_t;

static image_t image(void) {
    image_t found;
    memcpy(found.bytes, first, sizeof first);
    memcpy(found.bytes + sizeof first, second, sizeof second);
    memcpy(found.bytes + sizeof first + sizeof second, &update_steps, sizeof update_steps);
    memcpy(found.bytes + sizeof first + sizeof second + sizeof update_steps, scales, sizeof scales);
    return found;
}

static void wrong(const char *what, uint32_t save, uint32_t step) {
    fprintf(stderr, "%s (save %u, cut at step %u)\n", what, save, step);
    exit(1);
}

static bool load_as(const od_storage_t *storage, uint32_t which, uint32_t sequence, uint32_t save) {
    od_checkpoint_t found;
    const od_counters_t counters = be(save);
    const image_t expected = image();
    (void)be(9999);
    return od_checkpoint_find(storage, &model, which, &found) && found.sequence == sequence &&
           od_checkpoint_load(storage, &model, &found) == OD_OK &&
           memcmp(image().bytes, expected.bytes, sizeof expected.bytes) == 0 &&
           memcmp(&found.counters, &counters, sizeof counters) == 0 && found.update_steps == save;
}

static bool load_is(const od_storage_t *storage, uint32_t which, uint32_t save) {
    return load_as(storage, which, save, save);
}

/* Number of the best of the first `saves`, the latest of equal ones; 0: none is known. */
static uint32_t best_of(uint32_t saves, uint32_t seed) {
    uint32_t best = 0;
    for (uint32_t save = 1; save <= saves; save++) {
        if (run_of(save) == run_of(saves) && loss_of(save, seed) < 100.0f &&
            (best == 0 || loss_of(save, seed) <= loss_of(best, seed))) {
            best = save;
        }
    }
    return best;
}

static bool keeps_best;

/* Flash after `saves` whole ones holds them: newest and best, byte for byte. */
static bool holds(const od_storage_t *storage, uint32_t saves, uint32_t seed) {
    od_checkpoint_t found;
    if (saves == 0) {
        return !od_checkpoint_find(storage, &model, OD_CHECKPOINT_NEWEST, &found);
    }
    const uint32_t best = best_of(saves, seed);
    return load_is(storage, OD_CHECKPOINT_NEWEST, saves) &&
           (!keeps_best ||
            (best == 0 ? !od_checkpoint_find(storage, &model, OD_CHECKPOINT_BEST, &found)
                       : load_is(storage, OD_CHECKPOINT_BEST, best)));
}

static int32_t save_one(const od_storage_t *storage, uint32_t save, uint32_t seed) {
    uint32_t sequence = 0;
    const od_counters_t counters = be(save);
    const int32_t status =
        od_checkpoint_save(storage, &model, &counters, loss_of(save, seed), &sequence);
    return status == OD_OK && sequence != save ? -99 : status;
}

/* Saves; true where power went in the middle. */
static bool cut_save(nor_flash_t *flash, const od_storage_t *storage, uint32_t save, uint32_t seed,
                     uint32_t step) {
    jmp_buf off;
    flash->steps = 0;
    flash->cut_at = step;
    flash->off = &off;
    volatile bool cut = true;
    if (setjmp(off) == 0) {
        if (save_one(storage, save, seed) != OD_OK) {
            wrong("a save failed", save, step);
        }
        cut = false;
    }
    flash->cut_at = NOR_NEVER;
    return cut;
}

static void fill_garbage(nor_flash_t *flash) {
    for (uint32_t bank = 0; bank < OD_STORAGE_BANKS; bank++) {
        for (uint32_t i = 0; i < flash->bank_bytes; i++) {
            flash->bytes[bank][i] = (uint8_t)nor_draw(flash, 256);
            flash->state[bank][i / flash->unit_bytes] = NOR_PROGRAMMED;
        }
    }
}

static void fill_with_another_model(const od_storage_t *storage, uint32_t seed) {
    model.id[0] = 77;
    for (uint32_t save = 1; save <= 20; save++) {
        if (save_one(storage, save, seed) != OD_OK) {
            wrong("a save of the other model failed", save, 0);
        }
    }
    model.id[0] = 1;
}

/* Counts of the banks' headers are exact, or lower by no more than the cuts. */
static void check_wear(const nor_flash_t *flash, const od_storage_t *storage, uint32_t cuts,
                       uint32_t save, uint32_t step) {
    for (uint32_t bank = 0; bank < OD_STORAGE_BANKS; bank++) {
        const uint32_t counted = od_checkpoint_erases(storage, bank);
        if (counted > flash->erases[bank] ||
            (counted != 0 && counted + cuts < flash->erases[bank])) {
            fprintf(stderr, "bank %u: %u erases, counted %u, cuts %u\n", bank, flash->erases[bank],
                    counted, cuts);
            wrong("wear", save, step);
        }
    }
}

/* What a start finds is some save, whole, or nothing; and the next save is kept. */
static void check_damaged(const od_storage_t *storage, uint32_t saves, uint32_t seed, uint32_t at) {
    static const uint32_t wanted[] = {OD_CHECKPOINT_NEWEST, OD_CHECKPOINT_BEST};
    for (uint32_t i = 0; i < 2; i++) {
        od_checkpoint_t found;
        if (!od_checkpoint_find(storage, &model, wanted[i], &found)) {
            continue;
        }
        if (found.sequence > saves || !load_is(storage, wanted[i], found.sequence) ||
            (i == 1 && (loss_of(found.sequence, seed) > 100.0f ||
                        loss_of(found.sequence, seed) <
                            loss_of(best_of(last_of_run(found.sequence, saves), seed), seed)))) {
            wrong("damage was taken for a checkpoint", saves, at);
        }
    }
    uint32_t sequence = 0;
    const od_counters_t counters = be(saves + 1u);
    if (od_checkpoint_save(storage, &model, &counters, 1.0f, &sequence) != OD_OK ||
        sequence > saves + 1u || !load_as(storage, OD_CHECKPOINT_NEWEST, sequence, saves + 1u)) {
        wrong("no save after damage", saves, at);
    }
}

/* Changes one bit of every byte in turn, then makes every unit unreadable in turn. */
static uint32_t damage_all(const nor_flash_t *flash, uint32_t saves, uint32_t seed) {
    static nor_flash_t damaged;
    nor_init(&damaged, flash->bank_bytes, flash->unit_bytes);
    const od_storage_t storage = nor_storage(&damaged);
    uint32_t count = 0;
    for (uint32_t bank = 0; bank < OD_STORAGE_BANKS; bank++) {
        for (uint32_t at = 0; at < flash->bank_bytes; at++) {
            memcpy(&damaged, flash, sizeof damaged);
            damaged.bytes[bank][at] ^= (uint8_t)(1u << (at % 8u));
            check_damaged(&storage, saves, seed, at);
            count++;
        }
        for (uint32_t unit = 0; unit < flash->bank_bytes / flash->unit_bytes; unit++) {
            memcpy(&damaged, flash, sizeof damaged);
            damaged.unreadable[bank][unit] = 1;
            check_damaged(&storage, saves, seed, unit);
            memcpy(&damaged, flash, sizeof damaged);
            damaged.random = unit + 1u;
            if (damaged.state[bank][unit] == NOR_ERASED) {
                damaged.state[bank][unit] = NOR_WEAK; /* it will not take the next record */
                check_damaged(&storage, saves, seed, unit);
            }
            count++;
        }
    }
    return count;
}

int main(int argc, char **argv) {
    if (argc != 6) {
        return 2;
    }
    const uint32_t unit = (uint32_t)atoi(argv[1]);
    const uint32_t bank_bytes = (uint32_t)atoi(argv[2]);
    const uint32_t saves = (uint32_t)atoi(argv[3]);
    const uint32_t seed = (uint32_t)atoi(argv[4]);
    static nor_flash_t flash;  /* as it is without a cut */
    static nor_flash_t broken; /* the same after one */
    nor_init(&flash, bank_bytes, unit);
    nor_init(&broken, bank_bytes, unit);
    flash.random = seed * 7919u + 1u;
    const od_storage_t storage = nor_storage(&flash);
    const od_storage_t after = nor_storage(&broken);
    const bool erased = argv[5][0] == 'e';
    if (argv[5][0] == 'g') {
        fill_garbage(&flash);
    } else if (argv[5][0] == 'o') {
        fill_with_another_model(&storage, seed);
    }
    keeps_best = od_checkpoint_bytes(&storage, &model) <= od_checkpoint_room(&storage) / 2u;

    uint32_t cuts = 0, in_program = 0, in_erase = 0, torn = 0, second_cuts = 0;
    for (uint32_t save = 1; save <= saves; save++) {
        if (!holds(&storage, save - 1u, seed)) {
            wrong("not what was saved", save, 0);
        }
        bool cut = true;
        for (uint32_t step = 0; cut; step++) {
            memcpy(&broken, &flash, sizeof broken);
            broken.random = mix(seed + save * 977u, step) | 1u;
            cut = cut_save(&broken, &after, save, seed, step);
            cuts += cut ? 1 : 0;
            in_erase += cut && broken.cut_in_erase ? 1 : 0;
            in_program += cut && !broken.cut_in_erase ? 1 : 0;
            /* A start finds the one before or the one that was being written: it may be whole. */
            uint32_t done = save;
            if (!holds(&after, done, seed)) {
                done = save - 1u;
                torn += 1;
                if (!cut || !holds(&after, done, seed)) {
                    wrong("neither the newest nor the one before", save, step);
                }
            }
            uint32_t cuts_now = cut ? 1 : 0;
            /* It goes on, and power goes a second and a third time at some step. */
            for (uint32_t later = 0; later < LATER_SAVES; later++) {
                const uint32_t at =
                    later % 2u == 0 ? nor_draw(&broken, 3u * broken.steps + 2u) : NOR_NEVER;
                const bool again = cut_save(&broken, &after, done + 1u, seed, at);
                cuts_now += again ? 1 : 0;
                second_cuts += again ? 1 : 0;
                if (holds(&after, done + 1u, seed)) {
                    done++;
                } else if (!again || !holds(&after, done, seed)) {
                    wrong("lost by a later cut", done + 1u, at);
                }
            }
            check_wear(&broken, &after, cuts_now, save, step);
        }
        if (save_one(&storage, save, seed) != OD_OK) {
            wrong("a save failed", save, 0);
        }
        if (erased) {
            check_wear(&flash, &storage, 0, save, 0);
        }
    }
    const uint32_t damages = damage_all(&flash, saves, seed);
    printf("%u %u %u %u %u %u %u %u\n", cuts, in_program, in_erase, torn, second_cuts,
           flash.erases[0], flash.erases[1], damages);
    return 0;
}
