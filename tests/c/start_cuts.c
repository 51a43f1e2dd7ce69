/* Counts starts and saves checkpoints while the power is cut at random steps, and looks that no
 * number is given twice and that no checkpoint is lost for it.
 *
 * Arguments: unit_bytes, bank_bytes, starts, seed. Prints starts counted, cuts, of them in an
 * erase, saves, erases of both banks; exits with 0, or says what is wrong. */
#include "nor_flash.h"
#include "ondevice/checkpoint.h"
#include "ondevice/start_count.h"

static uint8_t weights[90];
static uint32_t update_steps;
static const od_parameter_t parameters[] = {
    {.name = "weights", .data = weights, .bytes = sizeof weights, .dtype = OD_UINT8},
};
static const od_model_t model = {
    .id = {1, 2, 3},
    .parameters = parameters,
    .parameter_count = 1,
    .update_steps = &update_steps,
};

static nor_flash_t flash;
static od_storage_t storage;
static uint32_t counted, cuts, cuts_in_erase, saves;
/* What must hold whatever happens: of what was done before the power went. */
static volatile uint32_t last_number, last_saved;

static void wrong(const char *what, uint32_t found, uint32_t wanted) {
    fprintf(stderr, "start %u: %s: %u, not %u\n", counted, what, found, wanted);
    exit(1);
}

/* One start: number it, then save a few times. */
static void run(void) {
    uint32_t number = 0;
    const int32_t status = od_starts_next(&storage, &model, &number);
    if (status < 0) {
        wrong("the start was not counted", (uint32_t)-status, 0);
    }
    if (number <= last_number) {
        wrong("a number that was given before", number, last_number + 1u);
    }
    last_number = number;
    counted++;
    /* Sometimes so many that both banks are erased in one life. */
    for (uint32_t n = nor_draw(&flash, nor_draw(&flash, 8) == 0 ? 80 : 8); n > 0; n--) {
        const od_counters_t counters = {0};
        uint32_t sequence = 0;
        memset(weights, (int)(saves & 0xFFu), sizeof weights);
        const float loss = (float)nor_draw(&flash, 100);
        const int32_t saved = od_checkpoint_save(&storage, &model, &counters, loss, &sequence);
        if (saved >= 0) {
            last_saved = sequence;
            saves++;
        }
    }
}

static void check_newest(void) {
    od_checkpoint_t newest;
    if (last_saved == 0) {
        return;
    }
    if (!od_checkpoint_find(&storage, &model, OD_CHECKPOINT_NEWEST, &newest)) {
        wrong("the newest checkpoint is lost", 0, last_saved);
    }
    if (newest.sequence < last_saved) {
        wrong("an older checkpoint is the newest", newest.sequence, last_saved);
    }
    if (od_starts_count(&storage) < last_number) {
        wrong("the count went back", od_starts_count(&storage), last_number);
    }
}

int main(int argc, char **argv) {
    if (argc != 5) {
        return 2;
    }
    nor_init(&flash, (uint32_t)atoi(argv[2]), (uint32_t)atoi(argv[1]));
    flash.random = (uint32_t)atoi(argv[4]) * 2654435761u + 1u;
    const od_storage_t whole = nor_storage(&flash);
    storage = od_starts_reserve(&whole);
    const uint32_t starts = (uint32_t)atoi(argv[3]);
    for (volatile uint32_t start = 0; start < starts; start++) {
        jmp_buf off;
        flash.off = &off;
        /* Now and then a whole life, mostly a short one: cut while it is counted, or soon after. */
        const uint32_t kind = nor_draw(&flash, 4);
        flash.steps = 0;
        flash.cut_at = kind == 0 ? NOR_NEVER : nor_draw(&flash, kind == 1 ? 2000 : 8);
        if (setjmp(off) == 0) {
            run();
        } else {
            cuts++;
            cuts_in_erase += flash.cut_in_erase ? 1 : 0;
        }
        flash.cut_at = NOR_NEVER;
        check_newest();
    }
    printf("%u %u %u %u %u\n", counted, cuts, cuts_in_erase, saves,
           flash.erases[0] + flash.erases[1]);
    return 0;
}
