/* A plugin of QEMU: how often each instruction was executed, apart for each operator of a model.
 *
 * The firmware reads its counter at both ends of a training step and at every mark of the listing
 * (runtime/include/ondevice/trace.h). Each entry of the function that reads it ends a segment; the
 * first store into the profile after that says whose segment it was: word i is operator i. So a
 * segment has exactly the instructions that the firmware's own counter sees. Other segments, such
 * as the protocol's between two steps, belong to nobody and are dropped.
 *
 * Arguments: text=FIRST:END cut=ADDRESS profile=ADDRESS ops=COUNT out=FILE, numbers in hexadecimal.
 * Output, at exit: a line "operator address executed taken" for each instruction that ran; `taken`
 * is how often something else followed than the instruction behind it.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The part of QEMU's plugin API, version 1 (QEMU 4.2 to 8.2), that is used here. */
typedef uint64_t qemu_plugin_id_t;
typedef uint32_t qemu_plugin_meminfo_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS = 0 };
enum qemu_plugin_mem_rw { QEMU_PLUGIN_MEM_W = 2 };
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 = 0 };
typedef void (*qemu_plugin_tb_cb_t)(qemu_plugin_id_t id, struct qemu_plugin_tb *block);
typedef void (*qemu_plugin_exec_cb_t)(unsigned int cpu, void *data);
typedef void (*qemu_plugin_mem_cb_t)(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t address,
                                     void *data);
typedef void (*qemu_plugin_exit_cb_t)(qemu_plugin_id_t id, void *data);

extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, qemu_plugin_tb_cb_t cb);
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *block,
                                                 qemu_plugin_exec_cb_t cb,
                                                 enum qemu_plugin_cb_flags flags, void *data);
extern void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
                                                   qemu_plugin_exec_cb_t cb,
                                                   enum qemu_plugin_cb_flags flags, void *data);
extern void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *insn,
                                                       enum qemu_plugin_op op, void *counter,
                                                       uint64_t amount);
extern void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *insn, qemu_plugin_mem_cb_t cb,
                                             enum qemu_plugin_cb_flags flags,
                                             enum qemu_plugin_mem_rw access, void *data);
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, qemu_plugin_exit_cb_t cb,
                                           void *data);
extern bool qemu_plugin_mem_is_store(qemu_plugin_meminfo_t info);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *block,
                                                        size_t index);
extern uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
extern size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);

#define EXPORT __attribute__((visibility("default")))
EXPORT extern int qemu_plugin_version;
EXPORT int qemu_plugin_version = 1;
EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv);

/* Of one instruction; `slots` has one for each halfword of the code. */
typedef struct {
    uint64_t executed;
    uint64_t taken;
} counts_t;

/* A translated block, for telling which branches were taken. */
typedef struct {
    uint64_t first;
    uint64_t last; /* its last instruction */
    uint64_t end;
} block_t;

typedef struct {
    uint32_t slot;
    counts_t counts;
} entry_t;

static uint64_t text_first, text_end, cut_address, profile_address, ops;
static const char *out_path;
static uint32_t slot_count;
static counts_t *running;  /* [slot_count], since the last cut */
static entry_t *segment;   /* what ran between the last two cuts */
static uint32_t segment_n; /* 0: it has been given to an operator */
static counts_t *totals;   /* [ops][slot_count]; pages that nobody touches take no memory */
static const block_t *previous;

static bool in_text(uint64_t address) { return address >= text_first && address < text_end; }

static uint32_t slot_of(uint64_t address) { return (uint32_t)((address - text_first) / 2u); }

static void on_block(unsigned int cpu, void *data) {
    const block_t *block = data;
    (void)cpu;
    if (previous != NULL && previous->end != block->first) {
        running[slot_of(previous->last)].taken++;
    }
    previous = block;
}

static void on_cut(unsigned int cpu, void *data) {
    (void)cpu;
    (void)data;
    segment_n = 0;
    for (uint32_t slot = 0; slot < slot_count; slot++) {
        if (running[slot].executed != 0) {
            segment[segment_n++] = (entry_t){slot, running[slot]};
        }
    }
    memset(running, 0, slot_count * sizeof *running);
}

