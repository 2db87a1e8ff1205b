/*
 * Command of a pseudo TA that is there only if OP-TEE's manifest has the property bulkhead,overreach: whoever may use it can end the
 * partition. It belongs to tests.
 */

#ifndef PTA_OVERREACH_H
#define PTA_OVERREACH_H

#define PTA_OVERREACH_UUID \
	{ 0x3b7e50c1, 0x92ad, 0x4f16, \
	  { 0x8d, 0x24, 0xe1, 0x07, 0x5c, 0xb9, 0x60, 0x3a } }

/*
 * Reads a word of secure memory, whosever it is: of anybody else's, the SPMC ends the partition.
 *
 * [in]  value[0].a	physical address, aligned to 4 bytes
 * [out] value[1].a	the word
 */
#define OVERREACH_READ		0

#endif
