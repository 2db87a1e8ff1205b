/*
 * A TCG plugin for QEMU that counts executed instructions, for `cargo xtask bench`.
 *
 * Every instruction belongs to the first of the named ranges of physical addresses that it lies in; an operation is what happens between
 * two markers in the normal world or a partition, hints that the CPU takes as NOPs. Each gives one line in the output file:
 *
 *     sample <name>=<count> ...
 *
 * with a count for each range, for `other` (instructions in no range), and for what only the SPMC's are counted for: see
 * `counted_names`. With `profile=on`, before it `pc <address> <count>` for each instruction of the SPMC's image that it executed. The
 * line `boot` has the same counts: from power-on to the first instruction of the normal world. Counts are exact: they are
 * added per instruction, so that a block which an exception leaves early counts what it executed (only its cache lines are
 * taken as a whole).
 *
 * Arguments: out=FILE, profile=FIRST-END (of the SPMC's code), and ranges, NAME=FIRST-END: `spmc`, `el3`, `normal`, and
 * whatever names partitions have. An address in several ranges belongs to the one that is named first.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu.h"

EXPORT int qemu_plugin_version = 4;

/* --- Ranges ------------------------------------------------------------------------------------------------------ */

#define MAX_RANGES 16
#define OTHER MAX_RANGES
#define CLASSES (MAX_RANGES + 1)
/* The SPMC has executed ERET: if it runs next, an exception came before anyone else could execute an instruction. */
#define LEFT CLASSES
static struct {
    char name[32];
    uint64_t first, end;
} ranges[MAX_RANGES];
static size_t range_count;
/* Bytes of the machine's secure RAM. */
#define SECURE_RAM (UINT64_C(16) << 20)
/* Places of those that mean something here. */
static size_t spmc = OTHER, el3 = OTHER, normal = OTHER;

/* Where QEMU has EL3's memory, once something there was translated: what runs first there has addresses as they are. */
static uintptr_t el3_memory;

/*
 * The physical address of an instruction in secure RAM, which follows EL3's memory there; else the virtual one, which is the same in the normal world's
 * firmware. StMM inside OP-TEE has virtual addresses that are the normal world's physical ones.
 */
static uint64_t address_of(const struct qemu_plugin_insn *insn) {
    uint64_t address = qemu_plugin_insn_vaddr(insn);
    uintptr_t host = (uintptr_t)qemu_plugin_insn_haddr(insn);
    if (!el3_memory && host && address >= ranges[el3].first && address < ranges[el3].end) {
        el3_memory = host - (address - ranges[el3].first);
    }
    return el3_memory && host - el3_memory < SECURE_RAM ? ranges[el3].first + (host - el3_memory) : address;
}

static size_t class_of(uint64_t address) {
    for (size_t n = 0; n < range_count; n++) {
        if (address >= ranges[n].first && address < ranges[n].end) {
            return n;
        }
    }
    return OTHER;
}

/* --- Counters ---------------------------------------------------------------------------------------------------- */

/* What is counted of the SPMC besides its instructions. */
enum counted {
    EXCEPTIONS,        /* its entries from anywhere but EL3, which returns to it */
    ERET,              /* its returns to lower exception levels */
    SMC,               /* its calls of EL3 */
    ISB, DSB, DMB, SB, /* barriers */
    TLBI,              /* TLB invalidations */
    CACHE,             /* cache maintenance: DC and IC */
    MSR, MRS,          /* system registers written and read */
    ATOMICS,           /* exclusive stores, compare-and-swap, atomic memory operations */
    COUNTED
};
static const char *const counted_names[COUNTED] = {"exceptions", "eret", "smc", "isb", "dsb", "dmb", "sb", "tlbi", "cache", "msr", "mrs", "atomics"};

struct counts {
    uint64_t executed[CLASSES];
    uint64_t counted[COUNTED];
    uint64_t class; /* of the block that runs, or LEFT */
};

