// The first instructions of the three kinds of programs, their calls and their vectors. linker/s-el0.ld, s-el1.ld and
// ns-el2.ld choose one kind; what a program does not use is left out by the linker.
.equ FFA_SUCCESS, 0x84000061
.equ FFA_ERROR, 0x84000060
.equ FFA_MEM_PERM_SET_64, 0xC4000089
// FFA_MEM_PERM_SET: data access in bits 1..0, bit 2: never executed.
.equ PERM_RW, 5
.equ PERM_RO, 7

.section .text.first, "ax"
.global _start
_start:
    b       program_start

// Adds the load address to every pointer in the image's data. Clobbers x0 to x5.
.macro relocate
    adrp    x0, __image_start
    add     x0, x0, :lo12:__image_start
    adrp    x1, __rela_start
    add     x1, x1, :lo12:__rela_start
    adrp    x2, __rela_end
    add     x2, x2, :lo12:__rela_end
11: cmp     x1, x2
    b.hs    12f
    ldp     x3, x4, [x1]        // offset; type and symbol
    ldr     x5, [x1, #16]       // addend
    add     x1, x1, #24
    cmp     w4, #1027           // R_AARCH64_RELATIVE
    b.ne    11b
    add     x5, x5, x0
    str     x5, [x0, x3]
    b       11b
12:
.endm

.macro clear_bss
    adrp    x0, __bss_start
    add     x0, x0, :lo12:__bss_start
    adrp    x1, __bss_end
    add     x1, x1, :lo12:__bss_end
13: cmp     x0, x1
    b.hs    14f
    stp     xzr, xzr, [x0], #16
    b       13b
14:
.endm

// SP for stack number `index` (a register). Clobbers x0, x1.
.macro take_stack index
    adrp    x0, __stacks_start
    add     x0, x0, :lo12:__stacks_start
    add     x1, \index, #1
    add     x0, x0, x1, lsl #15
    mov     sp, x0
.endm

// ---- S-EL0: everything is read-only and executable, and there is no stack. x0: the boot information. The calls below settle
// the FF-A version on the manifest's.
.section .text.s_el0_start, "ax"
.global s_el0_start
s_el0_start:
    mov     x19, x0
    // All that is not code becomes writable, for the relocations.
    adrp    x20, __text_end
    adrp    x21, __ram_end
    sub     x2, x21, x20
    mov     x1, x20
    mov     x3, #PERM_RW
    bl      set_permissions
    relocate
    clear_bss
    adrp    x1, __text_end
    adrp    x2, __rodata_end
    subs    x2, x2, x1
    b.eq    1f
    mov     x3, #PERM_RO
    bl      set_permissions
1:  mov     x2, xzr
    take_stack x2
    mov     x29, xzr
    mov     x30, xzr
    mov     x0, x19
    bl      program_main
    b       .

// x1: address, x2: bytes, x3: permissions. Without them the partition cannot run: the failure ends its initialisation.
set_permissions:
    ldr     w0, =FFA_MEM_PERM_SET_64
    lsr     x2, x2, #12
    mov     x4, xzr
    mov     x5, xzr
    mov     x6, xzr
    mov     x7, xzr
    svc     #0
    ldr     w1, =FFA_SUCCESS
    cmp     w0, w1
    b.ne    1f
    ret
1:  ldr     w0, =FFA_ERROR
    mov     x1, xzr
    mov     x3, xzr
    svc     #0
    b       1b

// ---- S-EL1: MMU off. x0: the boot information.
.section .text.s_el1_start, "ax"
.global s_el1_start
s_el1_start:
    msr     daifset, #0xf
    mov     x19, x0
    relocate
    clear_bss
    mov     x20, xzr
    bl      s_el1_setup
    bl      s_el1_build_tables
    bl      s_el1_enable_mmu
    mov     x0, x19
    bl      program_main
    b       .

// Where FFA_SECONDARY_EP_REGISTER sends the other vCPUs. The SPMC numbers them in MPIDR_EL1's affinity, and in x0.
.global s_el1_secondary_start
s_el1_secondary_start:
    msr     daifset, #0xf
    and     x20, x0, #7
    bl      s_el1_setup
    bl      s_el1_enable_mmu
    mov     x0, x20
    bl      program_secondary
    b       .

// x20: index of the vCPU. Vectors, stack, FP/SIMD.
s_el1_setup:
    adrp    x0, el1_vectors
    add     x0, x0, :lo12:el1_vectors
    msr     vbar_el1, x0
    mov     x0, #(3 << 20)
    msr     cpacr_el1, x0
    msr     spsel, #1
    take_stack x20
    mov     x29, xzr
    isb
    ret

// Turns on the identity map that `mmu.rs` made: 39 bits of addresses, 4 KiB granule, write-back tables.
s_el1_enable_mmu:
    adrp    x0, S_EL1_ROOT
    add     x0, x0, :lo12:S_EL1_ROOT
    msr     ttbr0_el1, x0
    ldr     x0, =0x00ff         // attribute 0: normal write-back; attribute 1: device nGnRnE
    msr     mair_el1, x0
    ldr     x0, =0x200803519
    msr     tcr_el1, x0
    tlbi    vmalle1
    dsb     nsh
    isb
    ldr     x0, =0x30d01805     // RES1 bits, instruction and data caches, MMU
    msr     sctlr_el1, x0
    isb
    ret

// ---- NS-EL2: MMU off, entered by BL31 on the boot core.
.section .text.ns_el2_start, "ax"
.global ns_el2_start
ns_el2_start:
    msr     daifset, #0xf
    mov     x19, x0
    relocate
    clear_bss
    mov     x20, xzr
    bl      ns_el2_setup
    mov     x0, x19
    bl      program_main
    b       .

// Where PSCI CPU_ON sends the other cores; x0: their index, as given to CPU_ON.
.global ns_el2_secondary_start
ns_el2_secondary_start:
    msr     daifset, #0xf
    mov     x20, x0
    bl      ns_el2_setup
    mov     x0, x20
    bl      program_secondary
    b       .

ns_el2_setup:
    adrp    x0, el2_vectors
    add     x0, x0, :lo12:el2_vectors
    msr     vbar_el2, x0
    // AArch64 below, interrupts and asynchronous aborts to EL2.
    ldr     x0, =0x80000038
    msr     hcr_el2, x0
    msr     spsel, #1
    take_stack x20
    mov     x29, xzr
    isb
    ret

// ---- void conduit_X(u64 x[18]): one call with x0 to x17 in and out.
.macro conduit name, instruction
.section .text.\name, "ax"
.global \name
\name:
    stp     x29, x30, [sp, #-32]!
    str     x0, [sp, #16]
    ldp     x2, x3, [x0, #16]
    ldp     x4, x5, [x0, #32]
    ldp     x6, x7, [x0, #48]
    ldp     x8, x9, [x0, #64]
    ldp     x10, x11, [x0, #80]
    ldp     x12, x13, [x0, #96]
    ldp     x14, x15, [x0, #112]
    ldp     x16, x17, [x0, #128]
    ldp     x0, x1, [x0]
    \instruction #0
    ldr     x30, [sp, #16]
    stp     x0, x1, [x30]
    stp     x2, x3, [x30, #16]
    stp     x4, x5, [x30, #32]
    stp     x6, x7, [x30, #48]
    stp     x8, x9, [x30, #64]
    stp     x10, x11, [x30, #80]
    stp     x12, x13, [x30, #96]
    stp     x14, x15, [x30, #112]
    stp     x16, x17, [x30, #128]
    ldp     x29, x30, [sp], #32
    ret
.endm
conduit conduit_svc, svc
conduit conduit_hvc, hvc
conduit conduit_smc, smc

// ---- Accesses that may fault: u64 attempt_X(u64 address, u64 value, u64 *result): 0, or 1 after a fault that the program
// itself sees (el1_vectors, el2_vectors). A fault that a higher exception level sees does not come back.
.section .text.attempt, "ax"
.global attempt_read
attempt_read:
attempt_start:
    ldr     x0, [x0]
    str     x0, [x2]
    mov     x0, xzr
    ret
.global attempt_write
attempt_write:
    str     x1, [x0]
    dsb     sy
    mov     x0, xzr
    ret
.global attempt_execute
attempt_execute:
    stp     x29, x30, [sp, #-16]!
    blr     x0
    ldp     x29, x30, [sp], #16
    mov     x0, xzr
    ret
attempt_end:
attempt_faulted:
    mov     x0, #1
    ret

// ---- Vectors. A synchronous exception inside `attempt_*`, or by jumping from there, makes it return 1.
.macro save_volatile
    sub     sp, sp, #192
    stp     x0, x1, [sp, #0]
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x29, [sp, #144]
    str     x30, [sp, #160]
.endm
.macro restore_volatile
    ldp     x0, x1, [sp, #0]
    ldp     x2, x3, [sp, #16]
    ldp     x4, x5, [sp, #32]
    ldp     x6, x7, [sp, #48]
    ldp     x8, x9, [sp, #64]
    ldp     x10, x11, [sp, #80]
    ldp     x12, x13, [sp, #96]
    ldp     x14, x15, [sp, #112]
    ldp     x16, x17, [sp, #128]
    ldp     x18, x29, [sp, #144]
    ldr     x30, [sp, #160]
    add     sp, sp, #192
.endm

.macro vector target
.balign 0x80
    b       \target
.endm

.macro vectors_of el
.section .text.\el\()_vectors, "ax"
.balign 0x800
.global \el\()_vectors
\el\()_vectors:
    vector  \el\()_fatal
    vector  \el\()_fatal
    vector  \el\()_fatal
    vector  \el\()_fatal
    vector  \el\()_synchronous
    vector  \el\()_interrupt
    vector  \el\()_interrupt
    vector  \el\()_fatal
    .rept 8
    vector  \el\()_fatal
    .endr

\el\()_interrupt:
    save_volatile
    mrs     x0, elr_\el
    mrs     x1, spsr_\el
    stp     x0, x1, [sp, #176]
    bl      program_interrupt
    ldp     x0, x1, [sp, #176]
    msr     elr_\el, x0
    msr     spsr_\el, x1
    restore_volatile
    eret

\el\()_synchronous:
    stp     x0, x1, [sp, #-16]!
    adrp    x1, attempt_start
    add     x1, x1, :lo12:attempt_start
    mrs     x0, elr_\el
    cmp     x0, x1
    b.lo    1f
    adrp    x1, attempt_end
    add     x1, x1, :lo12:attempt_end
    cmp     x0, x1
    b.lo    2f
    // A jump out of attempt_execute faults at its target; the return address tells where it came from.
1:  mov     x0, x30
    adrp    x1, attempt_start
    add     x1, x1, :lo12:attempt_start
    cmp     x0, x1
    b.lo    3f
    adrp    x1, attempt_end
    add     x1, x1, :lo12:attempt_end
    cmp     x0, x1
    b.hs    3f
    mrs     x0, esr_\el
    lsr     x0, x0, #26
    cmp     x0, #0x21           // instruction abort without a change of level
    b.ne    3f
    ldp     x0, x1, [sp], #16
    ldp     x29, x30, [sp], #16
    b       4f
2:  ldp     x0, x1, [sp], #16
4:  adrp    x0, attempt_faulted
    add     x0, x0, :lo12:attempt_faulted
    msr     elr_\el, x0
    eret
3:  ldp     x0, x1, [sp], #16
\el\()_fatal:
    mrs     x0, esr_\el
    mrs     x1, elr_\el
    mrs     x2, far_\el
    bl      program_exception
    b       .
.endm
vectors_of el1
vectors_of el2
