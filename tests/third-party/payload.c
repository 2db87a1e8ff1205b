/* The normal world's side: asks each partition what it saw, and prints one line for each check. */
#include "ffa.h"

void secondary_start(void);

static volatile u32 *const uart = (volatile u32 *)0x09000000;
#if defined(FALLS_SILENT)
/* Outside the image: RAM keeps it over a reset. */
static volatile u64 *const hung = (volatile u64 *)0x48000000;
#define HUNG 0x6f6e6365
#endif

static u32 passed, failed;
static volatile u64 answers[8];

static void print(const char *text)
{
	for (; *text; text++) {
		while (uart[6] & 1 << 5)
			;
		uart[0] = (unsigned char)*text;
	}
}

static void print_number(u64 n, u32 base)
{
	char digits[20], *end = digits + sizeof(digits) - 1;

	*end = 0;
	do {
		*--end = "0123456789abcdef"[n % base];
		n /= base;
	} while (n);
	print(base == 16 ? "0x" : "");
	print(end);
}

static void check(const char *name, u64 found, u64 expected)
{
	if (found == expected) {
		passed++;
		print("ok ");
	} else {
		failed++;
		print("not ok ");
	}
	print(name);
	if (found != expected) {
		print(": found ");
		print_number(found, 16);
		print(", expected ");
		print_number(expected, 16);
	}
	print("\n");
}

/* Sends a partition a wish; resumes it when it is interrupted. */
static u64 wish(struct regs *r, u64 id, u64 what, u64 x4, u64 x5)
{
	for (int i = 0; i < 18; i++)
		r->x[i] = 0;
	r->x[0] = FFA_DIRECT_REQ;
	r->x[1] = id;
	r->x[3] = what;
	r->x[4] = x4;
	r->x[5] = x5;
	ffa_call(r);
	u64 function = r->x[0];

	while (function == FFA_INTERRUPT)
		function = ffa(r, FFA_RUN, r->x[1], 0, 0);
	return function;
}

/* Asks a partition what it saw. */
static u64 ask(struct regs *r, u64 id)
{
	return wish(r, id, WHAT_DID_YOU_SEE, 0, 0);
}

struct expected {
	const char *name;
	u64 id, seen, boot_register, buffers;
	int scratch;
};

#define ALL (SAW_VERSION | SAW_MEMORY | SAW_CONSTANTS | SAW_PERMISSIONS)
#define INFORMED (ALL | SAW_BOOT_INFO | SAW_MANIFEST)

static void check_partitions(void)
{
	static const struct expected expected[] = {
		{ "first", 0x8001, INFORMED, 0, BUFFERS_BY_MANIFEST, 0 },
		{ "second", 0x8002, INFORMED, 2, BUFFERS_BY_CALL, 1 },
		{ "third", 0x8003, INFORMED, 3, BUFFERS_BY_CALL, 0 },
		{ "fourth", 0x8004, ALL, 0, BUFFERS_BY_CALL, 0 },
		{ "fifth", 0x8005, INFORMED, 1, BUFFERS_BY_CALL, 0 },
	};
	struct regs r;

	for (int n = 0; n < 5; n++) {
		const struct expected *e = &expected[n];

		print("# ");
		print(e->name);
		print("\n");
		check("answers", ask(&r, e->id), FFA_DIRECT_RESP);
		check("saw what it needs", r.x[3], e->seen);
		check("boot register", r.x[4], e->boot_register);
		check("buffers", r.x[5], e->buffers);
		check("region without an address", r.x[6] != 0, e->scratch);
	}
}

static void check_discovery(void)
{
	struct regs r;

	check("five partitions with six services", ffa(&r, FFA_PARTITION_INFO_GET_REGS, 0, 0, 0) == FFA_SUCCESS_64 ? (r.x[2] & 0xffff) + 1 : 0, 6);
	/* The first one's second UUID, 5ec0ad00-0000-4000-8000-000000000001, by its two registers. */
	check("a second UUID finds its partition", ffa(&r, FFA_PARTITION_INFO_GET_REGS, 0x0040000000adc05e, 0x0100000000000080, 0) == FFA_SUCCESS_64 ? r.x[3] & 0xffff : 0, 0x8001);
}

/* The second partition's manifest gives it a region of the normal world's memory, which it shares with the others. */
#define NON_SECURE 0x50000000
#define PATTERN 0x0123456789abcdef

