/*
 * What OP-TEE's TA dev kit wants to know about the TA.
 */

#ifndef USER_TA_HEADER_DEFINES_H
#define USER_TA_HEADER_DEFINES_H

#include <pta_uefi_variables.h>

#define TA_UUID		TA_UEFI_VARIABLES_UUID

/* An instance for each client */
#define TA_FLAGS	0
#define TA_STACK_SIZE	(8 * 1024)
/* A copy of whatever a client gives, which is 64 KiB or so */
#define TA_DATA_SIZE	(160 * 1024)

#define TA_VERSION	"1.0"
#define TA_DESCRIPTION	"UEFI variables, read and written from the secure world"

#endif
