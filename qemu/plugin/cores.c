/*
 * A TCG plugin for QEMU that shows what cores cost each other in the SPMC, for `cargo xtask bench`.
 *
 * An operation is what a core of the normal world executes between two markers, as in count.c; here any number of cores may be in
 * one at the same time. Each gives a line in the output file when it ends:
 *
 *     sample <core> <instructions of the SPMC> <its atomic stores> <hand-overs>
 *
 * and before it `handover <address of the instruction> <address of the line> <times>` for each kind of hand-over in it. Instructions
 * and atomic stores beyond what the operation needs on a single core are waits for locks and failed attempts.
 *
 * A hand-over is an access of the SPMC to a line of 64 bytes in its own memory that a coherent cache of unlimited size would
 * have to get from another core's: a read of what another core has written since this one last had it, or a write to what another core
 * has a copy of. That a line is fetched from memory for the first time is none.
 *
 * Arguments: out=FILE, spmc=FIRST-END, normal=FIRST-END.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu.h"

EXPORT int qemu_plugin_version = 4;

/* --- Lines ------------------------------------------------------------------------------------------------------- */

#define LINE 64
#define MAX_CORES 8

struct range {
    uint64_t first, end;
};
static struct range spmc, normal;

/* For each line of the SPMC's memory, which cores have a valid copy: a bit each. */
static _Atomic uint8_t *copies;

/* --- Counters ---------------------------------------------------------------------------------------------------- */

struct counts {
    uint64_t executed;
    uint64_t atomics;
};
static struct qemu_plugin_scoreboard *scoreboard;

#define MAX_KINDS 256
/* What a core does in its operation; only its own thread touches it. */
static struct core {
    bool open;
    struct counts at_begin;
    size_t kinds;
    struct {
        uint64_t instruction, line, times;
    } handovers[MAX_KINDS];
} cores[MAX_CORES];

static FILE *out;
static pthread_mutex_t writing = PTHREAD_MUTEX_INITIALIZER;

static bool is_in(struct range range, uint64_t address) {
    return address >= range.first && address < range.end;
}

static void handed_over(struct core *core, uint64_t instruction, uint64_t line) {
    size_t n = 0;
    while (n < core->kinds && (core->handovers[n].instruction != instruction || core->handovers[n].line != line)) {
        n++;
    }
    if (n == MAX_KINDS) {
        /* Nobody would read on: what is counted last stands for the rest. */
        n--;
    } else if (n == core->kinds) {
        core->handovers[core->kinds++].times = 0;
    }
    core->handovers[n].instruction = instruction;
    core->handovers[n].line = line;
    core->handovers[n].times++;
}

static void accessed(unsigned vcpu, access_info access, uint64_t address, void *instruction) {
    if (vcpu >= MAX_CORES) {
        return;
    }
    uint64_t last = address + (1u << qemu_plugin_mem_size_shift(access)) - 1;
    uint8_t own = (uint8_t)(1u << vcpu);
    for (uint64_t line = address & ~(uint64_t)(LINE - 1); line <= last; line += LINE) {
        if (!is_in(spmc, line)) {
            continue;
        }
        _Atomic uint8_t *who = &copies[(line - spmc.first) / LINE];
        bool is_store = qemu_plugin_mem_is_store(access);
        uint8_t had = is_store ? atomic_exchange(who, own) : atomic_fetch_or(who, own);
        bool from_another = is_store ? (had & ~own) != 0 : had != 0 && !(had & own);
        if (from_another && cores[vcpu].open) {
            handed_over(&cores[vcpu], (uint64_t)(uintptr_t)instruction, line);
        }
    }
}

static void begin(unsigned vcpu, void *data) {
    (void)data;
    if (vcpu < MAX_CORES) {
        cores[vcpu].open = true;
        cores[vcpu].kinds = 0;
        cores[vcpu].at_begin = *(struct counts *)qemu_plugin_scoreboard_find(scoreboard, vcpu);
    }
}