static struct qemu_plugin_scoreboard *scoreboard;
static struct counts at_begin;
static bool open, booted;
static FILE *out;

/* With profile=FIRST-END: executions of each instruction there. */
static struct qemu_plugin_scoreboard *profile;
static uint64_t profile_first, profile_words;
static uint64_t *profile_at_begin;

/* --- Cache lines ------------------------------------------------------------------------------------------------- */

/* Lines of 64 bytes that the SPMC has touched since the last marker (or power-on), and their pages: a hash table that a new epoch empties. */
#define LINE_SHIFT 6
#define PAGE_SHIFT 12
#define LINES (1u << 18)
#define CODE 1u
#define READ 2u
#define WRITTEN 4u
/* The entry is a page: in its number, and how it was touched. */
#define PAGE_ENTRY (UINT64_C(1) << 63)
#define PAGE 8u
static struct {
    uint64_t line;
    uint32_t epoch, touched;
} lines[LINES];
static uint32_t epoch = 1, lines_used;
static uint64_t code_lines, data_lines, written_lines, pages;

static void forget_lines(void) {
    epoch++;
    lines_used = 0;
    code_lines = data_lines = written_lines = pages = 0;
}

/* What was known of an entry before it was touched so. */
static uint32_t mark(uint64_t line, uint32_t how) {
    size_t at = (size_t)((line * 0x9e3779b97f4a7c15u) >> 46);
    while (lines[at].epoch == epoch && lines[at].line != line) {
        at = (at + 1) % LINES;
    }
    if (lines[at].epoch != epoch) {
        if (++lines_used > LINES / 2) {
            fputs("the operation touches more cache lines than the plugin can remember\n", out);
            lines_used = 0;
            return ~0u;
        }
        lines[at].line = line;
        lines[at].epoch = epoch;
        lines[at].touched = 0;
    }
    uint32_t before = lines[at].touched;
    lines[at].touched = before | how;
    return before;
}

static void touch(uint64_t line, uint32_t how) {
    uint32_t before = mark(line, how);
    if (!before) {
        pages += !mark(line >> (PAGE_SHIFT - LINE_SHIFT) | PAGE_ENTRY, PAGE);
    }
    code_lines += (how & CODE) && !(before & CODE);
    data_lines += (how & (READ | WRITTEN)) && !(before & (READ | WRITTEN));
    written_lines += (how & WRITTEN) && !(before & WRITTEN);
}

static void loaded_or_stored(unsigned vcpu, access_info info, uint64_t address, void *data) {
    (void)vcpu;
    (void)data;
    touch(address >> LINE_SHIFT, qemu_plugin_mem_is_store(info) ? WRITTEN : READ);
}

/* A block's lines: the first, and below it in the low byte how many follow. */
static void fetched(unsigned vcpu, void *data) {
    (void)vcpu;
    uint64_t first = (uintptr_t)data >> 8;
    for (uint64_t n = 0; n <= ((uintptr_t)data & 0xff); n++) {
        touch(first + n, CODE);
    }
}

/* --- Samples ----------------------------------------------------------------------------------------------------- */

static counter at(size_t offset) {
    return (counter){scoreboard, offset};
}

static void report(const char *what, const struct counts *from, const struct counts *to) {
    fputs(what, out);
    for (size_t n = 0; n < CLASSES; n++) {
        if (n < range_count || n == OTHER) {
            fprintf(out, " %s=%llu", n == OTHER ? "other" : ranges[n].name, (unsigned long long)(to->executed[n] - from->executed[n]));
        }
    }
    for (size_t n = 0; n < COUNTED; n++) {
        fprintf(out, " %s=%llu", counted_names[n], (unsigned long long)(to->counted[n] - from->counted[n]));
    }
    fprintf(out, " code_lines=%llu data_lines=%llu written_lines=%llu pages=%llu\n", (unsigned long long)code_lines, (unsigned long long)data_lines,
            (unsigned long long)written_lines, (unsigned long long)pages);
}

