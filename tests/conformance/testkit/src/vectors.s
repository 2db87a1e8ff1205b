// FP/SIMD, SVE and SME registers to and from memory. The program around is compiled without them.
.arch_extension fp
.arch_extension simd
.arch_extension sve
.arch_extension sme

.macro each_pair instruction
    \instruction q0, q1, [x0, #0]
    \instruction q2, q3, [x0, #32]
    \instruction q4, q5, [x0, #64]
    \instruction q6, q7, [x0, #96]
    \instruction q8, q9, [x0, #128]
    \instruction q10, q11, [x0, #160]
    \instruction q12, q13, [x0, #192]
    \instruction q14, q15, [x0, #224]
    \instruction q16, q17, [x0, #256]
    \instruction q18, q19, [x0, #288]
    \instruction q20, q21, [x0, #320]
    \instruction q22, q23, [x0, #352]
    \instruction q24, q25, [x0, #384]
    \instruction q26, q27, [x0, #416]
    \instruction q28, q29, [x0, #448]
    \instruction q30, q31, [x0, #480]
.endm

// void simd_load(const u64 words[66]): v0 to v31, FPSR, FPCR.
.section .text.simd_load, "ax"
.global simd_load
simd_load:
    each_pair ldp
    add     x0, x0, #512
    ldp     x1, x2, [x0]
    msr     fpsr, x1
    msr     fpcr, x2
    ret

// void simd_store(u64 words[66]).
.section .text.simd_store, "ax"
.global simd_store
simd_store:
    each_pair stp
    add     x0, x0, #512
    mrs     x1, fpsr
    mrs     x2, fpcr
    stp     x1, x2, [x0]
    ret

.macro each_z instruction
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    \instruction z\n, [x0, #\n, mul vl]
    .endr
.endm

// void sve_load(const u8 z[32 * VL], const u8 p[16 * VL / 8]), void ffr_load(const u8 p[VL / 8]), which changes p0.
.section .text.sve_load, "ax"
.global sve_load
sve_load:
    each_z  ldr
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    ldr     p\n, [x1, #\n, mul vl]
    .endr
    ret
.global ffr_load
ffr_load:
    ldr     p0, [x0]
    wrffr   p0.b
    ret

// void sve_store(u8 z[32 * VL], u8 p[16 * VL / 8]), void ffr_store(u8 p[VL / 8]), which changes p0.
.section .text.sve_store, "ax"
.global sve_store
sve_store:
    each_z  str
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    str     p\n, [x1, #\n, mul vl]
    .endr
    ret
.global ffr_store
ffr_store:
    rdffr   p0.b
    str     p0, [x0]
    ret

// u64 sve_bytes(): bytes of a z register.
.section .text.sve_bytes, "ax"
.global sve_bytes
sve_bytes:
    rdvl    x0, #1
    ret

// u64 za_bytes(): bytes of a row of ZA, and the number of rows.
.section .text.za_bytes, "ax"
.global za_bytes
za_bytes:
    rdsvl   x0, #1
    ret

// void za_enable(u64 on).
.section .text.za_enable, "ax"
.global za_enable
za_enable:
    cbz     x0, 1f
    smstart za
    ret
1:  smstop  za
    ret

// void streaming_enable(u64 on). Either way the vector registers are lost.
.section .text.streaming_enable, "ax"
.global streaming_enable
streaming_enable:
    cbz     x0, 1f
    smstart sm
    ret
1:  smstop  sm
    ret

// u64 read_svcr(): bit 0 streaming mode, bit 1 ZA.
.section .text.svcr, "ax"
.global read_svcr
read_svcr:
    mrs     x0, svcr
    ret

// void za_load_row(u64 row, const u8 *), void za_store_row(u64 row, u8 *).
.section .text.za_row, "ax"
.global za_load_row
za_load_row:
    mov     w12, w0
    ldr     za[w12, 0], [x1]
    ret
.global za_store_row
za_store_row:
    mov     w12, w0
    str     za[w12, 0], [x1]
    ret
