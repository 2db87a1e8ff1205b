// memcpy, memmove and memset, in place of the compiler's, which move eight bytes in four instructions: the registers of a call
// are copied several times on their way, and two of these were half of a direct request.
//
// Before the MMU is on, memory is device memory and accesses have to be aligned: so words are moved only between addresses
// that are multiples of eight.

.text
// void *memcpy(void *to, const void *from, u64 bytes)
.global memcpy
memcpy:
    mov     x3, x0
    orr     x4, x0, x1
    tst     x4, #7
    b.ne    5f
    subs    x2, x2, #32
    b.lo    2f
1:  ldp     x4, x5, [x1], #16
    ldp     x6, x7, [x1], #16
    stp     x4, x5, [x3], #16
    stp     x6, x7, [x3], #16
    subs    x2, x2, #32
    b.hs    1b
2:  tbz     x2, #4, 3f
    ldp     x4, x5, [x1], #16
    stp     x4, x5, [x3], #16
3:  tbz     x2, #3, 4f
    ldr     x4, [x1], #8
    str     x4, [x3], #8
4:  and     x2, x2, #7
5:  cbz     x2, 7f
6:  ldrb    w4, [x1], #1
    strb    w4, [x3], #1
    subs    x2, x2, #1
    b.ne    6b
7:  ret

// void *memmove(void *to, const void *from, u64 bytes)
.global memmove
memmove:
    sub     x3, x0, x1
    cmp     x3, x2
    b.hs    memcpy              // from below, or apart: forwards, as every load comes before the stores that reach its bytes
    orr     x4, x0, x1
    orr     x4, x4, x2
    tst     x4, #7
    b.ne    2f
1:  sub     x2, x2, #8
    ldr     x4, [x1, x2]
    str     x4, [x0, x2]
    cbnz    x2, 1b
    ret
2:  sub     x2, x2, #1
    ldrb    w4, [x1, x2]
    strb    w4, [x0, x2]
    cbnz    x2, 2b
    ret

// void *memset(void *to, int byte, u64 bytes)
.global memset
memset:
    mov     x3, x0
    and     x1, x1, #0xff
    tst     x0, #7
    b.ne    5f
    mov     x4, #0x0101010101010101
    mul     x4, x1, x4
    subs    x2, x2, #32
    b.lo    2f
1:  stp     x4, x4, [x3], #16
    stp     x4, x4, [x3], #16
    subs    x2, x2, #32
    b.hs    1b
2:  tbz     x2, #4, 3f
    stp     x4, x4, [x3], #16
3:  tbz     x2, #3, 4f
    str     x4, [x3], #8
4:  and     x2, x2, #7
5:  cbz     x2, 7f
6:  strb    w1, [x3], #1
    subs    x2, x2, #1
    b.ne    6b
7:  ret
