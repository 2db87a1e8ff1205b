// Entry from EL3, exception vectors of S-EL2, and the switch to a partition and back.
//
// Register use at the boot core's entry (TF-A's SPMD): x0 the SPMC manifest, x4 this core's linear index. MMU and data cache are off.

// Where stacks are mapped, 64 KiB from one's top to the next one's (mmu.rs).
.set STACKS, 0x0e000000
.set STACK_SIZE, 8192
// The map of S-EL2 (mmu.rs): attributes 0 normal write-back and 1 device nGnRE; 39-bit addresses, 4 KiB granule, write-back
// inner-shareable walks, RES1 bits 31 and 23; M, C, SA, I, WXN and the RES1 bits.
.set MAIR, 0x04ff
.set TCR, 25 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23 | 1 << 31
.set SCTLR, 0x30c50830 | 1 | 1 << 2 | 1 << 3 | 1 << 12 | 1 << 19
// Offsets in VcpuContext (context.rs asserts them).
.set CTX_ELR, 248
.set CTX_STACK, 264

.section .text.entry, "ax"
.global _start
_start:
    msr     daifset, #0xf
    mov     x19, x0
    mov     x20, x4
    // Zero .bss (whole pages), and drop what caches may hold of it: the MMU is off, so these writes go straight to memory.
    ldr     x0, =__bss_start
    ldr     x1, =__tables_end
1:  dc      ivac, x0
    add     x2, x0, #64
    dc      ivac, x2
    add     x2, x2, #64
    dc      ivac, x2
    add     x2, x2, #64
    dc      ivac, x2
    add     x0, x2, #64
    cmp     x0, x1
    b.lo    1b
    dsb     sy
    ldr     x0, =__bss_start
    ldr     x1, =__bss_end
