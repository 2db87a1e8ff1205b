/* A partition's start: stack, zeroed memory, then sp_main(x0 to x3). */
#ifdef S_EL0
#define CONDUIT svc
#else
#define CONDUIT smc
#endif

	.section .text.entry, "ax"
	.global _start
_start:
	mov	x20, x0
	mov	x21, x1
	mov	x22, x2
	mov	x23, x3
#if defined(S_EL0) && !defined(SECTIONS_BY_MANIFEST)
	/* The image begins as code: data and stack are made writable before they are used (FFA_MEM_PERM_SET, read and write, never execute). */
	movz	x0, #0xc400, lsl #16
	movk	x0, #0x0089
	adrp	x1, data_start
	mov	x2, #(0x12000 - 0x5000) / 0x1000
	mov	x3, #5
	mov	x4, xzr
	mov	x5, xzr
	mov	x6, xzr
	mov	x7, xzr
	svc	#0
	movz	x1, #0x8400, lsl #16
	movk	x1, #0x0061
	cmp	w0, w1
	b.ne	.
#endif
	adrp	x9, bss_start
	adrp	x10, bss_end
0:	str	xzr, [x9], #8
	cmp	x9, x10
	b.lo	0b
	adrp	x9, stacks_end
	mov	sp, x9
	mov	x0, x20
	mov	x1, x21
	mov	x2, x22
	mov	x3, x23
	bl	sp_main
	b	.

#ifndef S_EL0
	/* Further cores: the affinity field is the core's number; each has a page of stack. */
	.global secondary_entry
secondary_entry:
	mrs	x19, mpidr_el1
	and	x19, x19, #0xff
	adrp	x9, stacks_end
	sub	x9, x9, x19, lsl #12
	mov	sp, x9
	bl	serve
	b	.
#endif

#include "ffa_call.S"
