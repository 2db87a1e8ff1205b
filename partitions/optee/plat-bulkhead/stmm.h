/*
 * Requests to StMM, a partition beside OP-TEE under the same SPMC.
 */

#ifndef STMM_H
#define STMM_H

#include <stddef.h>
#include <stdint.h>
#include <tee_api_types.h>

/*
 * Gives the buffer that OP-TEE and StMM share, and its size in bytes.
 *
 * Returns TEE_ERROR_STORAGE_NOT_AVAILABLE if OP-TEE's manifest has none.
 */
TEE_Result stmm_buffer(void **buffer, size_t *size);

/*
 * Has StMM process the MM message at the start of the buffer, which has its answer in the end.
 *
 * One caller at a time. As long as StMM serves others the calling thread sleeps; when the normal world wants the core it
 * leaves, and goes on wherever that resumes it.
 *
 * Returns TEE_ERROR_STORAGE_NOT_AVAILABLE without StMM, TEE_ERROR_COMMUNICATION if it ends, TEE_ERROR_GENERIC if it refuses the
 * message, TEE_ERROR_BUSY if it served others for 10 seconds.
 */
TEE_Result stmm_request(void);

#endif