static void check_sharing(void)
{
	struct regs r;
	volatile u64 *memory = (volatile u64 *)NON_SECURE;

	print("# sharing\n");
	/* Only those at S-EL0: with its MMU off a partition at S-EL1 reaches secure addresses alone. */
	for (u64 borrower = 0x8003; borrower <= 0x8005; borrower += 2) {
		*memory = PATTERN;
		wish(&r, 0x8002, SHARE, NON_SECURE, borrower);
		u64 handle = r.x[3];

		check("a partition shares its non-secure region", handle != 0, 1);
		wish(&r, borrower, BORROW, handle, 0x8002);
		check("the borrower reads it", r.x[3], PATTERN);
		check("and is told that it is non-secure", r.x[4] >> 6 & 1, 1);
		check("the borrower has written it", *memory, ~PATTERN);
		wish(&r, 0x8002, TAKE_BACK, handle, 0);
		check("it is taken back", r.x[3], 1);
	}
	/* And a region of its own secure memory, outside what its load address begins. */
	wish(&r, 0x8002, TOUCH, 0x0ef20000, PATTERN);
	wish(&r, 0x8002, SHARE, 0x0ef20000, 0x8003);
	u64 handle = r.x[3];

	check("a partition shares a secure region", handle != 0, 1);
	wish(&r, 0x8003, BORROW, handle, 0x8002);
	check("the borrower reads and writes it", r.x[3], PATTERN);
	check("and is told that it is secure", r.x[4] >> 6 & 1, 0);
	wish(&r, 0x8002, TAKE_BACK, handle, 0);
	check("it is taken back", r.x[3], 1);
}

#if defined(VHE)
/* EL1's registers have other names at EL2 with E2H. */
#define VBAR "s3_5_c12_c0_0"
#define TTBR0 "s3_5_c2_c0_0"
#define MAIR "s3_5_c10_c2_0"
#else
#define VBAR "vbar_el1"
#define TTBR0 "ttbr0_el1"
#define MAIR "mair_el1"
#endif
#define WRITE(name, value) __asm__ volatile("msr " name ", %0" : : "r"((u64)(value)))
#define READ(name) ({ u64 value; __asm__ volatile("mrs %0, " name : "=r"(value)); value; })

static void check_registers(void)
{
	struct regs r;

	print("# normal world\n");
	WRITE(VBAR, 0x61234000);
	WRITE(TTBR0, 0x62345000);
	WRITE(MAIR, 0x0011223344556677);
	WRITE("tpidr_el1", 0x1111);
	WRITE("tpidr_el0", 0x2222);
	for (u64 id = 0x8001; id <= 0x8005; id++)
		ask(&r, id);
	check("VBAR_EL1 is kept", READ(VBAR), 0x61234000);
	check("TTBR0_EL1 is kept", READ(TTBR0), 0x62345000);
	check("MAIR_EL1 is kept", READ(MAIR), 0x0011223344556677);
	check("TPIDR_EL1 is kept", READ("tpidr_el1"), 0x1111);
	check("TPIDR_EL0 is kept", READ("tpidr_el0"), 0x2222);
#if defined(VHE)
	check("HCR_EL2.E2H is kept", READ("hcr_el2") >> 34 & 1, 1);
#endif
	check("exception level", READ("CurrentEL") >> 2,
#if defined(DROP_TO_EL1)
	      1
#else
	      2
#endif
	);
}

void secondary_main(u64 core)
{
	struct regs r;

	answers[core] = ask(&r, 0x8001) == FFA_DIRECT_RESP ? r.x[7] + 1 : ~0ull;
	__asm__ volatile("dsb sy");
	for (;;)
		__asm__ volatile("wfi");
}

/* The non-secure region by its secure address, as with the MMU off: it is not there, and the partition ends. */
static void check_end(void)
{
	struct regs r;

	print("# end\n");
	check("a region of the other address space is not there", wish(&r, 0x8002, TOUCH, NON_SECURE, 0), FFA_ERROR);
	check("whoever touches it has ended", (u32)r.x[2], ABORTED);
	check("the others serve on", ask(&r, 0x8003), FFA_DIRECT_RESP);
}

static void check_cores(void)
{
	struct regs r;

	print("# further cores\n");
	for (u64 core = 1; core < 4; core++) {
		check("starts", ffa(&r, PSCI_CPU_ON, core, (u64)secondary_start, core), 0);
		for (u64 n = 0; n < 100000000 && !answers[core]; n++)
			__asm__ volatile("yield");
		check("its own vCPU of the first partition answers", answers[core], core + 1);
	}
}

void payload_main(void)
{
	struct regs r;

#if defined(FALLS_SILENT)
	if (*hung != HUNG) {
		*hung = HUNG;
		print("Falls silent, until somebody resets the machine\n");
		for (;;)
			__asm__ volatile("wfi");
	}
	*hung = 0;
#endif
	check("FF-A 1.2", ffa(&r, FFA_VERSION, 0x10002, 0, 0), 0x10002);
	check_discovery();
	check_partitions();
	check_sharing();
	check_registers();
	check_cores();
	check_end();
	print("SUITE DONE: ");
	print_number(passed, 10);
	print(" passed, ");
	print_number(failed, 10);
	print(" failed\n");
	ffa(&r, PSCI_SYSTEM_OFF, 0, 0, 0);
}
