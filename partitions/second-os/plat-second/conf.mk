# A second OP-TEE beside the first, as a partition of Bulkhead on QEMU's virt machine: the vexpress platform's settings but for these.
PLATFORM_FLAVOR ?= qemu_armv8a

# The secure UART is the first one's: this one says what it has to say by FFA_CONSOLE_LOG.
CFG_FFA_CONSOLE ?= y
# Its own timer, with an interrupt of its own (neighbour.c).
CFG_CALLOUT ?= y
# The pseudo TA of OP-TEE's self tests offers itself to Linux's bus of TEE devices. See README.md: only one OP-TEE may.
CFG_ENABLE_EMBEDDED_TESTS ?= n

include core/arch/arm/plat-vexpress/conf.mk
