subdirs-y += ../plat-vexpress
subdirs-y += overreach
incdirs-y += include
srcs-y += neighbour.c
srcs-y += unique_key.c
