//! S-EL2's own translation regime: an identity map in which every page is either RX, RO, or RW and never executable.

use crate::platform;
use crate::sysreg::{dsb_ish, isb, tlbi_alle2is};
use crate::table_pool::{self, Pool, Quota, Tables};
use crate::{read_sysreg, write_sysreg};
use bulkhead_core::tables::{Mapping, Root, VALID};
use spin::Mutex;

/// MAIR: attribute 0 normal write-back, attribute 1 device nGnRE.
const MAIR: u64 = 0x04ff;
const DEVICE: u64 = 1 << 2;
const NON_SECURE: u64 = 1 << 5;
const RES1_AP1: u64 = 1 << 6;
const READ_ONLY: u64 = 1 << 7;
const INNER_SHAREABLE: u64 = 3 << 8;
const ACCESSED: u64 = 1 << 10;
const NEVER_EXECUTE: u64 = 1 << 54;
const BASE: u64 = VALID | RES1_AP1 | ACCESSED | INNER_SHAREABLE;

/// What a range of S-EL2's address space may be used for.
#[derive(Clone, Copy, Debug)]
pub enum Use {
    /// Code.
    Execute,
    /// Constants.
    Read,
    /// Data of the secure world.
    Write,
    /// Data of the normal world.
    WriteNonSecure,
    /// Device registers of the secure world.
    Device,
}

impl Use {
    const fn attributes(self) -> u64 {
        BASE | match self {
            Self::Execute => READ_ONLY,
            Self::Read => READ_ONLY | NEVER_EXECUTE,
            Self::Write => NEVER_EXECUTE,
            Self::WriteNonSecure => NEVER_EXECUTE | NON_SECURE,
            Self::Device => NEVER_EXECUTE | DEVICE,
        }
    }
}

struct OwnTables {
    root: Option<Root>,
    quota: Quota,
}

static OWN: Mutex<OwnTables> = Mutex::new(OwnTables { root: None, quota: Quota { used: 0, limit: 24 } });

fn invalidate(_vmid: u16) {
    dsb_ish();
    tlbi_alle2is();
    dsb_ish();
    isb();
}

unsafe extern "C" {
    safe static __image_start: u8;
    safe static __text_end: u8;
    safe static __rodata_end: u8;
    safe static __bss_end: u8;
    safe static __stacks_start: u8;
    safe static __tables_start: u8;
    safe static __tables_end: u8;
}

fn address(symbol: &u8) -> u64 {
    core::ptr::from_ref(symbol) as u64
}

fn map_in(pool: &mut Pool, own: &mut OwnTables, start: u64, end: u64, use_: Use) -> Result<(), bulkhead_core::tables::OutOfTables> {
    let mut tables = Tables::new(pool, &mut own.quota, invalidate, 0);
    let root = match own.root {
        Some(root) => root,
        None => *own.root.insert(Root::new(&mut tables)?),
    };
    let start = start & !0xfff;
    root.set(&mut tables, start, end.next_multiple_of(0x1000) - start, Some(Mapping { output: start, attributes: use_.attributes() }))?;
    dsb_ish();
    Ok(())
}

/// Builds the map of the image, the devices that the SPMC drives and the manifest at `manifest`, and turns the MMU on.
///
/// # Errors
/// The pool is too small: a fault of the build, reported on the console.
pub fn start(manifest: u64) -> Result<(), bulkhead_core::tables::OutOfTables> {
    let pool = table_pool::before_mmu();
    let mut own = OWN.try_lock().ok_or(bulkhead_core::tables::OutOfTables)?;
    let own = &mut *own;
    let mut map = |start: u64, end: u64, use_: Use| map_in(pool, own, start, end, use_);
    map(address(&__image_start), address(&__text_end), Use::Execute)?;
    map(address(&__text_end), address(&__rodata_end), Use::Read)?;
    map(address(&__rodata_end), address(&__bss_end), Use::Write)?;
    for core in 0..bulkhead_core::MAX_CORES as u64 {
        let stack = address(&__stacks_start) + core * (4096 + 12288) + 4096;
        map(stack, stack + 12288, Use::Write)?;
    }
    map(address(&__tables_start), address(&__tables_end), Use::Write)?;
    map(platform::UART_BASE as u64, platform::UART_BASE as u64 + 0x1000, Use::Device)?;
    map(platform::GICD_BASE as u64, platform::GICD_BASE as u64 + platform::GIC_SIZE, Use::Device)?;
    map(manifest, manifest + crate::boot::MAX_MANIFEST, Use::Read)?;
    enable_with(own.root);
    Ok(())
}

/// Turns the MMU on, on a core other than the first.
pub fn start_secondary() {
    // The lock cannot be taken before the MMU is on; the root does not change after boot, and the boot core wrote it
    // with its caches on before it registered this core's entry point.
    enable_with(OWN_ROOT.get().copied());
}

static OWN_ROOT: spin::Once<Root> = spin::Once::new();

fn enable_with(root: Option<Root>) {
    let Some(root) = root else { return };
    let range = (read_sysreg!("id_aa64mmfr0_el1") & 0xf).min(2);
    write_sysreg!("mair_el2", MAIR);
    // 39-bit addresses, 4 KiB granule, write-back inner-shareable walks; bits 31 and 23 are RES1.
    write_sysreg!("tcr_el2", 25 | 1 << 8 | 1 << 10 | 3 << 12 | range << 16 | 1 << 23 | 1 << 31);
    write_sysreg!("ttbr0_el2", root.0);
    dsb_ish();
    tlbi_alle2is();
    dsb_ish();
    isb();
    // M, C, SA, I, WXN and the RES1 bits.
    write_sysreg!("sctlr_el2", 0x30c5_0830 | 1 | 1 << 2 | 1 << 3 | 1 << 12 | 1 << 19);
    isb();
    OWN_ROOT.call_once(|| root);
}

/// Adds a range to the map, after boot's first stage.
///
/// # Errors
/// The pool or the SPMC's own quota is spent.
pub fn map(start: u64, size: u64, use_: Use) -> Result<(), bulkhead_core::tables::OutOfTables> {
    map_in(&mut table_pool::POOL.lock(), &mut OWN.lock(), start, start + size, use_)
}
