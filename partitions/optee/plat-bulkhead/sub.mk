subdirs-y += ../plat-vexpress
subdirs-y += overreach
incdirs-y += include
srcs-y += uefi_variables.c
srcs-y += stmm.c
srcs-y += sleep_limit.c
srcs-$(CFG_HWRNG_PTA) += random.c
