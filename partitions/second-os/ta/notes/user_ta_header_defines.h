/*
 * What OP-TEE's TA dev kit wants to know about the TA.
 */

#ifndef USER_TA_HEADER_DEFINES_H
#define USER_TA_HEADER_DEFINES_H

#include <ta_notes.h>

#define TA_UUID		TA_NOTES_UUID

/* An instance for each client */
#define TA_FLAGS	0
#define TA_STACK_SIZE	(4 * 1024)
/* A copy of a note */
#define TA_DATA_SIZE	(16 * 1024)

#define TA_VERSION	"1.0"
#define TA_DESCRIPTION	"Notes, in secure storage"

#endif
