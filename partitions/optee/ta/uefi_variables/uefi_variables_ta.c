/*
 * A trusted application that reads and writes UEFI variables for its client, through OP-TEE's pseudo TA.
 *
 * The client's memory may change at any time: the commands are carried out on copies.
 */

#include <pta_uefi_variables.h>
#include <tee_internal_api.h>
#include <tee_internal_api_extensions.h>

TEE_Result TA_CreateEntryPoint(void)
{
	return TEE_SUCCESS;
}

void TA_DestroyEntryPoint(void)
{
}

TEE_Result TA_OpenSessionEntryPoint(uint32_t types, TEE_Param params[TEE_NUM_PARAMS], void **session)
{
	const TEE_UUID pta = PTA_UEFI_VARIABLES_UUID;
	TEE_TASessionHandle handle = TEE_HANDLE_NULL;
	TEE_Result res = TEE_SUCCESS;

	(void)types;
	(void)params;

	res = TEE_OpenTASession(&pta, TEE_TIMEOUT_INFINITE, 0, NULL, &handle, NULL);
	if (!res)
		*session = handle;
	return res;
}

void TA_CloseSessionEntryPoint(void *session)
{
	TEE_CloseTASession(session);
}

/* Copies of the client's buffers; NULL for none. */
static TEE_Result copy_in(uint32_t types, TEE_Param params[TEE_NUM_PARAMS], TEE_Param copies[TEE_NUM_PARAMS])
{
	for (uint32_t n = 0; n < TEE_NUM_PARAMS; n++) {
		uint32_t type = TEE_PARAM_TYPE_GET(types, n);
		void *copy = NULL;

		copies[n] = params[n];
		if (type != TEE_PARAM_TYPE_MEMREF_INPUT && type != TEE_PARAM_TYPE_MEMREF_OUTPUT &&
		    type != TEE_PARAM_TYPE_MEMREF_INOUT)
			continue;
		copies[n].memref.buffer = NULL;
		if (!params[n].memref.size)
			continue;
		copy = TEE_Malloc(params[n].memref.size, TEE_MALLOC_FILL_ZERO);
		if (!copy)
			return TEE_ERROR_OUT_OF_MEMORY;
		if (type != TEE_PARAM_TYPE_MEMREF_OUTPUT)
			TEE_MemMove(copy, params[n].memref.buffer, params[n].memref.size);
		copies[n].memref.buffer = copy;
	}
	return TEE_SUCCESS;
}

static void copy_out(uint32_t types, TEE_Param copies[TEE_NUM_PARAMS], TEE_Param params[TEE_NUM_PARAMS], bool content)
{
	for (uint32_t n = 0; n < TEE_NUM_PARAMS; n++) {
		switch (TEE_PARAM_TYPE_GET(types, n)) {
		case TEE_PARAM_TYPE_MEMREF_OUTPUT:
		case TEE_PARAM_TYPE_MEMREF_INOUT:
			if (content && copies[n].memref.size <= params[n].memref.size)
				TEE_MemMove(params[n].memref.buffer, copies[n].memref.buffer, copies[n].memref.size);
			params[n].memref.size = copies[n].memref.size;
			break;
		case TEE_PARAM_TYPE_VALUE_OUTPUT:
			params[n].value = copies[n].value;
			break;
		default:
			break;
		}
	}
}

TEE_Result TA_InvokeCommandEntryPoint(void *session, uint32_t command, uint32_t types, TEE_Param params[TEE_NUM_PARAMS])
{
	TEE_Param copies[TEE_NUM_PARAMS] = { };
	TEE_Result res = copy_in(types, params, copies);

	if (!res)
		res = TEE_InvokeTACommand(session, TEE_TIMEOUT_INFINITE, command, types, copies, NULL);
	if (!res || res == TEE_ERROR_SHORT_BUFFER)
		copy_out(types, copies, params, !res);
	for (uint32_t n = 0; n < TEE_NUM_PARAMS; n++) {
		uint32_t type = TEE_PARAM_TYPE_GET(types, n);

		if (type >= TEE_PARAM_TYPE_MEMREF_INPUT)
			TEE_Free(copies[n].memref.buffer);
	}
	return res;
}
