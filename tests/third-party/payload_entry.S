/* The normal world's start at NS-EL2. DROP_TO_EL1: goes on at NS-EL1, as a payload without EL2 code does. VHE: stays, with E2H set. */
	.section .text.entry, "ax"
	.global _start
_start:
	adrp	x9, bss_start
	adrp	x10, bss_end
0:	str	xzr, [x9], #8
	cmp	x9, x10
	b.lo	0b
	mov	x19, xzr
	adr	x20, payload_main
	b	enter

	.global secondary_start
secondary_start:
	/* x0 is what CPU_ON gave: the core's number */
	mov	x19, x0
	adr	x20, secondary_main

enter:
	adrp	x9, stacks_end
	sub	x21, x9, x19, lsl #12
#if defined(DROP_TO_EL1)
	mov	x9, #1 << 31			/* EL1 is AArch64 */
	msr	hcr_el2, x9
	mov	x9, #3				/* counters and timers are EL1's */
	msr	cnthctl_el2, x9
	msr	cntvoff_el2, xzr
	mov	x9, #0x22ff			/* FP, SVE and SME are not trapped */
	msr	cptr_el2, x9
	mov	x9, #0x3c5			/* EL1h, exceptions masked */
	msr	spsr_el2, x9
	adr	x9, 1f
	msr	elr_el2, x9
	mov	x9, #0x0800
	movk	x9, #0x30d0, lsl #16		/* SCTLR_EL1: MMU and caches off */
	msr	sctlr_el1, x9
	isb
	eret
1:
#elif defined(VHE)
	mov	x9, #1 << 31
	orr	x9, x9, #1 << 34		/* E2H */
	msr	hcr_el2, x9
	isb
#endif
	mov	sp, x21
	mov	x0, x19
	blr	x20
	b	.

	.global ffa_call
ffa_call:
	stp	x29, x30, [sp, #-32]!
	str	x19, [sp, #16]
	mov	x19, x0
	ldp	x0, x1, [x19]
	ldp	x2, x3, [x19, #16]
	ldp	x4, x5, [x19, #32]
	ldp	x6, x7, [x19, #48]
	ldp	x8, x9, [x19, #64]
	ldp	x10, x11, [x19, #80]
	ldp	x12, x13, [x19, #96]
	ldp	x14, x15, [x19, #112]
	ldp	x16, x17, [x19, #128]
	smc	#0
	stp	x0, x1, [x19]
	stp	x2, x3, [x19, #16]
	stp	x4, x5, [x19, #32]
	stp	x6, x7, [x19, #48]
	stp	x8, x9, [x19, #64]
	stp	x10, x11, [x19, #80]
	stp	x12, x13, [x19, #96]
	stp	x14, x15, [x19, #112]
	stp	x16, x17, [x19, #128]
	ldr	x19, [sp, #16]
	ldp	x29, x30, [sp], #32
	ret
