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

#define CONDUIT smc
#include "ffa_call.S"
