/*
 * No thread sleeps in the normal world for ever.
 *
 * A thread that finds a mutex taken sleeps in the normal world. Whoever gives the mutex up asks its own caller there to wake the sleeper.
 * When that caller is firmware at run time and the sleeper came from Linux's driver, nobody does: the two know nothing of each other.
 * So a sleep without a limit gets one. Mutexes and condition variables look again after each sleep, whatever has ended it.
 *
 * The linker puts this in the place of notif_wait_timeout (conf.mk). Linux 7.2 heeds the limit; one whose optee_notif_wait() has no
 * parameter for it does not.
 */

#include <kernel/notif.h>

/* Long beside a lock's time, short beside a person's. OP-TEE means milliseconds, Linux takes them for ticks of its clock, a few of them each. */
#define SLEEP_LIMIT_MS	25

TEE_Result __real_notif_wait_timeout(uint32_t value, uint32_t timeout_ms);
TEE_Result __wrap_notif_wait_timeout(uint32_t value, uint32_t timeout_ms);

TEE_Result __wrap_notif_wait_timeout(uint32_t value, uint32_t timeout_ms)
{
	return __real_notif_wait_timeout(value, timeout_ms ? timeout_ms : SLEEP_LIMIT_MS);
}
