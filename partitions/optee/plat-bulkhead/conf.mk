# OP-TEE as a partition of Bulkhead on QEMU's virt machine: the vexpress platform's settings, and a pseudo TA of ours.
PLATFORM_FLAVOR ?= qemu_armv8a
include core/arch/arm/plat-vexpress/conf.mk
