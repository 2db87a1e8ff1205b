/*
 * Reads and writes UEFI variables through the trusted application that OP-TEE runs (partitions/optee/ta): the same store
 * as efivarfs, by another way.
 *
 * Usage: ta-variables COMMAND, see usage() below. Values are on standard input and output, bytes as they are. Exit
 * status 0 if it was done; 1 and a line on standard error that says why not; 2 for a mistake on the command line.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include <pta_uefi_variables.h>
#include <tee_client_api.h>

#include "die.h"

/* Attributes: non-volatile, boot service and run time access */
#define NV_RT		7
#define NAME_LIMIT	256
/* More than StMM takes */
#define VALUE_LIMIT	65536

/* Vendor of the demonstration's variables, as in partitions/linux/guest/efivars */
static const char *const default_vendor = "6f1e5c0a-3b7d-4c52-9a84-2d1f0b97c6e5";

static TEEC_Context context;
static TEEC_Session session;

struct variable {
	uint8_t vendor[16];
	uint16_t name[NAME_LIMIT];
	size_t name_bytes;
};

__attribute__((noreturn)) static void usage(void)
{
	die(2, "usage:\n"
	       "  get NAME [VENDOR]               prints the value\n"
	       "  short NAME BYTES                reads into a buffer of so many bytes\n"
	       "  attributes NAME [VENDOR]        prints the attributes, as a number\n"
	       "  put NAME ATTRIBUTES [VENDOR]    writes standard input\n"
	       "  delete NAME [VENDOR]\n"
	       "  list                            prints NAME-VENDOR of all variables\n"
	       "  fill PREFIX BYTES               writes PREFIX0, PREFIX1, ... until that is refused; prints how many\n"
	       "  empty PREFIX COUNT              deletes that many of them\n"
	       "  stress ta|efivarfs SECONDS WRITES\n"
	       "                                  reads all the time and writes so often a second, by either way; checks each\n"
	       "  pseudo-ta                       asks OP-TEE's pseudo TA itself, which is for TAs only");
}

/* What a result means to whoever asked. */
static const char *meaning(TEEC_Result result)
{
	switch (result) {
	case 0xf0100003: /* TEE_ERROR_STORAGE_NOT_AVAILABLE */
		return "StMM is not there or has ended, or OP-TEE's manifest has no buffer of it";
	case TEEC_ERROR_COMMUNICATION:
		return "StMM has ended meanwhile: no variables until the next reset";
	case TEEC_ERROR_BUSY:
		return "StMM served others for 10 seconds";
	case TEEC_ERROR_ITEM_NOT_FOUND:
		return "not found";
	case TEEC_ERROR_SHORT_BUFFER:
		return "the value is longer than the buffer";
	case 0xffff3041: /* TEE_ERROR_STORAGE_NO_SPACE */
		return "no space left in the variable store";
	case TEEC_ERROR_EXCESS_DATA:
		return "more than one variable can have";
	case TEEC_ERROR_ACCESS_DENIED:
		return "not permitted: read-only, or not for run time";
	case TEEC_ERROR_SECURITY:
		return "the signature is missing or wrong";
	case TEEC_ERROR_BAD_PARAMETERS:
		return "name, attributes or size are not what they should be";
	case TEEC_ERROR_OUT_OF_MEMORY:
		return "out of memory in OP-TEE";
	case TEEC_ERROR_TARGET_DEAD:
		return "the trusted application has ended";
	default:
		return "failed; the secure console says more";
	}
}

static TEEC_Result open_session(TEEC_UUID uuid, uint32_t *origin)
{
	TEEC_Result result = TEEC_InitializeContext(NULL, &context);

	if (result)
		die(1, "no OP-TEE: /dev/tee0 cannot be opened (%#x)", result);
	return TEEC_OpenSession(&context, &session, &uuid, TEEC_LOGIN_PUBLIC, NULL, NULL, origin);
}

