/*
 * Requests to StMM over FF-A: OP-TEE itself answers direct requests and sends none.
 *
 * StMM takes messages at addresses that its HOB list names, and retrieves no memory. So its buffer for the secure world
 * stands in both partitions' manifests: what OP-TEE's says is all that is known of it here.
 */

#include <ffa.h>
#include <initcall.h>
#include <kernel/delay.h>
#include <kernel/dt.h>
#include <kernel/tee_time.h>
#include <kernel/thread.h>
#include <libfdt.h>
#include <mm/core_memprot.h>
#include <mm/core_mmu.h>
#include <trace.h>
#include <util.h>

#include "stmm.h"

#define REGION		"/memory-regions/stmm-buffer"

/* 378daedc-f06b-4446-8314-40ab933c87a3, EDK2's MM communication protocol, as two registers */
#define SERVICE_LOW	UINT64_C(0x46446bf0dcae8d37)
#define SERVICE_HIGH	UINT64_C(0xa3873c93ab401483)

#define BUSY_LIMIT_US	UINT32_C(10000000)

static void *buffer;
static paddr_t buffer_pa;
static size_t buffer_size;

static bool is_error(const struct thread_smc_args *args, int32_t status)
{
	return (uint32_t)args->a0 == FFA_ERROR && (int32_t)args->a2 == status;
}

/* Sender of a request in the upper half, StMM in the lower; StMM may come up after OP-TEE, so it is looked for at need. */
static TEE_Result find_ends(uint32_t *ends)
{
	struct thread_smc_args self = { .a0 = FFA_ID_GET };
	struct thread_smc_args info = {
		.a0 = FFA_PARTITION_INFO_GET_REGS,
		.a1 = SERVICE_LOW,
		.a2 = SERVICE_HIGH,
	};

	thread_smccc(&self);
	thread_smccc(&info);
	/* x2: indices of the last partition and of the last one here; x3: id, properties in the upper half */
	if ((uint32_t)self.a0 != FFA_SUCCESS_32 || info.a0 != FFA_SUCCESS_64 ||
	    !((info.a3 >> 32) & FFA_PART_PROP_DIRECT_REQ_RECV))
		return TEE_ERROR_STORAGE_NOT_AVAILABLE;

	*ends = SHIFT_U32(self.a2 & 0xffff, 16) | (info.a3 & 0xffff);
	return TEE_SUCCESS;
}

/* The normal world has interrupted StMM: it gets the core through the interrupt that is pending for OP-TEE now. */
static void let_normal_world_run(void)
{
	uint32_t exceptions = thread_get_exceptions();

	thread_unmask_exceptions(exceptions & ~THREAD_EXCP_FOREIGN_INTR);
	thread_set_exceptions(exceptions);
}

TEE_Result stmm_request(void)
{
	uint64_t expire = timeout_init_us(BUSY_LIMIT_US);
	struct thread_smc_args args = { };
	uint32_t ends = 0;
	TEE_Result res = find_ends(&ends);

	if (res)
		return res;

	while (true) {
		args = (struct thread_smc_args){
			.a0 = FFA_MSG_SEND_DIRECT_REQ_64,
			.a1 = ends,
			.a3 = buffer_pa,
		};
		thread_smccc(&args);
		if (!is_error(&args, FFA_BUSY))
			break;
		if (timeout_elapsed(expire))
			return TEE_ERROR_BUSY;
		/* Whoever StMM serves may need this core. */
		tee_time_wait(1);
	}

	while ((uint32_t)args.a0 == FFA_INTERRUPT) {
		let_normal_world_run();
		args = (struct thread_smc_args){
			.a0 = FFA_RUN,
			.a1 = SHIFT_U32(ends & 0xffff, 16),
		};
		thread_smccc(&args);
	}

	if (args.a0 == FFA_MSG_SEND_DIRECT_RESP_64)
		return TEE_SUCCESS;

	if (is_error(&args, FFA_ABORTED)) {
		EMSG("StMM has ended");
		return TEE_ERROR_COMMUNICATION;
	}
	EMSG("StMM answers %#"PRIx64", status %d", args.a0, (int)args.a2);
	return TEE_ERROR_GENERIC;
}

TEE_Result stmm_buffer(void **out, size_t *size)
{
	if (!buffer)
		return TEE_ERROR_STORAGE_NOT_AVAILABLE;

	*out = buffer;
	*size = buffer_size;
	return TEE_SUCCESS;
}

static TEE_Result map_buffer(void)
{
	const void *fdt = get_manifest_dt();
	const void *base = NULL;
	uint32_t pages = 0;
	int node = 0;
	int len = 0;

	if (!fdt)
		return TEE_SUCCESS;
	node = fdt_path_offset(fdt, REGION);
	if (node < 0) {
		IMSG("No UEFI variables for TAs: no " REGION " in the manifest");
		return TEE_SUCCESS;
	}
	base = fdt_getprop(fdt, node, "base-address", &len);
	if (!base || len != sizeof(fdt64_t) ||
	    fdt_read_uint32(fdt, node, "pages-count", &pages) || !pages) {
		EMSG(REGION " needs base-address in two cells, and pages-count");
		return TEE_SUCCESS;
	}

	buffer_pa = fdt64_ld(base);
	buffer_size = (size_t)pages * SMALL_PAGE_SIZE;
	buffer = core_mmu_add_mapping(MEM_AREA_RAM_SEC, buffer_pa, buffer_size);
	if (!buffer)
		EMSG("Cannot map " REGION);
	return TEE_SUCCESS;
}
driver_init(map_buffer);
