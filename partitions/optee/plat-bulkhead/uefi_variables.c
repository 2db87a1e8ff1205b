/*
 * Pseudo TA through which TAs read and write UEFI variables, which StMM keeps.
 *
 * It packs each command into a message of EDK2's variable driver (MdeModulePkg/Include/Guid/SmmVariableCommon.h) and
 * judges the answer. Calls of a pseudo TA come one after the other, so the buffer is one caller's at a time.
 */

#include <kernel/pseudo_ta.h>
#include <kernel/user_access.h>
#include <pta_uefi_variables.h>
#include <string.h>
#include <trace.h>
#include <util.h>

#include "stmm.h"

#define GUID_BYTES		16

/* gEfiSmmVariableProtocolGuid, in memory order */
static const uint8_t variable_service[GUID_BYTES] = {
	0x33, 0xd5, 0x32, 0xed, 0xe6, 0x99, 0x09, 0x42,
	0x9c, 0xc0, 0x2d, 0x72, 0xcd, 0xd9, 0x98, 0xa7,
};

#define FUNCTION_GET		1
#define FUNCTION_NEXT		2
#define FUNCTION_SET		3
#define FUNCTION_PAYLOAD_SIZE	11

#define EFI_ERROR(code)		(BIT64(63) | (code))
#define EFI_INVALID_PARAMETER	EFI_ERROR(2)
#define EFI_BAD_BUFFER_SIZE	EFI_ERROR(4)
#define EFI_BUFFER_TOO_SMALL	EFI_ERROR(5)
#define EFI_WRITE_PROTECTED	EFI_ERROR(8)
#define EFI_OUT_OF_RESOURCES	EFI_ERROR(9)
#define EFI_NOT_FOUND		EFI_ERROR(14)
#define EFI_ACCESS_DENIED	EFI_ERROR(15)
#define EFI_SECURITY_VIOLATION	EFI_ERROR(26)

struct message {
	/* MM header */
	uint8_t service[GUID_BYTES];
	uint64_t length;
	/* Variable driver's header, the first of the length bytes */
	uint64_t function;
	uint64_t status;
	union {
		struct {
			uint8_t vendor[GUID_BYTES];
			uint64_t data_size;
			uint64_t name_size;
			uint32_t attributes;
			/* Name, then data */
			uint8_t name[];
		} __packed variable;
		struct {
			uint8_t vendor[GUID_BYTES];
			uint64_t name_size;
			uint8_t name[];
		} __packed next;
		uint64_t payload_size;
	};
} __packed;

/* EDK2 checks a message's end as if the MM header had this size: its structure has a byte of payload, and padding. */
#define MM_HEADER_BYTES	32

#define HEADER_BYTES	(offsetof(struct message, payload_size) - \
			 offsetof(struct message, function))
#define VARIABLE_BYTES	(offsetof(struct message, variable.name) - \
			 offsetof(struct message, payload_size))
#define NEXT_BYTES	(offsetof(struct message, next.name) - \
			 offsetof(struct message, payload_size))

static TEE_Result from_efi(uint64_t status)
{
	switch (status) {
	case 0:
		return TEE_SUCCESS;
	case EFI_INVALID_PARAMETER:
		return TEE_ERROR_BAD_PARAMETERS;
	case EFI_BAD_BUFFER_SIZE:
		return TEE_ERROR_EXCESS_DATA;
	case EFI_BUFFER_TOO_SMALL:
		return TEE_ERROR_SHORT_BUFFER;
	case EFI_WRITE_PROTECTED:
	case EFI_ACCESS_DENIED:
		return TEE_ERROR_ACCESS_DENIED;
	case EFI_OUT_OF_RESOURCES:
		return TEE_ERROR_STORAGE_NO_SPACE;
	case EFI_NOT_FOUND:
		return TEE_ERROR_ITEM_NOT_FOUND;
	case EFI_SECURITY_VIOLATION:
		return TEE_ERROR_SECURITY;
	default:
		EMSG("StMM's variable driver answers %#"PRIx64, status);
		return TEE_ERROR_GENERIC;
	}
}

/* How much of the buffer has been used by this command. */
static size_t used;

/* Sends the message with its payload of so many bytes; the result is StMM's own where the message got through. */
static TEE_Result exchange(struct message *m, uint64_t function, size_t payload)
{
	TEE_Result res = TEE_SUCCESS;

	memcpy(m->service, variable_service, sizeof(m->service));
	m->length = HEADER_BYTES + payload;
	used = MAX(used, offsetof(struct message, payload_size) + payload);
	m->function = function;
	/* It stays there if StMM finds the message too long. */
	m->status = EFI_BAD_BUFFER_SIZE;
	res = stmm_request();
	if (res)
		return res;
	if (m->function != function)
		return TEE_ERROR_COMMUNICATION;
	return from_efi(m->status);
}

/* How long a payload may be: StMM's limit, or what the buffer has room for. */
static TEE_Result payload_limit(struct message *m, size_t room, size_t *limit)
{
	static size_t known;
	TEE_Result res = TEE_SUCCESS;

	if (!known) {
		res = exchange(m, FUNCTION_PAYLOAD_SIZE, sizeof(m->payload_size));
		if (res)
			return res;
		known = MIN(m->payload_size, room - MM_HEADER_BYTES - HEADER_BYTES);
	}
	*limit = known;
	return TEE_SUCCESS;
}

