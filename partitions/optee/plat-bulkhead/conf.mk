# OP-TEE as a partition of Bulkhead on QEMU's virt machine: the vexpress platform's settings, a pseudo TA of ours, and random numbers of
# the CPU's own instruction (random.c), which the pseudo TA of random numbers hands out.
PLATFORM_FLAVOR ?= qemu_armv8a
CFG_WITH_SOFTWARE_PRNG ?= n
CFG_HWRNG_PTA ?= y
CFG_HWRNG_QUALITY ?= 1024
include core/arch/arm/plat-vexpress/conf.mk
# No sleep without a limit (sleep_limit.c): the linker, not a patch, puts ours in the place of OP-TEE's function.
ldflags-external += --wrap=notif_wait_timeout
