incdirs-y += .
srcs-y += overreach.c
