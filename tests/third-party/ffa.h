/* What a client of FF-A needs: numbers, and one call. */
#ifndef FFA_H
#define FFA_H

#include <stdint.h>

/* Images are position-independent without relocations: every address is relative, none is in a table. */
#pragma GCC visibility push(hidden)

typedef uint64_t u64;
typedef uint32_t u32;

/* x0 to x17, in and out. */
struct regs {
	u64 x[18];
};

/* Makes the call by SMC, or by SVC in a partition at S-EL0 (in the entry files). */
void ffa_call(struct regs *regs);

#define FFA_ERROR			0x84000060
#define FFA_SUCCESS_32			0x84000061
#define FFA_SUCCESS_64			0xc4000061
#define FFA_INTERRUPT			0x84000062
#define FFA_VERSION			0x84000063
#define FFA_RX_RELEASE			0x84000065
#define FFA_RXTX_MAP			0xc4000066
#define FFA_PARTITION_INFO_GET		0x84000068
#define FFA_ID_GET			0x84000069
#define FFA_MSG_WAIT			0x8400006b
#define FFA_RUN				0x8400006d
#define FFA_DIRECT_REQ			0xc400006f
#define FFA_DIRECT_RESP			0xc4000070
#define FFA_SECONDARY_EP_REGISTER	0xc4000087
#define FFA_MEM_PERM_GET		0x84000088
#define FFA_MEM_PERM_SET		0xc4000089
#define FFA_PARTITION_INFO_GET_REGS	0xc400008b
#define FFA_MEM_SHARE			0xc4000073
#define FFA_MEM_RETRIEVE_REQ		0xc4000074
#define FFA_MEM_RETRIEVE_RESP		0x84000075
#define FFA_MEM_RELINQUISH		0x84000076
#define FFA_MEM_RECLAIM			0x84000077
#define PSCI_CPU_ON			0xc4000003
#define PSCI_SYSTEM_OFF			0x84000008

#define DENIED ((u32)-6)
#define ABORTED ((u32)-8)

static inline u64 ffa(struct regs *r, u64 function, u64 a, u64 b, u64 c)
{
	for (int i = 0; i < 18; i++)
		r->x[i] = 0;
	r->x[0] = function;
	r->x[1] = a;
	r->x[2] = b;
	r->x[3] = c;
	ffa_call(r);
	return r->x[0];
}

/* What a partition is asked for: x3 of a request. */
enum {
	WHAT_DID_YOU_SEE,
	SHARE,			/* the page x4 with the partition x5; the answer's x3 is the handle, or 0 */
	BORROW,			/* handle x4 from x5; x3: the first word there, x4: the memory's attributes; x3 = 0: refused */
	TAKE_BACK,		/* handle x4; x3: 1 or 0 */
	TOUCH,			/* writes x5 to address x4; x3: what is there then */
};

/* What a partition found out about itself: x3 to x7 of its answers. */
enum {
	SAW_VERSION = 1,
	SAW_BOOT_INFO = 2,	/* the blob, whose register is in x4 */
	SAW_MANIFEST = 4,	/* its manifest through the blob */
	SAW_MEMORY = 8,		/* memory behind its image can be written */
	SAW_CONSTANTS = 16,	/* its constants and data are what they were linked as */
	SAW_PERMISSIONS = 32,	/* S-EL0: its sections have the access that its manifest or FFA_MEM_PERM_SET gave */
};
enum { NO_BUFFERS, BUFFERS_BY_MANIFEST, BUFFERS_BY_CALL };	/* x5 */

#endif
