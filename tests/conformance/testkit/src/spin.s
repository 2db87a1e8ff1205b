// u64 spin_registers(u64 turns, u64 seed): x2 to x17 and x19 to x28 hold seed + their number while it counts; returns how
// many of them are wrong afterwards.
.section .text.spin_registers, "ax"
.global spin_registers
spin_registers:
    stp     x19, x20, [sp, #-80]!
    stp     x21, x22, [sp, #16]
    stp     x23, x24, [sp, #32]
    stp     x25, x26, [sp, #48]
    stp     x27, x28, [sp, #64]
    .irp n, 2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,19,20,21,22,23,24,25,26,27,28
    add     x\n, x1, #\n
    .endr
1:  subs    x0, x0, #1
    b.hi    1b
    mov     x0, xzr
    .irp n, 2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,19,20,21,22,23,24,25,26,27,28
    sub     x\n, x\n, #\n
    cmp     x\n, x1
    cinc    x0, x0, ne
    .endr
    ldp     x21, x22, [sp, #16]
    ldp     x23, x24, [sp, #32]
    ldp     x25, x26, [sp, #48]
    ldp     x27, x28, [sp, #64]
    ldp     x19, x20, [sp], #80
    ret