static void open_ta(void)
{
	TEEC_UUID uuid = TA_UEFI_VARIABLES_UUID;
	uint32_t origin = 0;
	TEEC_Result result = open_session(uuid, &origin);

	if (result == TEEC_ERROR_ITEM_NOT_FOUND)
		die(1, "OP-TEE finds no trusted application for variables, or has no pseudo TA for it (%#x, origin %u)", result, origin);
	if (result)
		die(1, "no session with the trusted application: %s (%#x, origin %u)", meaning(result), result, origin);
}

/* 11223344-5566-7788-99aa-bbccddeeff00 is 44 33 22 11 66 55 88 77 99 aa ... in memory. */
static void parse_vendor(const char *text, uint8_t out[16])
{
	static const uint8_t place[16] = { 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15 };
	const char *at = text;

	for (int n = 0; n < 16; n++) {
		unsigned int byte = 0;

		if (*at == '-')
			at++;
		if (sscanf(at, "%2x", &byte) != 1 || !at[0] || !at[1])
			die(2, "'%s' is not a GUID", text);
		out[place[n]] = byte;
		at += 2;
	}
	if (*at)
		die(2, "'%s' is not a GUID", text);
}

static void print_vendor(const uint8_t v[16])
{
	printf("%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", v[3], v[2], v[1], v[0], v[5], v[4], v[7],
	       v[6], v[8], v[9], v[10], v[11], v[12], v[13], v[14], v[15]);
}

static struct variable named(const char *name, const char *vendor)
{
	struct variable v = { 0 };
	size_t length = strlen(name);

	if (length >= NAME_LIMIT)
		die(2, "a name has %d characters at most", NAME_LIMIT - 1);
	for (size_t n = 0; n < length; n++)
		v.name[n] = (unsigned char)name[n];
	v.name_bytes = 2 * (length + 1);
	parse_vendor(vendor ? vendor : default_vendor, v.vendor);
	return v;
}

static TEEC_Result get(const struct variable *v, void *data, size_t *size, uint32_t *attributes)
{
	TEEC_Operation operation = {
		.paramTypes = TEEC_PARAM_TYPES(TEEC_MEMREF_TEMP_INPUT, TEEC_MEMREF_TEMP_INPUT, TEEC_MEMREF_TEMP_OUTPUT,
					       TEEC_VALUE_OUTPUT),
		.params = {
			{ .tmpref = { (void *)v->vendor, sizeof(v->vendor) } },
			{ .tmpref = { (void *)v->name, v->name_bytes } },
			{ .tmpref = { data, *size } },
		},
	};
	TEEC_Result result = TEEC_InvokeCommand(&session, UEFI_VARIABLES_GET, &operation, NULL);

	*size = operation.params[2].tmpref.size;
	*attributes = operation.params[3].value.a;
	return result;
}

static TEEC_Result set(const struct variable *v, const void *data, size_t size, uint32_t attributes)
{
	TEEC_Operation operation = {
		.paramTypes = TEEC_PARAM_TYPES(TEEC_MEMREF_TEMP_INPUT, TEEC_MEMREF_TEMP_INPUT, TEEC_MEMREF_TEMP_INPUT,
					       TEEC_VALUE_INPUT),
		.params = {
			{ .tmpref = { (void *)v->vendor, sizeof(v->vendor) } },
			{ .tmpref = { (void *)v->name, v->name_bytes } },
			{ .tmpref = { (void *)data, size } },
			{ .value = { .a = attributes } },
		},
	};

	return TEEC_InvokeCommand(&session, UEFI_VARIABLES_SET, &operation, NULL);
}

static void must(TEEC_Result result, const char *name)
{
	if (result)
		die(1, "%s: %s (%#x)", name, meaning(result), result);
}