static void on_store(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t address, void *data) {
    (void)cpu;
    (void)data;
    const uint64_t op = (address - profile_address) / 4u;
    /* QEMU 7.2 reports loads as well, whatever access was asked for. */
    if (address < profile_address || op >= ops || !qemu_plugin_mem_is_store(info)) {
        return;
    }
    for (uint32_t i = 0; i < segment_n; i++) {
        counts_t *total = &totals[op * slot_count + segment[i].slot];
        total->executed += segment[i].counts.executed;
        total->taken += segment[i].counts.taken;
    }
    segment_n = 0;
}

static void on_translate(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
    (void)id;
    const size_t n = qemu_plugin_tb_n_insns(block);
    const uint64_t first = qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(block, 0));
    const struct qemu_plugin_insn *final = qemu_plugin_tb_get_insn(block, n - 1u);
    const uint64_t last = qemu_plugin_insn_vaddr(final);
    if (!in_text(first) || !in_text(last)) {
        return;
    }
    block_t *seen = malloc(sizeof *seen); /* as long as QEMU may run the block: for ever */
    if (seen == NULL) {
        abort();
    }
    *seen = (block_t){first, last, last + qemu_plugin_insn_size(final)};
    qemu_plugin_register_vcpu_tb_exec_cb(block, on_block, QEMU_PLUGIN_CB_NO_REGS, seen);
    for (size_t i = 0; i < n; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(block, i);
        const uint64_t address = qemu_plugin_insn_vaddr(insn);
        if (address == cut_address) {
            qemu_plugin_register_vcpu_insn_exec_cb(insn, on_cut, QEMU_PLUGIN_CB_NO_REGS, NULL);
        }
        qemu_plugin_register_vcpu_insn_exec_inline(insn, QEMU_PLUGIN_INLINE_ADD_U64,
                                                   &running[slot_of(address)].executed, 1);
        qemu_plugin_register_vcpu_mem_cb(insn, on_store, QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_MEM_W,
                                         NULL);
    }
}

static void write_totals(qemu_plugin_id_t id, void *data) {
    (void)id;
    (void)data;
    FILE *file = fopen(out_path, "w");
    if (file == NULL) {
        return; /* the reader sees that there is no file */
    }
    for (uint64_t op = 0; op < ops; op++) {
        for (uint32_t slot = 0; slot < slot_count; slot++) {
            const counts_t *total = &totals[op * slot_count + slot];
            if (total->executed != 0) {
                fprintf(file, "%" PRIu64 " %" PRIx64 " %" PRIu64 " %" PRIu64 "\n", op,
                        text_first + 2u * slot, total->executed, total->taken);
            }
        }
    }
    fclose(file);
}

static bool take_argument(char *argument) {
    char *value = strchr(argument, '=');
    if (value == NULL) {
        return false;
    }
    *value++ = '\0';
    if (strcmp(argument, "out") == 0) {
        out_path = strdup(value);
        return out_path != NULL;
    }
    char *rest = value;
    const uint64_t number = strtoull(value, &rest, 16);
    if (strcmp(argument, "text") == 0 && *rest == ':') {
        text_first = number;
        text_end = strtoull(rest + 1, &rest, 16);
    } else if (strcmp(argument, "cut") == 0) {
        cut_address = number;
    } else if (strcmp(argument, "profile") == 0) {
        profile_address = number;
    } else if (strcmp(argument, "ops") == 0) {
        ops = number;
    } else {
        return false;
    }
    return *rest == '\0';
}

int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv) {
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (!take_argument(argv[i])) {
            fprintf(stderr, "instruction_trace: bad argument %s\n", argv[i]);
            return -1;
        }
    }
    slot_count = slot_of(text_end);
    running = calloc(slot_count, sizeof *running);
    segment = calloc(slot_count, sizeof *segment);
    totals = calloc((size_t)ops * slot_count, sizeof *totals);
    if (out_path == NULL || running == NULL || segment == NULL || totals == NULL) {
        fprintf(stderr, "instruction_trace: an argument is missing, or not enough memory\n");
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
    qemu_plugin_register_atexit_cb(id, write_totals, NULL);
    return 0;
}
