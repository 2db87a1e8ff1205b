subdirs-y += ../plat-vexpress
incdirs-y += include
srcs-y += neighbour.c
srcs-y += unique_key.c
