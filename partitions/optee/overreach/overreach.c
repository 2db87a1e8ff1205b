/*
 * Pseudo TA that makes OP-TEE reach beyond its own memory, for tests of what its clients see when it is ended. Without the property
 * bulkhead,overreach in the manifest it opens no session.
 */

#include <initcall.h>
#include <io.h>
#include <kernel/dt.h>
#include <kernel/pseudo_ta.h>
#include <libfdt.h>
#include <mm/core_memprot.h>
#include <mm/core_mmu.h>
#include <pta_overreach.h>
#include <trace.h>

static bool allowed;

static TEE_Result open_session(uint32_t types __unused, TEE_Param params[TEE_NUM_PARAMS] __unused, void **context __unused)
{
	return allowed ? TEE_SUCCESS : TEE_ERROR_ACCESS_DENIED;
}

static TEE_Result read_word(paddr_t address, uint32_t *word)
{
	vaddr_t va = 0;

	if (address % sizeof(*word))
		return TEE_ERROR_BAD_PARAMETERS;
	va = (vaddr_t)core_mmu_add_mapping(MEM_AREA_RAM_SEC, address, sizeof(*word));
	if (!va)
		return TEE_ERROR_OUT_OF_MEMORY;
	IMSG("Reading %#"PRIxPA, address);
	*word = io_read32(va);
	return core_mmu_remove_mapping(MEM_AREA_RAM_SEC, (void *)va, sizeof(*word));
}

static TEE_Result invoke_command(void *session __unused, uint32_t command, uint32_t types,
				 TEE_Param params[TEE_NUM_PARAMS])
{
	if (types != TEE_PARAM_TYPES(TEE_PARAM_TYPE_VALUE_INPUT, TEE_PARAM_TYPE_VALUE_OUTPUT,
				     TEE_PARAM_TYPE_NONE, TEE_PARAM_TYPE_NONE))
		return TEE_ERROR_BAD_PARAMETERS;

	if (command != OVERREACH_READ)
		return TEE_ERROR_NOT_SUPPORTED;

	return read_word(params[0].value.a, &params[1].value.a);
}

pseudo_ta_register(.uuid = PTA_OVERREACH_UUID, .name = "overreach.pta",
		   .flags = PTA_DEFAULT_FLAGS,
		   .open_session_entry_point = open_session,
		   .invoke_command_entry_point = invoke_command);

/* The manifest is there while OP-TEE starts. */
static TEE_Result look_at_manifest(void)
{
	const void *fdt = get_manifest_dt();

	allowed = fdt && fdt_getprop(fdt, 0, "bulkhead,overreach", NULL);
	return TEE_SUCCESS;
}
driver_init(look_at_manifest);