static void end(unsigned vcpu, void *data) {
    (void)data;
    if (vcpu >= MAX_CORES || !cores[vcpu].open) {
        return;
    }
    struct core *core = &cores[vcpu];
    const struct counts *now = qemu_plugin_scoreboard_find(scoreboard, vcpu);
    uint64_t all = 0;
    core->open = false;
    pthread_mutex_lock(&writing);
    for (size_t n = 0; n < core->kinds; n++) {
        all += core->handovers[n].times;
        fprintf(out, "handover %#llx %#llx %llu\n", (unsigned long long)core->handovers[n].instruction,
                (unsigned long long)core->handovers[n].line, (unsigned long long)core->handovers[n].times);
    }
    fprintf(out, "sample %u %llu %llu %llu\n", vcpu, (unsigned long long)(now->executed - core->at_begin.executed),
            (unsigned long long)(now->atomics - core->at_begin.atomics), (unsigned long long)all);
    pthread_mutex_unlock(&writing);
}

/* --- Instrumentation --------------------------------------------------------------------------------------------- */

static void add(struct qemu_plugin_insn *insn, size_t offset) {
    qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(insn, INLINE_ADD, (counter){scoreboard, offset}, 1);
}

static void translated(plugin_id id, struct qemu_plugin_tb *block) {
    (void)id;
    /* A block does not cross a page, and ranges are made of pages. */
    bool is_spmc = is_in(spmc, qemu_plugin_tb_vaddr(block)), is_normal = is_in(normal, qemu_plugin_tb_vaddr(block));
    for (size_t n = 0; (is_spmc || is_normal) && n < qemu_plugin_tb_n_insns(block); n++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(block, n);
        uint32_t opcode = 0;
        qemu_plugin_insn_data(insn, &opcode, sizeof opcode);
        if (is_normal && (opcode == HINT_BEGIN || opcode == HINT_END)) {
            qemu_plugin_register_vcpu_insn_exec_cb(insn, opcode == HINT_BEGIN ? begin : end, NO_REGISTERS, NULL);
        }
        if (is_spmc) {
            add(insn, offsetof(struct counts, executed));
            if (is_atomic_store(opcode)) {
                add(insn, offsetof(struct counts, atomics));
            }
            void *address = (void *)(uintptr_t)qemu_plugin_insn_vaddr(insn);
            qemu_plugin_register_vcpu_mem_cb(insn, accessed, NO_REGISTERS, READS_AND_WRITES, address);
        }
    }
}

/* --- Arguments --------------------------------------------------------------------------------------------------- */

static bool take_range(struct range *range, const char *value) {
    char *dash, *rest;
    range->first = strtoull(value, &dash, 0);
    if (*dash != '-') {
        return false;
    }
    range->end = strtoull(dash + 1, &rest, 0);
    return !*rest && range->end > range->first && !((range->first | range->end) & 0xfff);
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv) {
    (void)info;
    for (int n = 0; n < argc; n++) {
        bool good = false;
        if (strncmp(argv[n], "out=", 4) == 0) {
            out = fopen(argv[n] + 4, "w");
            good = out;
        } else if (strncmp(argv[n], "spmc=", 5) == 0) {
            good = take_range(&spmc, argv[n] + 5);
        } else if (strncmp(argv[n], "normal=", 7) == 0) {
            good = take_range(&normal, argv[n] + 7);
        }
        if (!good) {
            fprintf(stderr, "cores: bad argument '%s'\n", argv[n]);
            return 1;
        }
    }
    copies = calloc((spmc.end - spmc.first) / LINE + 1, sizeof *copies);
    if (!out || !copies || !spmc.end || !normal.end) {
        fputs("cores: out, spmc and normal are needed\n", stderr);
        return 1;
    }
    /* Whatever ends QEMU, what was counted is in the file. */
    setvbuf(out, NULL, _IOLBF, 1 << 16);
    scoreboard = qemu_plugin_scoreboard_new(sizeof(struct counts));
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
