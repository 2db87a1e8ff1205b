global-incdirs-y += .
global-incdirs-y += ../../include
srcs-y += uefi_variables_ta.c