static void list(void)
{
	struct variable v = { 0 };

	while (true) {
		TEEC_Operation operation = {
			.paramTypes = TEEC_PARAM_TYPES(TEEC_MEMREF_TEMP_INOUT, TEEC_MEMREF_TEMP_INOUT, TEEC_NONE, TEEC_NONE),
			.params = {
				{ .tmpref = { v.vendor, sizeof(v.vendor) } },
				{ .tmpref = { v.name, sizeof(v.name) } },
			},
		};
		TEEC_Result result = TEEC_InvokeCommand(&session, UEFI_VARIABLES_NEXT, &operation, NULL);

		if (result == TEEC_ERROR_ITEM_NOT_FOUND)
			return;
		must(result, "list");
		for (size_t n = 0; n < NAME_LIMIT && v.name[n]; n++)
			putchar(v.name[n] < 0x80 ? v.name[n] : '?');
		putchar('-');
		print_vendor(v.vendor);
		putchar('\n');
	}
}

static void fill(const char *prefix, size_t bytes)
{
	char *value = malloc(bytes + 1);
	char name[64];
	int n = 0;

	if (!value)
		die(1, "out of memory");
	for (;; n++) {
		snprintf(name, sizeof(name), "%s%d", prefix, n);
		snprintf(value, bytes + 1, "%0*d", (int)bytes, n);
		struct variable v = named(name, NULL);
		TEEC_Result result = set(&v, value, bytes, NV_RT);

		if (result) {
			printf("%d\n", n);
			fflush(stdout);
			must(result, name);
		}
	}
}

