//! The identity map of an S-EL1 partition: what it may really reach is decided by the SPMC's stage 2.
//!
//! | addresses | mapped as |
//! |---|---|
//! | first GiB below secure RAM | device registers |
//! | first GiB from secure RAM on | normal memory, secure |
//! | the next 3 GiB | normal memory, non-secure: what the normal world shares |
#![expect(unsafe_code, reason = "tables that the hardware reads, named by the entry code")]

use core::sync::atomic::{AtomicU64, Ordering};

/// Where QEMU virt's secure RAM starts.
const SECURE_RAM: u64 = 0x0E00_0000;
const VALID_BLOCK: u64 = 1;
const VALID_TABLE: u64 = 3;
const DEVICE: u64 = 1 << 2;
const NON_SECURE: u64 = 1 << 5;
const INNER_SHAREABLE: u64 = 3 << 8;
const ACCESSED: u64 = 1 << 10;
const EXECUTE_NEVER: u64 = 1 << 53;

#[repr(C, align(4096))]
struct Table([AtomicU64; 512]);

impl Table {
    const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; 512])
    }
}

#[unsafe(no_mangle)]
static S_EL1_ROOT: Table = Table::new();
static FIRST_GIB: Table = Table::new();

/// Fills the tables; the entry code calls it once, before any vCPU turns its MMU on.
#[unsafe(no_mangle)]
extern "C" fn s_el1_build_tables() {
    for (n, entry) in FIRST_GIB.0.iter().enumerate() {
        let address = (n as u64) << 21;
        let kind = if address < SECURE_RAM { DEVICE | EXECUTE_NEVER } else { INNER_SHAREABLE };
        entry.store(address | kind | ACCESSED | VALID_BLOCK, Ordering::Relaxed);
    }
    let first = core::ptr::from_ref(&FIRST_GIB) as u64;
    for (n, entry) in S_EL1_ROOT.0.iter().enumerate().take(4) {
        let block = (n as u64) << 30 | NON_SECURE | INNER_SHAREABLE | ACCESSED | VALID_BLOCK | EXECUTE_NEVER;
        entry.store(if n == 0 { first | VALID_TABLE } else { block }, Ordering::Relaxed);
    }
}

/// Lets this partition execute everywhere as far as its own tables go, for programs that probe what the SPMC refuses.
pub fn allow_execution_everywhere() {
    for entry in FIRST_GIB.0.iter().chain(&S_EL1_ROOT.0) {
        entry.fetch_and(!EXECUTE_NEVER, Ordering::Relaxed);
    }
    // SAFETY: forgets translations of this partition's own, which are all made from these tables.
    unsafe { core::arch::asm!("dsb ishst", "tlbi vmalle1is", "dsb ish", "isb", options(nostack)) };
}
