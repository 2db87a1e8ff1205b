/*
 * UEFI variables for trusted applications: the commands of OP-TEE's pseudo TA, and of the TA that passes them on.
 *
 * Names are in UCS-2 with a terminating zero, vendor GUIDs are 16 bytes in the order that UEFI has in memory.
 */

#ifndef PTA_UEFI_VARIABLES_H
#define PTA_UEFI_VARIABLES_H

/* The pseudo TA: for TAs only, the normal world's clients are refused. */
#define PTA_UEFI_VARIABLES_UUID \
	{ 0xf334b43e, 0xe6af, 0x4a07, \
	  { 0x90, 0x34, 0xda, 0xea, 0xee, 0xf5, 0xd0, 0xcf } }

/* The TA. */
#define TA_UEFI_VARIABLES_UUID \
	{ 0x6d0a7199, 0x9f73, 0x481f, \
	  { 0x81, 0x80, 0x72, 0xd4, 0x7b, 0x05, 0x74, 0x2a } }

/*
 * Results of all commands, besides TEE_SUCCESS:
 *
 * TEE_ERROR_STORAGE_NOT_AVAILABLE	there is no StMM (any more), or OP-TEE's manifest has no buffer of it
 * TEE_ERROR_COMMUNICATION		StMM has ended during the request
 * TEE_ERROR_BUSY			StMM served others for 10 seconds
 * TEE_ERROR_ITEM_NOT_FOUND		no such variable, or none after this one
 * TEE_ERROR_SHORT_BUFFER		the size is now what it takes
 * TEE_ERROR_STORAGE_NO_SPACE		the store is full
 * TEE_ERROR_EXCESS_DATA		more than one variable can have
 * TEE_ERROR_ACCESS_DENIED		read-only, or not at run time
 * TEE_ERROR_SECURITY			the signature is missing or wrong
 * TEE_ERROR_BAD_PARAMETERS		attributes that do not fit, an empty name, ...
 */

/*
 * GetVariable
 *
 * [in]  memref[0]	vendor GUID
 * [in]  memref[1]	name
 * [out] memref[2]	data
 * [out] value[3].a	attributes
 */
#define UEFI_VARIABLES_GET	0

/*
 * SetVariable; no data deletes
 *
 * [in]  memref[0]	vendor GUID
 * [in]  memref[1]	name
 * [in]  memref[2]	data
 * [in]  value[3].a	attributes
 */
#define UEFI_VARIABLES_SET	1

/*
 * GetNextVariableName; an empty name begins
 *
 * [in/out] memref[0]	vendor GUID
 * [in/out] memref[1]	name; its size is that of the buffer
 */
#define UEFI_VARIABLES_NEXT	2

#endif