/* What was executed since the begin; since power-on before there was one. */
static void report_profile(unsigned vcpu) {
    const uint64_t *now = profile ? qemu_plugin_scoreboard_find(profile, vcpu) : NULL;
    for (uint64_t n = 0; profile && n < profile_words; n++) {
        if (now[n] != profile_at_begin[n]) {
            fprintf(out, "pc %#llx %llu\n", (unsigned long long)(profile_first + 4 * n),
                    (unsigned long long)(now[n] - profile_at_begin[n]));
        }
    }
}

static void begin(unsigned vcpu, void *data) {
    (void)data;
    at_begin = *(struct counts *)qemu_plugin_scoreboard_find(scoreboard, vcpu);
    open = true;
    forget_lines();
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
    report_profile(vcpu);
    report("sample", &at_begin, qemu_plugin_scoreboard_find(scoreboard, vcpu));
}

/* A block of another class than the last one runs. */
static void changed(unsigned vcpu, void *data) {
    static const struct counts zero;
    struct counts *counts = qemu_plugin_scoreboard_find(scoreboard, vcpu);
    size_t now = (uintptr_t)data;
    if (now == spmc && counts->class != el3) {
        counts->counted[EXCEPTIONS]++;
    }
    if (now == normal && !booted) {
        booted = true;
        report_profile(vcpu);
        report("boot", &zero, counts);
    }
    counts->class = now;
}

/* --- Instrumentation --------------------------------------------------------------------------------------------- */

/* As what an instruction of the SPMC is counted, or COUNTED. */
static enum counted kind_of(uint32_t opcode) {
    if (opcode == 0xd69f03e0 || (opcode & 0xfffffbff) == 0xd69f0bff) {
        return ERET; /* and ERETAA, ERETAB */
    }
    if ((opcode & 0xffe0001f) == 0xd4000003) {
        return SMC;
    }
    if ((opcode & 0xfffff01f) == 0xd503301f) {
        switch ((opcode >> 5) & 7) {
        case 4: return DSB;
        case 5: return DMB;
        case 6: return ISB;
        case 7: return SB;
        }
    }
    if ((opcode & 0xfffff3ff) == 0xd503323f) {
        return DSB; /* with nXS */
    }
    if ((opcode & 0xfff8e000) == 0xd5088000) {
        return TLBI;
    }
    /* SYS with CRn 7 and any CRm but 8 and 9, which translate addresses. */
    if ((opcode & 0xfff8f000) == 0xd5087000 && (opcode & 0xe00) != 0x800) {
        return CACHE;
    }
    if ((opcode & 0xfff00000) == 0xd5100000) {
        return MSR;
    }
    if ((opcode & 0xfff00000) == 0xd5300000) {
        return MRS;
    }
    return is_atomic_store(opcode) ? ATOMICS : COUNTED;
}

static void add(struct qemu_plugin_insn *insn, counter counter) {
    qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(insn, INLINE_ADD, counter, 1);
}

