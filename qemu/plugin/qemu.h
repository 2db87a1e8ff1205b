/*
 * What the plugins of this directory have in common: what they use of QEMU's plugin API, the markers of an operation, and which
 * instructions are atomic. Debian packages no qemu-plugin.h, so the few things that are used of API version 4 (QEMU 9.2 and
 * later) are declared here.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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
enum accesses { READS = 1, WRITES, READS_AND_WRITES };
/* What is known of a memory access: opaque. */
typedef uint32_t access_info;

typedef void (*on_execution)(unsigned vcpu, void *data);
typedef void (*on_access)(unsigned vcpu, access_info, uint64_t address, void *data);
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cond_cb(struct qemu_plugin_tb *, on_execution, enum registers, enum condition, counter,
                                               uint64_t, void *);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, on_execution, enum registers, void *);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *, on_access, enum registers, enum accesses, void *);
bool qemu_plugin_mem_is_store(access_info);
unsigned qemu_plugin_mem_size_shift(access_info);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, on_execution, enum registers, void *);
void qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(struct qemu_plugin_insn *, enum inline_operation, counter, uint64_t);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
/* Where QEMU itself has the instruction, if it is in memory. */
void *qemu_plugin_insn_haddr(const struct qemu_plugin_insn *);
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *, void *, size_t);
struct qemu_plugin_scoreboard *qemu_plugin_scoreboard_new(size_t);
void *qemu_plugin_scoreboard_find(struct qemu_plugin_scoreboard *, unsigned);

/* --- What the programs execute ----------------------------------------------------------------------------------- */

#define HINT_BEGIN 0xd5032fdfu /* HINT #0x7e */
#define HINT_END 0xd5032fffu   /* HINT #0x7f */

/* STXR, STLXR and pairs of them; CAS and CASP; LDADD and the like, SWP. */
static inline bool is_atomic_store(uint32_t opcode) {
    return (opcode & 0x3fc00000) == 0x08000000 || (opcode & 0x3fa07c00) == 0x08a07c00 || (opcode & 0xbfa07c00) == 0x08207c00 ||
           (opcode & 0x3f200c00) == 0x38200000;
}