/* GetVariable and SetVariable */
static TEE_Result access_variable(struct message *m, size_t limit, bool set, TEE_Param params[TEE_NUM_PARAMS])
{
	size_t name_size = params[1].memref.size;
	size_t data_size = params[2].memref.size;
	TEE_Result res = TEE_SUCCESS;

	if (params[0].memref.size != GUID_BYTES)
		return TEE_ERROR_BAD_PARAMETERS;
	if (limit < VARIABLE_BYTES || name_size > limit - VARIABLE_BYTES)
		return TEE_ERROR_EXCESS_DATA;
	if (data_size > limit - VARIABLE_BYTES - name_size) {
		if (set)
			return TEE_ERROR_EXCESS_DATA;
		/* No variable has more. */
		data_size = limit - VARIABLE_BYTES - name_size;
	}

	res = copy_from_user(m->variable.vendor, params[0].memref.buffer, GUID_BYTES);
	if (!res)
		res = copy_from_user(m->variable.name, params[1].memref.buffer, name_size);
	if (!res && set)
		res = copy_from_user(m->variable.name + name_size, params[2].memref.buffer, data_size);
	if (res)
		return res;
	m->variable.name_size = name_size;
	m->variable.data_size = data_size;
	m->variable.attributes = set ? params[3].value.a : 0;

	res = exchange(m, set ? FUNCTION_SET : FUNCTION_GET, VARIABLE_BYTES + name_size + data_size);
	if (set)
		return res;
	if (res == TEE_ERROR_SHORT_BUFFER)
		params[2].memref.size = m->variable.data_size;
	if (res)
		return res;
	if (m->variable.data_size > data_size)
		return TEE_ERROR_COMMUNICATION;
	data_size = m->variable.data_size;
	params[2].memref.size = data_size;
	params[3].value.a = m->variable.attributes;
	return copy_to_user(params[2].memref.buffer, m->variable.name + name_size, data_size);
}

/* GetNextVariableName */
static TEE_Result next_variable(struct message *m, size_t limit, TEE_Param params[TEE_NUM_PARAMS])
{
	size_t size = 0;
	TEE_Result res = TEE_SUCCESS;

	if (params[0].memref.size != GUID_BYTES || limit < NEXT_BYTES)
		return TEE_ERROR_BAD_PARAMETERS;
	/* No name is longer. */
	size = MIN(params[1].memref.size, ROUNDDOWN(limit - NEXT_BYTES, 2));
	if (size < 2 || size % 2)
		return TEE_ERROR_BAD_PARAMETERS;

	res = copy_from_user(m->next.vendor, params[0].memref.buffer, GUID_BYTES);
	if (!res)
		res = copy_from_user(m->next.name, params[1].memref.buffer, size);
	if (res)
		return res;
	/* StMM wants the buffer to end with a zero, wherever the name in it ends. */
	m->next.name[size - 2] = 0;
	m->next.name[size - 1] = 0;
	m->next.name_size = size;

	res = exchange(m, FUNCTION_NEXT, NEXT_BYTES + size);
	if (res == TEE_ERROR_SHORT_BUFFER)
		params[1].memref.size = m->next.name_size;
	if (res)
		return res;
	if (m->next.name_size > size)
		return TEE_ERROR_COMMUNICATION;
	size = m->next.name_size;
	params[1].memref.size = size;
	res = copy_to_user(params[0].memref.buffer, m->next.vendor, GUID_BYTES);
	if (res)
		return res;
	return copy_to_user(params[1].memref.buffer, m->next.name, size);
}

static TEE_Result invoke_command(void *session __unused, uint32_t command, uint32_t types,
				 TEE_Param params[TEE_NUM_PARAMS])
{
	const uint32_t in = TEE_PARAM_TYPE_MEMREF_INPUT;
	const uint32_t inout = TEE_PARAM_TYPE_MEMREF_INOUT;
	struct message *m = NULL;
	TEE_Result res = TEE_SUCCESS;
	uint32_t expected = 0;
	size_t limit = 0;
	size_t room = 0;
	void *buffer = NULL;

	switch (command) {
	case UEFI_VARIABLES_GET:
		expected = TEE_PARAM_TYPES(in, in, TEE_PARAM_TYPE_MEMREF_OUTPUT, TEE_PARAM_TYPE_VALUE_OUTPUT);
		break;
	case UEFI_VARIABLES_SET:
		expected = TEE_PARAM_TYPES(in, in, in, TEE_PARAM_TYPE_VALUE_INPUT);
		break;
	case UEFI_VARIABLES_NEXT:
		expected = TEE_PARAM_TYPES(inout, inout, TEE_PARAM_TYPE_NONE, TEE_PARAM_TYPE_NONE);
		break;
	default:
		return TEE_ERROR_NOT_SUPPORTED;
	}
	if (types != expected)
		return TEE_ERROR_BAD_PARAMETERS;

	res = stmm_buffer(&buffer, &room);
	if (res)
		return res;
	m = buffer;
	res = payload_limit(m, room, &limit);
	if (!res) {
		if (command == UEFI_VARIABLES_NEXT)
			res = next_variable(m, limit, params);
		else
			res = access_variable(m, limit, command == UEFI_VARIABLES_SET, params);
	}
	/* StMM obeys whoever names this buffer to it: nothing that was said here is to be said again. */
	memset(buffer, 0, used);
	used = 0;
	return res;
}

static TEE_Result open_session(uint32_t types __unused, TEE_Param params[TEE_NUM_PARAMS] __unused,
			       void **session __unused)
{
	struct ts_session *caller = ts_get_calling_session();

	/* The normal world has UEFI's own services. */
	return caller && is_user_ta_ctx(caller->ctx) ? TEE_SUCCESS : TEE_ERROR_ACCESS_DENIED;
}

pseudo_ta_register(.uuid = PTA_UEFI_VARIABLES_UUID, .name = "uefi_variables.pta",
		   .flags = PTA_DEFAULT_FLAGS,
		   .open_session_entry_point = open_session,
		   .invoke_command_entry_point = invoke_command);
