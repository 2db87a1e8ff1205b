/*
 * A trusted application that keeps notes in secure storage.
 *
 * The client's memory may change at any time: names and bytes are copied first.
 */

#include <ta_notes.h>
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
	(void)types;
	(void)params;
	(void)session;
	return TEE_SUCCESS;
}

void TA_CloseSessionEntryPoint(void *session)
{
	(void)session;
}

static TEE_Result put(const char *name, size_t name_size, const void *bytes, size_t size)
{
	const uint32_t flags = TEE_DATA_FLAG_ACCESS_WRITE | TEE_DATA_FLAG_ACCESS_WRITE_META | TEE_DATA_FLAG_OVERWRITE;
	TEE_ObjectHandle object = TEE_HANDLE_NULL;
	TEE_Result res = TEE_CreatePersistentObject(TEE_STORAGE_PRIVATE, name, name_size, flags, TEE_HANDLE_NULL, bytes, size, &object);

	if (!res)
		TEE_CloseObject(object);
	return res;
}

static TEE_Result get(const char *name, size_t name_size, void *bytes, size_t room, size_t *size)
{
	TEE_ObjectHandle object = TEE_HANDLE_NULL;
	TEE_ObjectInfo info = { };
	TEE_Result res = TEE_OpenPersistentObject(TEE_STORAGE_PRIVATE, name, name_size, TEE_DATA_FLAG_ACCESS_READ, &object);

	if (res)
		return res;
	res = TEE_GetObjectInfo1(object, &info);
	if (!res) {
		*size = info.dataSize;
		res = info.dataSize > room ? TEE_ERROR_SHORT_BUFFER : TEE_ReadObjectData(object, bytes, info.dataSize, size);
	}
	TEE_CloseObject(object);
	return res;
}

TEE_Result TA_InvokeCommandEntryPoint(void *session, uint32_t command, uint32_t types, TEE_Param params[TEE_NUM_PARAMS])
{
	const bool writes = command == NOTES_PUT;
	const uint32_t expected = TEE_PARAM_TYPES(TEE_PARAM_TYPE_MEMREF_INPUT,
						  writes ? TEE_PARAM_TYPE_MEMREF_INPUT : TEE_PARAM_TYPE_MEMREF_OUTPUT,
						  TEE_PARAM_TYPE_NONE, TEE_PARAM_TYPE_NONE);
	char name[NOTE_NAME_LIMIT] = { };
	size_t name_size = params[0].memref.size;
	TEE_Result res = TEE_SUCCESS;
	void *bytes = NULL;
	size_t size = 0;

	(void)session;

	if (command != NOTES_PUT && command != NOTES_GET)
		return TEE_ERROR_NOT_SUPPORTED;
	if (types != expected || !name_size || name_size > sizeof(name))
		return TEE_ERROR_BAD_PARAMETERS;
	TEE_MemMove(name, params[0].memref.buffer, name_size);

	size = params[1].memref.size;
	if (writes && size > NOTE_LIMIT)
		return TEE_ERROR_EXCESS_DATA;
	bytes = TEE_Malloc(NOTE_LIMIT, TEE_MALLOC_FILL_ZERO);
	if (!bytes)
		return TEE_ERROR_OUT_OF_MEMORY;

	if (writes) {
		TEE_MemMove(bytes, params[1].memref.buffer, size);
		res = put(name, name_size, bytes, size);
	} else {
		res = get(name, name_size, bytes, size < NOTE_LIMIT ? size : NOTE_LIMIT, &size);
		if (!res)
			TEE_MemMove(params[1].memref.buffer, bytes, size);
		if (!res || res == TEE_ERROR_SHORT_BUFFER)
			params[1].memref.size = size;
	}
	TEE_Free(bytes);
	return res;
}
