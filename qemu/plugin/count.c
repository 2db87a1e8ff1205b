/*
 * A TCG plugin for QEMU that counts executed instructions, for `cargo xtask bench`.
 *
 * Every instruction belongs to the class whose address ranges it lies in; an operation is what the normal world executes
 * between two markers, hints that the CPU takes as NOPs. Each operation gives one line in the output file:
 *
 *     sample <spmc> <el3> <partition> <normal> <other> <exceptions> <barriers> <TLB invalidations>
 *
 * and, with `profile=on`, before it `pc <address> <count>` for each instruction of the SPMC that it executed. The line `boot`
 * has the same columns: from power-on to the first instruction of the normal world. Counts are exact: they are added per
 * instruction, so that a block which an exception leaves early counts what it executed.
 *
 * Arguments: out=FILE, spmc=FIRST-END, el3=..., partition=..., normal=... (any number of each), profile=on.
 * Debian packages no qemu-plugin.h, so the few things that are used of API version 4 (QEMU 9.2 and later) are declared here.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

/* --- What QEMU offers -------------------------------------------------------------------------------------------- */

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_plugin_scoreboard;
/* A 64-bit counter of each vCPU: a place in a structure that QEMU allocates for it. */
typedef struct {
    struct qemu_plugin_scoreboard *score;
    size_t offset;
} counter;
enum inline_operation { INLINE_ADD, INLINE_STORE };
enum condition { NEVER, ALWAYS, EQUAL, NOT_EQUAL };
enum registers { NO_REGISTERS };

typedef void (*executed)(unsigned vcpu, void *data);
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cond_cb(struct qemu_plugin_tb *, executed, enum registers, enum condition, counter,
                                               uint64_t, void *);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, executed, enum registers, void *);
void qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(struct qemu_plugin_insn *, enum inline_operation, counter, uint64_t);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *, void *, size_t);
struct qemu_plugin_scoreboard *qemu_plugin_scoreboard_new(size_t);
void *qemu_plugin_scoreboard_find(struct qemu_plugin_scoreboard *, unsigned);

EXPORT int qemu_plugin_version = 4;

/* --- Ranges ------------------------------------------------------------------------------------------------------ */

enum class { SPMC, EL3, PARTITION, NORMAL, OTHER, CLASSES };
/* The SPMC has executed ERET: if it runs next, an exception came before anyone else could execute an instruction. */
#define LEFT CLASSES
static const char *const class_names[CLASSES] = {"spmc", "el3", "partition", "normal", "other"};

#define MAX_RANGES 16
static struct {
    enum class class;
    uint64_t first, end;
} ranges[MAX_RANGES];
static size_t range_count;

static enum class class_of(uint64_t address) {
    for (size_t n = 0; n < range_count; n++) {
        if (address >= ranges[n].first && address < ranges[n].end) {
            return ranges[n].class;
        }
    }
    return OTHER;
}

/* --- Counters ---------------------------------------------------------------------------------------------------- */

struct counts {
    uint64_t executed[CLASSES];
    uint64_t exceptions;    /* entries of the SPMC from anywhere but EL3, which returns to it */
    uint64_t barriers;      /* DSB, DMB, ISB, SB of the SPMC */
    uint64_t invalidations; /* TLBI of the SPMC */
    uint64_t class;         /* of the block that runs, or LEFT */
};

static struct qemu_plugin_scoreboard *scoreboard;
static struct counts at_begin;
static bool open, booted;
static FILE *out;

/* With profile=on: executions of each instruction of the SPMC. */
static struct qemu_plugin_scoreboard *profile;
static uint64_t profile_first, profile_words;
static uint64_t *profile_at_begin;

static counter at(size_t offset) {
    return (counter){scoreboard, offset};
}

static void report(const char *what, const struct counts *from, const struct counts *to) {
    fputs(what, out);
    for (int n = 0; n < CLASSES; n++) {
        fprintf(out, " %llu", (unsigned long long)(to->executed[n] - from->executed[n]));
    }
    fprintf(out, " %llu %llu %llu\n", (unsigned long long)(to->exceptions - from->exceptions),
            (unsigned long long)(to->barriers - from->barriers), (unsigned long long)(to->invalidations - from->invalidations));
}

static void begin(unsigned vcpu, void *data) {
    (void)data;
    at_begin = *(struct counts *)qemu_plugin_scoreboard_find(scoreboard, vcpu);
    open = true;
    if (profile) {
        memcpy(profile_at_begin, qemu_plugin_scoreboard_find(profile, vcpu), profile_words * sizeof(uint64_t));
    }
}

static void end(unsigned vcpu, void *data) {
    (void)data;
    if (!open) {
        fputs("end without begin\n", out);
        return;
    }
    open = false;
    if (profile) {
        const uint64_t *now = qemu_plugin_scoreboard_find(profile, vcpu);
        for (uint64_t n = 0; n < profile_words; n++) {
            if (now[n] != profile_at_begin[n]) {
                fprintf(out, "pc %#llx %llu\n", (unsigned long long)(profile_first + 4 * n),
                        (unsigned long long)(now[n] - profile_at_begin[n]));
            }
        }
    }
    report("sample", &at_begin, qemu_plugin_scoreboard_find(scoreboard, vcpu));
}

