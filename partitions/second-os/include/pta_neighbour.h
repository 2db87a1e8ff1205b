/*
 * Command of the pseudo TA that only the second OP-TEE has. It belongs to the demonstration.
 */

#ifndef PTA_NEIGHBOUR_H
#define PTA_NEIGHBOUR_H

#define PTA_NEIGHBOUR_UUID \
	{ 0xcd2e00ef, 0xbae2, 0x4a0e, \
	  { 0x83, 0x7c, 0x39, 0xc9, 0x26, 0x7b, 0x3e, 0x2a } }

/*
 * Counts interrupts of the partition's own timer.
 *
 * [in]  value[0].a	how many, up to 1000
 * [in]  value[0].b	milliseconds from one to the next, up to 1000
 * [out] value[1].a	how many came
 *
 * TEE_ERROR_TIMEOUT if not all came within 10 seconds more than they should take.
 */
#define NEIGHBOUR_COUNT_TICKS	0

#endif