static void translated(plugin_id id, struct qemu_plugin_tb *block) {
    (void)id;
    /* A block does not cross a page, and ranges are made of pages. */
    uint64_t address = address_of(qemu_plugin_tb_get_insn(block, 0));
    size_t class = class_of(address), length = qemu_plugin_tb_n_insns(block);
    qemu_plugin_register_vcpu_tb_exec_cond_cb(block, changed, NO_REGISTERS, NOT_EQUAL, at(offsetof(struct counts, class)),
                                              class, (void *)(uintptr_t)class);
    if (class == spmc) {
        uint64_t first = address >> LINE_SHIFT, last = (address + 4 * length - 4) >> LINE_SHIFT;
        qemu_plugin_register_vcpu_tb_exec_cb(block, fetched, NO_REGISTERS, (void *)(uintptr_t)(first << 8 | (last - first)));
    }
    for (size_t n = 0; n < length; n++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(block, n);
        uint32_t opcode = 0;
        qemu_plugin_insn_data(insn, &opcode, sizeof opcode);
        if (class != spmc && class != el3 && (opcode == HINT_BEGIN || opcode == HINT_END)) {
            qemu_plugin_register_vcpu_insn_exec_cb(insn, opcode == HINT_BEGIN ? begin : end, NO_REGISTERS, NULL);
            continue;
        }
        add(insn, at(offsetof(struct counts, executed) + class * sizeof(uint64_t)));
        if (class != spmc) {
            continue;
        }
        enum counted kind = kind_of(opcode);
        if (kind != COUNTED) {
            add(insn, at(offsetof(struct counts, counted) + kind * sizeof(uint64_t)));
        }
        if (kind == ERET) {
            counter class_counter = at(offsetof(struct counts, class));
            qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(insn, INLINE_STORE, class_counter, LEFT);
        }
        qemu_plugin_register_vcpu_mem_cb(insn, loaded_or_stored, NO_REGISTERS, READS_AND_WRITES, NULL);
        uint64_t word = (qemu_plugin_insn_vaddr(insn) - profile_first) / 4;
        if (profile && word < profile_words) {
            add(insn, (counter){profile, word * sizeof(uint64_t)});
        }
    }
}

/* --- Arguments --------------------------------------------------------------------------------------------------- */

/* FIRST-END, at pages. */
static bool take_limits(const char *value, uint64_t *first, uint64_t *end) {
    char *dash, *rest;
    *first = strtoull(value, &dash, 0);
    if (*dash != '-') {
        return false;
    }
    *end = strtoull(dash + 1, &rest, 0);
    return !*rest && *end > *first && !((*first | *end) & 0xfff);
}

static bool take_range(const char *name, size_t length, const char *value) {
    if (range_count == MAX_RANGES || length >= sizeof ranges->name || !take_limits(value, &ranges[range_count].first, &ranges[range_count].end)) {
        return false;
    }
    memcpy(ranges[range_count].name, name, length);
    const struct {
        const char *name;
        size_t *place;
    } known[] = {{"spmc", &spmc}, {"el3", &el3}, {"normal", &normal}};
    for (size_t n = 0; n < sizeof known / sizeof *known; n++) {
        if (strcmp(ranges[range_count].name, known[n].name) == 0) {
            *known[n].place = range_count;
        }
    }
    range_count++;
    return true;
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv) {
    (void)info;
    for (int n = 0; n < argc; n++) {
        const char *value = strchr(argv[n], '=');
        size_t length = value ? (size_t)(value - argv[n]) : 0;
        bool taken = false;
        if (value && length == 3 && strncmp(argv[n], "out", length) == 0) {
            out = fopen(value + 1, "w");
            taken = out != NULL;
        } else if (value && length == 7 && strncmp(argv[n], "profile", length) == 0) {
            uint64_t end;
            taken = take_limits(value + 1, &profile_first, &end);
            profile_words = taken ? (end - profile_first) / 4 : 0;
        } else if (value) {
            taken = take_range(argv[n], length, value + 1);
        }
        if (!taken) {
            fprintf(stderr, "count: bad argument '%s'\n", argv[n]);
            return 1;
        }
    }
    if (!out || spmc == OTHER || el3 == OTHER || normal == OTHER) {
        fputs("count: an argument is missing: out, spmc, el3 or normal\n", stderr);
        return 1;
    }
    /* Whatever ends QEMU, what was counted is in the file. */
    setvbuf(out, NULL, _IOLBF, 1 << 16);
    scoreboard = qemu_plugin_scoreboard_new(sizeof(struct counts));
    if (profile_words) {
        profile = qemu_plugin_scoreboard_new(profile_words * sizeof(uint64_t));
        profile_at_begin = calloc(profile_words, sizeof(uint64_t));
        if (!profile_at_begin) {
            return 1;
        }
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
