/*
 * Uses one of two OP-TEEs: keeps notes in its secure storage, and shows that it is another one than its neighbour.
 *
 * Usage: neighbours DEVICE COMMAND, see usage() below. Exit status 0 if it was done; 1 and a line on standard error that
 * says why not; 2 for a mistake on the command line.
 */

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <pta_neighbour.h>
#include <pta_overreach.h>
#include <ta_notes.h>
#include <tee_client_api.h>

#include "die.h"

static TEEC_Context context;
static TEEC_Session session;

__attribute__((noreturn)) static void usage(void)
{
	die(2, "usage: neighbours DEVICE\n"
	       "  put NAME TEXT        keeps a note in secure storage\n"
	       "  get NAME             prints it\n"
	       "  ticks COUNT MS       counts interrupts of the second OP-TEE's own timer\n"
	       "  overreach ADDRESS    has this OP-TEE read secure memory at a physical address, if its manifest allows it\n"
	       "  borrow OTHER-DEVICE  opens a session here and uses it there");
}

/* What a result means to whoever asked. */
static const char *meaning(TEEC_Result result)
{
	switch (result) {
	case TEEC_ERROR_COMMUNICATION:
		return "this OP-TEE has ended: nothing of it until the next reset";
	case TEEC_ERROR_ITEM_NOT_FOUND:
		return "not found";
	case TEEC_ERROR_ACCESS_DENIED:
		return "this OP-TEE's manifest does not allow it";
	case TEEC_ERROR_BAD_PARAMETERS:
		return "no such session, or parameters that are not what they should be";
	case 0xf0100001: /* TEE_ERROR_CORRUPT_OBJECT */
	case 0xf0100002: /* TEE_ERROR_CORRUPT_OBJECT_2 */
	case TEEC_ERROR_SECURITY:
		return "what lies in the storage was not written by this OP-TEE";
	case 0xffff3001: /* TEE_ERROR_TIMEOUT */
		return "not all came in time";
	default:
		return "failed; the secure console says more";
	}
}

static void check(const char *what, TEEC_Result result, uint32_t origin)
{
	if (result)
		die(1, "%s: %s (%#x, origin %u)", what, meaning(result), result, origin);
}

/* libteec takes the first OP-TEE that there is, and another one cannot be named: what it has opened is exchanged. */
static TEEC_Context context_of(const char *device)
{
	TEEC_Context found;
	TEEC_Result result = TEEC_InitializeContext(NULL, &found);
	int fd = open(device, O_RDWR | O_CLOEXEC);

	if (result || fd < 0)
		die(1, "%s cannot be opened: no OP-TEE there (%#x)", device, result);
	close(found.imp.fd);
	found.imp.fd = fd;
	return found;
}

static void open_session(const char *device, TEEC_UUID uuid)
{
	uint32_t origin = 0;

	context = context_of(device);
	check("no session", TEEC_OpenSession(&context, &session, &uuid, TEEC_LOGIN_PUBLIC, NULL, NULL, &origin), origin);
}

static TEEC_Result note(TEEC_Session *with, uint32_t command, char *name, void *bytes, size_t *size, uint32_t *origin)
{
	TEEC_Operation operation = {
		.paramTypes = TEEC_PARAM_TYPES(TEEC_MEMREF_TEMP_INPUT, command == NOTES_PUT ? TEEC_MEMREF_TEMP_INPUT : TEEC_MEMREF_TEMP_OUTPUT,
					       TEEC_NONE, TEEC_NONE),
		.params[0].tmpref = { name, strlen(name) },
		.params[1].tmpref = { bytes, *size },
	};
	TEEC_Result result = TEEC_InvokeCommand(with, command, &operation, origin);

	*size = operation.params[1].tmpref.size;
	return result;
}

/* Two numbers in, one out: a command of a pseudo TA. */
static uint32_t ask(const char *device, TEEC_UUID uuid, uint32_t command, uint32_t a, uint32_t b)
{
	TEEC_Operation operation = {
		.paramTypes = TEEC_PARAM_TYPES(TEEC_VALUE_INPUT, TEEC_VALUE_OUTPUT, TEEC_NONE, TEEC_NONE),
		.params[0].value = { a, b },
	};
	uint32_t origin = 0;

	open_session(device, uuid);
	check("refused", TEEC_InvokeCommand(&session, command, &operation, &origin), origin);
	return operation.params[1].value.a;
}

static uint32_t number(const char *text)
{
	char *end = NULL;
	unsigned long value = strtoul(text, &end, 0);

	if (!*text || *end || value > UINT32_MAX)
		die(2, "'%s' is not a number", text);
	return value;
}

int main(int argc, char **argv)
{
	const char *command = argc > 2 ? argv[2] : "";
	char bytes[NOTE_LIMIT];
	size_t size = sizeof(bytes);
	uint32_t origin = 0;

	if (argc == 5 && !strcmp(command, "put")) {
		open_session(argv[1], (TEEC_UUID)TA_NOTES_UUID);
		size = strlen(argv[4]);
		check("not kept", note(&session, NOTES_PUT, argv[3], argv[4], &size, &origin), origin);
	} else if (argc == 4 && !strcmp(command, "get")) {
		open_session(argv[1], (TEEC_UUID)TA_NOTES_UUID);
		check("no note", note(&session, NOTES_GET, argv[3], bytes, &size, &origin), origin);
		printf("%.*s\n", (int)size, bytes);
	} else if (argc == 5 && !strcmp(command, "ticks")) {
		printf("%u\n", ask(argv[1], (TEEC_UUID)PTA_NEIGHBOUR_UUID, NEIGHBOUR_COUNT_TICKS, number(argv[3]), number(argv[4])));
	} else if (argc == 4 && !strcmp(command, "overreach")) {
		printf("%#x\n", ask(argv[1], (TEEC_UUID)PTA_OVERREACH_UUID, OVERREACH_READ, number(argv[3]), 0));
	} else if (argc == 4 && !strcmp(command, "borrow")) {
		TEEC_Context other = context_of(argv[3]);

		open_session(argv[1], (TEEC_UUID)TA_NOTES_UUID);
		/* The same session id, said to the other one. */
		session.imp.ctx = &other;
		check("refused", note(&session, NOTES_GET, argv[2], bytes, &size, &origin), origin);
	} else {
		usage();
	}
	return 0;
}