/* A block of another class than the last one runs. */
static void changed(unsigned vcpu, void *data) {
    static const struct counts zero;
    struct counts *counts = qemu_plugin_scoreboard_find(scoreboard, vcpu);
    enum class now = (enum class)(uintptr_t)data;
    if (now == SPMC && counts->class != EL3) {
        counts->exceptions++;
    }
    if (now == NORMAL && !booted) {
        booted = true;
        report("boot", &zero, counts);
    }
    counts->class = now;
}

/* --- Instrumentation --------------------------------------------------------------------------------------------- */

#define HINT_BEGIN 0xd5032fdfu /* HINT #0x7e */
#define HINT_END 0xd5032fffu   /* HINT #0x7f */

static bool is_return(uint32_t opcode) {
    /* ERET, ERETAA, ERETAB */
    return opcode == 0xd69f03e0 || (opcode & 0xfffffbff) == 0xd69f0bff;
}

static bool is_barrier(uint32_t opcode) {
    return (opcode & 0xfffff01f) == 0xd503301f && ((opcode >> 5) & 7) >= 4;
}

static bool is_invalidation(uint32_t opcode) {
    return (opcode & 0xfff8e000) == 0xd5088000;
}

static void add(struct qemu_plugin_insn *insn, counter counter) {
    qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(insn, INLINE_ADD, counter, 1);
}

static void translated(plugin_id id, struct qemu_plugin_tb *block) {
    (void)id;
    /* A block does not cross a page, and ranges are made of pages. */
    enum class class = class_of(qemu_plugin_tb_vaddr(block));
    qemu_plugin_register_vcpu_tb_exec_cond_cb(block, changed, NO_REGISTERS, NOT_EQUAL, at(offsetof(struct counts, class)),
                                              class, (void *)(uintptr_t)class);
    for (size_t n = 0; n < qemu_plugin_tb_n_insns(block); n++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(block, n);
        uint32_t opcode = 0;
        qemu_plugin_insn_data(insn, &opcode, sizeof opcode);
        if (class == NORMAL && (opcode == HINT_BEGIN || opcode == HINT_END)) {
            qemu_plugin_register_vcpu_insn_exec_cb(insn, opcode == HINT_BEGIN ? begin : end, NO_REGISTERS, NULL);
            continue;
        }
        add(insn, at(offsetof(struct counts, executed) + class * sizeof(uint64_t)));
        if (class != SPMC) {
            continue;
        }
        if (is_return(opcode)) {
            counter class_counter = at(offsetof(struct counts, class));
            qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(insn, INLINE_STORE, class_counter, LEFT);
        }
        if (is_barrier(opcode)) {
            add(insn, at(offsetof(struct counts, barriers)));
        }
        if (is_invalidation(opcode)) {
            add(insn, at(offsetof(struct counts, invalidations)));
        }
        uint64_t word = (qemu_plugin_insn_vaddr(insn) - profile_first) / 4;
        if (profile && word < profile_words) {
            add(insn, (counter){profile, word * sizeof(uint64_t)});
        }
    }
}

/* --- Arguments --------------------------------------------------------------------------------------------------- */

static bool take_range(const char *name, size_t length, const char *value) {
    for (int n = 0; n < OTHER; n++) {
        if (strlen(class_names[n]) != length || strncmp(class_names[n], name, length) != 0) {
            continue;
        }
        char *dash, *rest;
        uint64_t first = strtoull(value, &dash, 0);
        if (*dash != '-' || range_count == MAX_RANGES) {
            return false;
        }
        uint64_t limit = strtoull(dash + 1, &rest, 0);
        if (*rest || limit <= first || ((first | limit) & 0xfff)) {
            return false;
        }
        ranges[range_count].class = n;
        ranges[range_count].first = first;
        ranges[range_count++].end = limit;
        if (n == SPMC) {
            profile_first = first;
            profile_words = (limit - first) / 4;
        }
        return true;
    }
    return false;
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv) {
    (void)info;
    bool wants_profile = false;
    for (int n = 0; n < argc; n++) {
        const char *value = strchr(argv[n], '=');
        size_t length = value ? (size_t)(value - argv[n]) : 0;
        if (value && length == 3 && strncmp(argv[n], "out", 3) == 0) {
            out = fopen(value + 1, "w");
        } else if (strcmp(argv[n], "profile=on") == 0) {
            wants_profile = true;
        } else if (!value || !take_range(argv[n], length, value + 1)) {
            fprintf(stderr, "count: bad argument '%s'\n", argv[n]);
            return 1;
        }
    }
    if (!out) {
        fputs("count: no output file\n", stderr);
        return 1;
    }
    /* Whatever ends QEMU, what was counted is in the file. */
    setvbuf(out, NULL, _IOLBF, 1 << 16);
    scoreboard = qemu_plugin_scoreboard_new(sizeof(struct counts));
    if (wants_profile) {
        profile = qemu_plugin_scoreboard_new(profile_words * sizeof(uint64_t));
        profile_at_begin = calloc(profile_words, sizeof(uint64_t));
        if (!profile_at_begin) {
            return 1;
        }
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
