/*
 * Commands of the TA that keeps notes: named bytes in its OP-TEE's secure storage. The same TA runs in both OP-TEEs.
 */

#ifndef TA_NOTES_H
#define TA_NOTES_H

#define TA_NOTES_UUID \
	{ 0x67d61991, 0xbca2, 0x4e71, \
	  { 0xab, 0x90, 0x7a, 0x1b, 0xaf, 0x1e, 0xbf, 0xf9 } }

/* Longest name, and most bytes, of a note */
#define NOTE_NAME_LIMIT		64
#define NOTE_LIMIT		4096

/*
 * Writes a note, in place of one of the same name.
 *
 * [in] memref[0]	name
 * [in] memref[1]	bytes
 */
#define NOTES_PUT	0

/*
 * Reads a note.
 *
 * [in]  memref[0]	name
 * [out] memref[1]	bytes
 *
 * TEE_ERROR_ITEM_NOT_FOUND if there is none. TEE_ERROR_SHORT_BUFFER: the size is now what it takes.
 */
#define NOTES_GET	1

#endif