2:  stp     xzr, xzr, [x0]
    stp     xzr, xzr, [x0, #16]
    stp     xzr, xzr, [x0, #32]
    stp     xzr, xzr, [x0, #48]
    stp     xzr, xzr, [x0, #64]
    stp     xzr, xzr, [x0, #80]
    stp     xzr, xzr, [x0, #96]
    stp     xzr, xzr, [x0, #112]
    add     x0, x0, #128
    cmp     x0, x1
    b.lo    2b
    bl      core_setup
    // Boot needs a deeper stack than anything later: it has those of all cores together.
    ldr     x0, =__stacks_end
    mov     sp, x0
    mov     x0, x19
    bl      primary_main
    bl      core_setup
    bl      primary_serve
    b       .

.global _secondary_start
_secondary_start:
    msr     daifset, #0xf
    // The SPMD sets x4 only before a core's first entry; after CPU_OFF it holds what the last message left there. On this
    // platform the index is affinity 0.
    mrs     x20, mpidr_el1
    and     x20, x20, #0xff
    // A core that there is no stack for.
    cmp     x20, #8
    b.hs    1f
    // No stack and no data before the MMU is on: caches that other cores have in use hold more than memory does.
    ldr     x0, =own_root
    ldr     x0, [x0]
    bl      2f
    bl      core_setup
    bl      secondary_main
1:  wfi
    b       1b

// void enable_mmu(u64 root): on the boot core, which leaves the root for the others. Uses no stack.
.global enable_mmu
enable_mmu:
    ldr     x1, =own_root
    str     x0, [x1]
2:  msr     ttbr0_el2, x0
    mov     x1, #MAIR
    msr     mair_el2, x1
    // Output addresses have 40 bits, or what the CPU has.
    mrs     x1, id_aa64mmfr0_el1
    and     x1, x1, #0xf
    mov     x2, #2
    cmp     x1, x2
    csel    x1, x1, x2, lo
    ldr     x2, =TCR
    orr     x1, x2, x1, lsl #16
    msr     tcr_el2, x1
    // What was written is there for walks, and nothing older than the map is left in the TLB, before it is used.
    dsb     ish
    tlbi    alle2is
    dsb     ish
    isb
    ldr     x1, =SCTLR
    msr     sctlr_el2, x1
    isb
    ret

.section .bss
.balign 8
own_root:
    .skip 8

// x20: core index. Sets vectors, TPIDR_EL2 and the core's own stack, for when the MMU is on.
.section .text.entry, "ax"
core_setup:
    msr     tpidr_el2, x20
    ldr     x0, =vectors
    msr     vbar_el2, x0
    mov     x0, #STACKS
    add     x2, x20, #1
    add     x0, x0, x2, lsl #16
    msr     spsel, #1
    mov     sp, x0
    isb
    ret

.text
// enter_guest: x0 = VcpuContext. Runs the vCPU until it stops; then x0 = 0 sync, 1 IRQ, 2 FIQ, 3 SError, x1 = ESR_EL2. Keeps x19,
// x29 and the stack pointer; the caller counts on no other register. While the vCPU runs, the stack pointer is its context:
// so the vectors need no register to find it.
.global enter_guest
enter_guest:
    stp     x29, x30, [sp, #-32]!
    str     x19, [sp, #16]
    mov     x1, sp
    str     x1, [x0, #CTX_STACK]
    mov     sp, x0
    ldp     x1, x2, [sp, #CTX_ELR]
    msr     elr_el2, x1
    msr     spsr_el2, x2
    ldp     x0, x1, [sp]
    ldp     x2, x3, [sp, #16]
    ldp     x4, x5, [sp, #32]
    ldp     x6, x7, [sp, #48]
    ldp     x8, x9, [sp, #64]
    ldp     x10, x11, [sp, #80]
    ldp     x12, x13, [sp, #96]
    ldp     x14, x15, [sp, #112]
    ldp     x16, x17, [sp, #128]
    ldp     x18, x19, [sp, #144]
    ldp     x20, x21, [sp, #160]
    ldp     x22, x23, [sp, #176]
    ldp     x24, x25, [sp, #192]
    ldp     x26, x27, [sp, #208]
    ldp     x28, x29, [sp, #224]
    ldr     x30, [sp, #240]
    eret
    // No straight-line speculation past the ERET.
    dsb     nsh
    isb

// u64 guest_copy(void *to, const void *from, u64 bytes): one side may be guest memory that the bus refuses; returns 0,
// or 1 after a fault. Uses no stack, and x16 and x17 not at all: the fault handler has those.
.global guest_copy
guest_copy:
guest_copy_start:
    orr     x3, x0, x1
    orr     x3, x3, x2
    tst     x3, #7
    b.ne    2f
0:  subs    x2, x2, #32
    b.lo    1f
    ldp     x4, x5, [x1], #16
    ldp     x6, x7, [x1], #16
    stp     x4, x5, [x0], #16
    stp     x6, x7, [x0], #16
    b       0b
1:  adds    x2, x2, #32
    b.eq    3f
4:  ldr     x4, [x1], #8
    str     x4, [x0], #8
    subs    x2, x2, #8
    b.ne    4b
    b       3f
2:  cbz     x2, 3f
    ldrb    w4, [x1], #1
    strb    w4, [x0], #1
    sub     x2, x2, #1
    b       2b
3:  mov     x0, #0
    ret
guest_copy_end:
guest_copy_fault:
    mov     x0, #1
    ret

// The way back from enter_guest.
.macro lower_vector kind
.balign 0x80
    stp     x0, x1, [sp]
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x19, [sp, #144]
    stp     x20, x21, [sp, #160]
    stp     x22, x23, [sp, #176]
    stp     x24, x25, [sp, #192]
    stp     x26, x27, [sp, #208]
    stp     x28, x29, [sp, #224]
    str     x30, [sp, #240]
    mrs     x1, elr_el2
    mrs     x2, spsr_el2
    stp     x1, x2, [sp, #CTX_ELR]
    mov     x0, #\kind
    mrs     x1, esr_el2
    ldr     x2, [sp, #CTX_STACK]
    mov     sp, x2
    ldr     x19, [sp, #16]
    ldp     x29, x30, [sp], #32
    ret
.endm

.macro fatal_vector kind
.balign 0x80
    mov     x16, #\kind
    b       fatal_exception
.endm

// Tables of vectors are aligned more than the rest: they are put together (linker/spmc.ld).
.section .text.vectors, "ax"
.balign 0x800
vectors:
    // Current EL with SP_EL0: never used.
    fatal_vector 0
    fatal_vector 1
    fatal_vector 2
    fatal_vector 3
    // Current EL with SP_EL2.
.balign 0x80
    mrs     x16, elr_el2
    adr     x17, guest_copy_start
    cmp     x16, x17
    b.lo    1f
    adr     x17, guest_copy_end
    cmp     x16, x17
    b.hs    1f
    adr     x17, guest_copy_fault
    msr     elr_el2, x17
    eret
1:  mov     x16, #0
    b       fatal_exception
    fatal_vector 1
    fatal_vector 2
    fatal_vector 3
    // Lower EL, AArch64.
    lower_vector 0
    lower_vector 1
    lower_vector 2
    lower_vector 3
    // Lower EL, AArch32: no partition may run there, an exception from it is reported like any other.
    lower_vector 0
    lower_vector 1
    lower_vector 2
    lower_vector 3

// Reports on the core's stack, below what is in use of it. If that is too much, or the stack pointer is elsewhere, the report
// begins at the stack's top, where it is mapped at its physical address in any case.
fatal_exception:
    mrs     x17, tpidr_el2
    add     x17, x17, #1
    mov     x18, #STACKS
    add     x18, x18, x17, lsl #16
    mov     x19, sp
    sub     x18, x18, x19
    lsr     x18, x18, #11
    cmp     x18, #STACK_SIZE / 2048 - 1
    b.hs    1f
    and     sp, x19, #~15
    b       2f
1:  ldr     x18, =__stacks_start
    mov     x20, #STACK_SIZE
    madd    x18, x17, x20, x18
    mov     sp, x18
2:  mov     x0, x16
    mrs     x1, esr_el2
    mrs     x2, elr_el2
    mrs     x3, far_el2
    mov     x4, x19
    bl      fatal_report
    b       .

// The vectors of EL1 in S-EL0 partitions: every exception that EL0 takes to EL1 goes on to S-EL2, which reads the
// EL1 syndrome. Their page is executable for a partition's EL1, which runs nothing but these, and invisible to its EL0; the
// rest of it is code like any other.
.section .text.vectors, "ax"
.balign 0x800
.global __forward_vectors
__forward_vectors:
.rept 16
.balign 0x80
    hvc     #0xb17
    b       .
.endr

// Run at secure EL1 once, to see whether the first instruction traps (interface_calls.rs): ICC_PMR_EL1.
.global __interface_access
__interface_access:
    mrs     x0, S3_0_C4_C6_0
    hvc     #0
    b       .
