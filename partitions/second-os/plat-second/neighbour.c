/*
 * Pseudo TA that shows what this partition has for itself: interrupts of its own timer.
 */

#include <io.h>
#include <kernel/callout.h>
#include <kernel/delay.h>
#include <kernel/pseudo_ta.h>
#include <kernel/tee_time.h>
#include <pta_neighbour.h>
#include <util.h>

#define TICKS_LIMIT	1000
#define TICK_MS_LIMIT	1000
/* How much later than it should the last tick may come */
#define LATE_US		UINT32_C(10000000)

static uint32_t ticks;
static uint32_t ticks_wanted;

/* In the timer's interrupt. */
static bool tick(struct callout *co __unused)
{
	ticks++;
	return ticks < ticks_wanted;
}

static TEE_Result count_ticks(uint32_t wanted, uint32_t ms, uint32_t *counted)
{
	struct callout timer = { };
	uint64_t expire = 0;

	if (!wanted || wanted > TICKS_LIMIT || !ms || ms > TICK_MS_LIMIT)
		return TEE_ERROR_BAD_PARAMETERS;

	expire = timeout_init_us(wanted * ms * 1000 + LATE_US);
	ticks = 0;
	ticks_wanted = wanted;
	callout_add(&timer, tick, ms);
	/* Sleeping in the normal world: the interrupt finds this partition waiting. */
	while (READ_ONCE(ticks) < wanted && !timeout_elapsed(expire))
		tee_time_wait(1);
	callout_rem(&timer);
	*counted = ticks;
	return ticks < wanted ? TEE_ERROR_TIMEOUT : TEE_SUCCESS;
}

static TEE_Result invoke_command(void *session __unused, uint32_t command, uint32_t types,
				 TEE_Param params[TEE_NUM_PARAMS])
{
	if (types != TEE_PARAM_TYPES(TEE_PARAM_TYPE_VALUE_INPUT, TEE_PARAM_TYPE_VALUE_OUTPUT,
				     TEE_PARAM_TYPE_NONE, TEE_PARAM_TYPE_NONE))
		return TEE_ERROR_BAD_PARAMETERS;

	if (command != NEIGHBOUR_COUNT_TICKS)
		return TEE_ERROR_NOT_SUPPORTED;

	return count_ticks(params[0].value.a, params[0].value.b, &params[1].value.a);
}

pseudo_ta_register(.uuid = PTA_NEIGHBOUR_UUID, .name = "neighbour.pta",
		   .flags = PTA_DEFAULT_FLAGS,
		   .invoke_command_entry_point = invoke_command);