static void empty(const char *prefix, int count)
{
	char name[64];

	for (int n = 0; n < count; n++) {
		snprintf(name, sizeof(name), "%s%d", prefix, n);
		struct variable v = named(name, NULL);
		must(set(&v, NULL, 0, 0), name);
	}
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* The same by the kernel's way: a variable is a file, its first four bytes are the attributes. */
static void efivarfs_path(char path[], size_t size, const char *name)
{
	snprintf(path, size, "/sys/firmware/efi/efivars/%s-%s", name, default_vendor);
}

static void efivarfs_get(const char *name, void *data, size_t *size, uint32_t *attributes)
{
	char path[512];
	uint8_t content[4 + 256];
	ssize_t found = -1;
	int file = -1;

	efivarfs_path(path, sizeof(path), name);
	file = open(path, O_RDONLY);
	if (file >= 0)
		found = read(file, content, sizeof(content));
	if (found < 4 || (size_t)found - 4 > *size)
		die(1, "%s: cannot be read: %s", path, strerror(errno));
	close(file);
	*size = found - 4;
	memcpy(attributes, content, 4);
	memcpy(data, content + 4, *size);
}

static void efivarfs_set(const char *name, const void *data, size_t size, uint32_t attributes)
{
	char path[512];
	uint8_t content[4 + 256];
	int mutable = 0;
	int file = -1;

	if (size > sizeof(content) - 4)
		die(1, "%s: too long", name);
	memcpy(content, &attributes, 4);
	memcpy(content + 4, data, size);
	efivarfs_path(path, sizeof(path), name);
	/* The kernel makes variables that it does not know immutable. */
	file = open(path, O_RDONLY);
	if (file >= 0) {
		ioctl(file, FS_IOC_SETFLAGS, &mutable);
		close(file);
	}
	/* One write is one SetVariable. */
	file = open(path, O_WRONLY | O_CREAT, 0644);
	if (file < 0 || write(file, content, size + 4) != (ssize_t)size + 4)
		die(1, "%s: cannot be written: %s", path, strerror(errno));
	close(file);
}

/* Four variables, written in turn. What was acknowledged last must be read back from each, at any time. */
static void stress(bool ta, double seconds, double writes_per_second)
{
	const char *who = ta ? "Ta" : "Linux";
	char last[4][64] = { "" };
	double start = now();
	unsigned int writes = 0;
	unsigned int reads = 0;
	double longest = 0;

	for (unsigned int n = 0; now() - start < seconds; n = (n + 1) % 4) {
		double before = now();
		bool write = writes < (before - start) * writes_per_second;
		unsigned int which = write ? writes % 4 : n;
		size_t size = 64;
		uint32_t attributes = 0;
		struct variable v;
		char name[32];
		char found[64];

		snprintf(name, sizeof(name), "%sStress%u", who, which);
		v = named(name, NULL);
		if (write) {
			snprintf(last[which], sizeof(last[which]), "write %u, %s", writes, who);
			if (ta)
				must(set(&v, last[which], strlen(last[which]), NV_RT), name);
			else
				efivarfs_set(name, last[which], strlen(last[which]), NV_RT);
			writes++;
		}
		if (!last[which][0])
			continue;
		if (ta)
			must(get(&v, found, &size, &attributes), name);
		else
			efivarfs_get(name, found, &size, &attributes);
		reads++;
		if (size != strlen(last[which]) || memcmp(found, last[which], size) || attributes != NV_RT)
			die(1, "%s is '%.*s' (attributes %u), '%s' was acknowledged", name, (int)size, found, attributes, last[which]);
		if (now() - before > longest)
			longest = now() - before;
	}
	printf("%u writes and %u reads, each as acknowledged; the longest took %.0f ms\n", writes, reads, 1000 * longest);
	for (unsigned int n = 0; n < 4; n++)
		printf("%sStress%u=%s\n", who, n, last[n]);
}

static void pseudo_ta(void)
{
	TEEC_UUID uuid = PTA_UEFI_VARIABLES_UUID;
	uint32_t origin = 0;
	TEEC_Result result = open_session(uuid, &origin);

	if (result)
		die(1, "pseudo TA: %s (%#x)", meaning(result), result);
}

int main(int count, char **words)
{
	static uint8_t value[VALUE_LIMIT];
	size_t size = sizeof(value);
	const char *command = count > 1 ? words[1] : "";
	const char *name = count > 2 ? words[2] : NULL;
	uint32_t attributes = 0;
	struct variable v;

	if (!strcmp(command, "pseudo-ta")) {
		pseudo_ta();
		return 0;
	}
	if (!strcmp(command, "list")) {
		open_ta();
		list();
		return 0;
	}
	if (!name)
		usage();
	if (!strcmp(command, "get") || !strcmp(command, "attributes")) {
		v = named(name, count > 3 ? words[3] : NULL);
		open_ta();
		must(get(&v, value, &size, &attributes), name);
		if (*command == 'g')
			fwrite(value, 1, size, stdout);
		else
			printf("%u\n", attributes);
	} else if (!strcmp(command, "put") && count > 3) {
		v = named(name, count > 4 ? words[4] : NULL);
		size = fread(value, 1, sizeof(value), stdin);
		open_ta();
		must(set(&v, value, size, strtoul(words[3], NULL, 0)), name);
	} else if (!strcmp(command, "delete")) {
		v = named(name, count > 3 ? words[3] : NULL);
		open_ta();
		must(set(&v, NULL, 0, 0), name);
	} else if (!strcmp(command, "short") && count > 3) {
		v = named(name, NULL);
		size = strtoul(words[3], NULL, 0);
		open_ta();
		must(get(&v, value, &size, &attributes), name);
	} else if (!strcmp(command, "fill") && count > 3) {
		open_ta();
		fill(name, strtoul(words[3], NULL, 0));
	} else if (!strcmp(command, "empty") && count > 3) {
		open_ta();
		empty(name, atoi(words[3]));
	} else if (!strcmp(command, "stress") && count > 4) {
		bool ta = !strcmp(name, "ta");

		if (!ta && strcmp(name, "efivarfs"))
			usage();
		if (ta)
			open_ta();
		stress(ta, atof(words[3]), atof(words[4]));
	} else {
		usage();
	}
	return 0;
}
