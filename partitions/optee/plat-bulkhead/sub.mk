subdirs-y += ../plat-vexpress
incdirs-y += include
srcs-y += uefi_variables.c
srcs-y += stmm.c
srcs-y += overreach.c
srcs-y += sleep_limit.c
srcs-$(CFG_HWRNG_PTA) += random.c
