/* A partition that looks around at its start and then tells whoever asks what it saw. */
#include "ffa.h"

extern char _start[], data_start[], stacks_end[];
void secondary_entry(void);

static const u64 constant = 0x1122334455667788;
static volatile u64 data = 0x99aabbccddeeff00;
static char rx[4096] __attribute__((aligned(4096)));
static char tx[4096] __attribute__((aligned(4096)));
static u64 seen, boot_register, buffers, scratch;

static u32 big_endian(const unsigned char *p)
{
	return (u32)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
}

static int same(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

/* base-address of the manifest's node `scratch`; 0 when there is none. */
static u64 find_scratch(const unsigned char *tree)
{
	const unsigned char *at = tree + big_endian(tree + 8), *strings = tree + big_endian(tree + 12);
	int inside = 0;

	for (;;) {
		u32 token = big_endian(at);

		at += 4;
		if (token == 1) {
			const char *name = (const char *)at;
			u32 length = 0;

			while (name[length])
				length++;
			inside = same(name, "scratch");
			at += (length + 4) & ~3u;
		} else if (token == 3) {
			u32 length = big_endian(at);
			const unsigned char *value = at + 8;

			if (inside && length == 8 && same((const char *)strings + big_endian(at + 4), "base-address"))
				return (u64)big_endian(value) << 32 | big_endian(value + 4);
			at = value + ((length + 3) & ~3u);
		} else if (token == 9) {
			return 0;
		}
	}
}

static void look_at_boot_information(const u64 *x)
{
	for (u64 n = 0; n < 4; n++) {
		const unsigned char *blob = (const unsigned char *)x[n];

		if (!blob)
			continue;
		boot_register = n;
		const u32 *words = (const u32 *)blob;

		if (words[0] != 0xffa)
			return;
		seen |= SAW_BOOT_INFO;
		/* The first descriptor: name of 16 bytes, type, flags, size, content. */
		const u32 *descriptor = (const u32 *)(blob + words[5]);

		if (words[4] == 0 || (descriptor[4] & 0xff) != 0)
			return;
		const unsigned char *tree = (const unsigned char *)((u64)descriptor[7] << 32 | descriptor[6]);

		if (big_endian(tree) != 0xd00dfeed || big_endian(tree + 4) != descriptor[5])
			return;
		seen |= SAW_MANIFEST;
		scratch = find_scratch(tree);
		if (scratch) {
			volatile u64 *memory = (volatile u64 *)scratch;

			*memory = scratch;
			if (*memory != scratch)
				scratch = 0;
		}
		return;
	}
}

static void look_for_buffers(void)
{
	struct regs r;
	u64 got = ffa(&r, FFA_PARTITION_INFO_GET, 0, 0, 0);

	if (got == FFA_SUCCESS_32 || got == FFA_SUCCESS_64) {
		ffa(&r, FFA_RX_RELEASE, 0, 0, 0);
		if (ffa(&r, FFA_RXTX_MAP, (u64)tx, (u64)rx, 1) == FFA_ERROR && (u32)r.x[2] == DENIED)
			buffers = BUFFERS_BY_MANIFEST;
	} else if (ffa(&r, FFA_RXTX_MAP, (u64)tx, (u64)rx, 1) == FFA_SUCCESS_32) {
		buffers = BUFFERS_BY_CALL;
	}
}

#ifdef S_EL0
static u64 access_of(const void *address)
{
	struct regs r;

	return ffa(&r, FFA_MEM_PERM_GET, (u64)address & ~4095ull, 0, 0) == FFA_SUCCESS_32 ? r.x[2] : 0xff;
}

static void look_at_permissions(void)
{
	/* Read-only and executable; read and write, never executable. */
	int good = access_of(_start) == 3 && access_of(data_start) == 5 && access_of(rx) == 5;
#ifdef SECTIONS_BY_MANIFEST
	good = good && access_of(&constant) == 7;
#endif
	if (good)
		seen |= SAW_PERMISSIONS;
}
#else
static void look_at_permissions(void)
{
	struct regs r;

	seen |= SAW_PERMISSIONS;
	ffa(&r, FFA_SECONDARY_EP_REGISTER, (u64)secondary_entry, 0, 0);
}
#endif

static u64 core(void)
{
#ifdef S_EL0
	return 0;
#else
	u64 mpidr;

	__asm__ volatile("mrs %0, mpidr_el1" : "=r"(mpidr));
	return mpidr & 0xff;
#endif
}

static u64 my_id(void)
{
	struct regs r;

	ffa(&r, FFA_ID_GET, 0, 0, 0);
	return r.x[2] & 0xffff;
}

/* A memory transaction of one borrower in TX, in the layout of FF-A 1.1. */
static u32 describe(u64 sender, u64 borrower, u64 handle, u32 attributes, u32 permissions, u64 page)
{
	u32 *words = (u32 *)tx;

	for (int i = 0; i < 32; i++)
		words[i] = 0;
	words[0] = sender | attributes << 16;
	words[2] = handle;
	words[3] = handle >> 32;
	words[6] = 16;		/* bytes of an access descriptor */
	words[7] = 1;
	words[8] = 48;
	words[12] = borrower | permissions << 16;
	if (!page)
		return 64;
	words[13] = 64;
	words[16] = 1;
	words[17] = 1;
	words[20] = page;
	words[21] = page >> 32;
	words[22] = 1;
	return 96;
}

/* Normal memory, write-back, inner shareable; read and write. */
#define ATTRIBUTES 0x2f
#define READ_WRITE 2

static u64 share(u64 page, u64 borrower)
{
	struct regs r;
	u32 size = describe(my_id(), borrower, 0, ATTRIBUTES, READ_WRITE, page);

	return ffa(&r, FFA_MEM_SHARE, size, size, 0) == FFA_SUCCESS_32 ? r.x[3] << 32 | (u32)r.x[2] : 0;
}

static u64 borrow(u64 handle, u64 sender, u64 *attributes)
{
	struct regs r;
	u32 size = describe(sender, my_id(), handle, ATTRIBUTES, READ_WRITE, 0);

	if (ffa(&r, FFA_MEM_RETRIEVE_REQ, size, size, 0) != FFA_MEM_RETRIEVE_RESP)
		return 0;
	const u32 *words = (const u32 *)rx;
	const u32 *composite = (const u32 *)(rx + words[13]);
	volatile u64 *page = (volatile u64 *)((u64)composite[5] << 32 | composite[4]);
	u64 found = *page;

	*attributes = words[0] >> 16;
	*page = ~found;
	ffa(&r, FFA_RX_RELEASE, 0, 0, 0);
	u32 *release = (u32 *)tx;

	release[0] = handle;
	release[1] = handle >> 32;
	release[2] = 0;
	release[3] = 1;
	release[4] = my_id();
	return ffa(&r, FFA_MEM_RELINQUISH, 0, 0, 0) == FFA_SUCCESS_32 ? found : 0;
}

static u64 take_back(u64 handle)
{
	struct regs r;

	return ffa(&r, FFA_MEM_RECLAIM, (u32)handle, handle >> 32, 0) == FFA_SUCCESS_32;
}

/* Answers requests for ever. */
void serve(void)
{
	struct regs r;
	u64 function = ffa(&r, FFA_MSG_WAIT, 0, 0, 0);

	for (;;) {
		if (function != FFA_DIRECT_REQ) {
			function = ffa(&r, FFA_MSG_WAIT, 0, 0, 0);
			continue;
		}
		u64 ids = (r.x[1] & 0xffff) << 16 | (r.x[1] >> 16 & 0xffff);

		u64 wish = r.x[3], x4 = r.x[4], x5 = r.x[5];

		for (int i = 0; i < 18; i++)
			r.x[i] = 0;
		r.x[0] = FFA_DIRECT_RESP;
		r.x[1] = ids;
		switch (wish) {
		case SHARE:
			r.x[3] = share(x4, x5);
			break;
		case BORROW:
			r.x[3] = borrow(x4, x5, &r.x[4]);
			break;
		case TOUCH:
			*(volatile u64 *)x4 = x5;
			r.x[3] = *(volatile u64 *)x4;
			break;
		case TAKE_BACK:
			r.x[3] = take_back(x4);
			break;
		default:
			r.x[3] = seen;
			r.x[4] = boot_register;
			r.x[5] = buffers;
			r.x[6] = scratch;
			r.x[7] = core();
		}
		ffa_call(&r);
		function = r.x[0];
	}
}

void sp_main(u64 x0, u64 x1, u64 x2, u64 x3)
{
	struct regs r;
	u64 x[4] = { x0, x1, x2, x3 };

	if (ffa(&r, FFA_VERSION, 0x10001, 0, 0) >> 16 == 1)
		seen |= SAW_VERSION;
	volatile u64 *behind = (volatile u64 *)(stacks_end + 0x10000);

	*behind = (u64)behind;
	if (*behind == (u64)behind)
		seen |= SAW_MEMORY;
	if (*(volatile const u64 *)&constant == 0x1122334455667788 && data == 0x99aabbccddeeff00)
		seen |= SAW_CONSTANTS;
	look_at_boot_information(x);
	look_for_buffers();
	look_at_permissions();
	serve();
}
