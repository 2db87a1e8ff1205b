/*
 * Random numbers from the CPU: RNDR of FEAT_RNG, for OP-TEE itself and for its pseudo TA of random numbers.
 */

#include <arm.h>
#include <initcall.h>
#include <kernel/panic.h>
#include <rng_support.h>
#include <string.h>
#include <tee_api_types.h>
#include <util.h>

/* ID_AA64ISAR0_EL1.RNDR: not zero if RNDR is there */
#define ISAR0_RNDR	GENMASK_64(63, 60)

/* The instruction fails when its source has run dry, which does not last. */
#define RNDR_TRIES	1000

static bool read_rndr(uint64_t *value)
{
	uint64_t failed = 0;

	asm volatile("mrs %0, s3_3_c2_c4_0\n\tcset %1, eq" : "=r" (*value), "=r" (failed) : : "cc");
	return !failed;
}

TEE_Result hw_get_random_bytes(void *buf, size_t blen)
{
	uint8_t *to = buf;

	while (blen) {
		size_t n = MIN(blen, sizeof(uint64_t));
		unsigned int tries = RNDR_TRIES;
		uint64_t value = 0;

		while (!read_rndr(&value))
			if (!--tries)
				return TEE_ERROR_NO_DATA;

		memcpy(to, &value, n);
		to += n;
		blen -= n;
	}

	return TEE_SUCCESS;
}

/* Without the instruction the first random number would be an undefined instruction: say what is missing instead. */
static TEE_Result check_cpu(void)
{
	if (!(read_id_aa64isar0_el1() & ISAR0_RNDR))
		panic("this CPU has no RNDR: build OP-TEE with CFG_WITH_SOFTWARE_PRNG=y CFG_HWRNG_PTA=n");

	return TEE_SUCCESS;
}
early_init(check_cpu);
