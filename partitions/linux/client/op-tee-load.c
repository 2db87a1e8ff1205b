/*
 * Keeps OP-TEE busy, so that whoever else uses it meets other calls inside: many short ones, or some that last.
 *
 * Usage: op-tee-load COMMAND, see usage() below. Prints what was done, exit status 0; 1 and a line on standard error when a call was
 * refused or did not come back; 2 for a mistake on the command line.
 */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <tee_client_api.h>

#include "die.h"

#define THREADS_LIMIT	16
/* After how many seconds without an answer a call counts as lost. A short one takes less than a millisecond. */
#define LOST		20

/* Pseudo TA of random numbers: may run several calls at once. What it says about itself takes no memory that is shared. */
#define RANDOM_TA	{ 0xab7a617c, 0xb8e7, 0x4d8f, { 0x83, 0x01, 0xd0, 0x9b, 0x61, 0x03, 0x6b, 0x64 } }
#define RANDOM_GET_INFO	1
/* TA of OP-TEE's tests, one for each session. While it waits it holds a thread of OP-TEE's. */
#define TEST_TA		{ 0x5b9e0e40, 0x2636, 0x11e1, { 0xad, 0x9e, 0x00, 0x02, 0xa5, 0xd5, 0xc5, 0x1b } }
#define TEST_WAIT	9

/* One thread's work. */
struct caller {
	pthread_t thread;
	atomic_ulong calls;
	/* Its latest call began then; 0 between calls. */
	atomic_long began;
};

static struct caller callers[THREADS_LIMIT];
static atomic_bool over;
static uint32_t wait_ms;

__attribute__((noreturn)) static void usage(void)
{
	die(2, "usage: op-tee-load\n"
	       "  calls THREADS SECONDS FILE  short calls, one after the other in each thread, beside reads of a file\n"
	       "  wait THREADS MS             calls that wait in OP-TEE, one in each thread");
}

static long seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

static void check(const char *what, TEEC_Result result, uint32_t origin)
{
	if (result)
		die(1, "%s: %#x, origin %u", what, result, origin);
}

static void open_session(TEEC_Context *context, TEEC_Session *session, TEEC_UUID uuid)
{
	uint32_t origin = 0;

	check("no OP-TEE", TEEC_InitializeContext(NULL, context), 0);
	check("no session", TEEC_OpenSession(context, session, &uuid, TEEC_LOGIN_PUBLIC, NULL, NULL, &origin), origin);
}

static void *short_calls(void *argument)
{
	struct caller *caller = argument;
	TEEC_Context context;
	TEEC_Session session;

	open_session(&context, &session, (TEEC_UUID)RANDOM_TA);
	while (!atomic_load(&over)) {
		TEEC_Operation operation = { .paramTypes = TEEC_PARAM_TYPES(TEEC_VALUE_OUTPUT, TEEC_NONE, TEEC_NONE, TEEC_NONE) };
		uint32_t origin = 0;

		atomic_store(&caller->began, seconds_now());
		check("refused", TEEC_InvokeCommand(&session, RANDOM_GET_INFO, &operation, &origin), origin);
		atomic_store(&caller->began, 0);
		atomic_fetch_add(&caller->calls, 1);
	}
	TEEC_CloseSession(&session);
	TEEC_FinalizeContext(&context);
	return NULL;
}

static void *waiting_call(void *argument)
{
	struct caller *caller = argument;
	TEEC_Context context;
	TEEC_Session session;
	TEEC_Operation operation = {
		.paramTypes = TEEC_PARAM_TYPES(TEEC_VALUE_INPUT, TEEC_NONE, TEEC_NONE, TEEC_NONE),
		.params[0].value.a = wait_ms,
	};
	uint32_t origin = 0;

	open_session(&context, &session, (TEEC_UUID)TEST_TA);
	check("refused", TEEC_InvokeCommand(&session, TEST_WAIT, &operation, &origin), origin);
	atomic_fetch_add(&caller->calls, 1);
	TEEC_CloseSession(&session);
	TEEC_FinalizeContext(&context);
	return NULL;
}

static void start(unsigned long threads, void *(*work)(void *))
{
	for (unsigned long i = 0; i < threads; i++)
		if (pthread_create(&callers[i].thread, NULL, work, &callers[i]))
			die(1, "no thread");
}

/* Ends the program when a call has not come back: nobody can end its thread, which the kernel keeps. */
static void watch(unsigned long threads)
{
	for (unsigned long i = 0; i < threads; i++) {
		long began = atomic_load(&callers[i].began);

		if (began && seconds_now() - began >= LOST)
			die(1, "call %lu of thread %lu has not come back for %u s", atomic_load(&callers[i].calls) + 1, i, LOST);
	}
}

static unsigned long number(const char *text, unsigned long limit)
{
	char *end = NULL;
	unsigned long value = strtoul(text, &end, 10);

	if (!*text || *end || !value || value > limit)
		die(2, "'%s' is not a number from 1 to %lu", text, limit);
	return value;
}

/* Reads the whole file. A UEFI variable is asked for anew each time. */
static void read_file(const char *path, unsigned long number)
{
	char bytes[4096];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t size = fd < 0 ? -1 : read(fd, bytes, sizeof(bytes));

	if (size <= 0)
		die(1, "read %lu of %s: %s", number, path, size ? strerror(errno) : "it is empty");
	close(fd);
}

/* Returns how often the file was read. */
static unsigned long call_and_read(unsigned long threads, long seconds, const char *path)
{
	long end = seconds_now() + seconds;
	unsigned long reads = 0;

	start(threads, short_calls);
	while (seconds_now() < end) {
		read_file(path, ++reads);
		watch(threads);
	}
	/* Joining would wait for ever for a thread that does. */
	atomic_store(&over, true);
	for (unsigned int i = 0; i <= LOST; i++) {
		bool idle = true;

		for (unsigned long thread = 0; thread < threads; thread++)
			idle = idle && !atomic_load(&callers[thread].began);
		if (idle)
			break;
		sleep(1);
		watch(threads);
	}
	return reads;
}

int main(int argc, char **argv)
{
	unsigned long threads = 0;
	unsigned long calls = 0;
	unsigned long reads = 0;

	if (argc == 5 && !strcmp(argv[1], "calls")) {
		threads = number(argv[2], THREADS_LIMIT);
		reads = call_and_read(threads, number(argv[3], 86400), argv[4]);
	} else if (argc == 4 && !strcmp(argv[1], "wait")) {
		threads = number(argv[2], THREADS_LIMIT);
		wait_ms = number(argv[3], 600000);
		start(threads, waiting_call);
	} else {
		usage();
	}
	for (unsigned long i = 0; i < threads; i++) {
		pthread_join(callers[i].thread, NULL);
		calls += atomic_load(&callers[i].calls);
	}
	printf("%lu calls in %lu threads", calls, threads);
	if (reads)
		printf(" beside %lu reads", reads);
	puts("");
	return 0;
}
