//! S-EL2's own translation regime: an identity map in which every page is either RX, RO, or RW and never executable.

use crate::{image, platform};
use crate::sysreg::{self, dsb_ish, isb, tlbi_alle2is};
use crate::table_pool::{self, Pool, Tables, User};
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
}

impl OwnTables {
    const fn new() -> Self {
        Self { root: None }
    }
}

static OWN: Mutex<OwnTables> = Mutex::new(OwnTables::new());

/// Bytes of a core's stack, and of the hole below it (`linker/spmc.ld`, `entry.s`).
const STACK: u64 = 12288;
const GUARD: u64 = 4096;

/// Invalidates S-EL2's own entries on all cores.
pub fn invalidate() {
    dsb_ish();
    tlbi_alle2is();
    dsb_ish();
    isb();
}

fn map_in(pool: &mut Pool, own: &mut OwnTables, start: u64, end: u64, use_: Use) -> Result<(), bulkhead_core::tables::OutOfTables> {
    let mut tables = Tables::new(pool, User::Own);
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
    // Locks come later: exclusive accesses need the MMU.
    let mut pool = Pool::at_boot();
    let mut own = OwnTables::new();
    let mut map = |start: u64, end: u64, use_: Use| map_in(&mut pool, &mut own, start, end, use_);
    map(image::start(), image::text_end(), Use::Execute)?;
    map(image::text_end(), image::rodata_end(), Use::Read)?;
    map(image::rodata_end(), image::bss_end(), Use::Write)?;
    for core in 0..bulkhead_core::MAX_CORES as u64 {
        let stack = image::stacks() + core * (GUARD + STACK) + GUARD;
        map(stack, stack + STACK, Use::Write)?;
    }
    let guard = table_pool::boot_guard();
    map(image::tables_start(), guard, Use::Write)?;
    map(guard + GUARD, image::tables_end(), Use::Write)?;
    map(platform::UART_BASE as u64, platform::UART_BASE as u64 + 0x1000, Use::Device)?;
    map(platform::INTERRUPT_CONTROLLER.start, platform::INTERRUPT_CONTROLLER.end, Use::Device)?;
    map(manifest, manifest + crate::boot::MAX_MANIFEST, Use::Read)?;
    enable_with(own.root);
    *table_pool::POOL.lock() = pool;
    let root = own.root;
    *OWN.lock() = own;
    if let Some(root) = root {
        OWN_ROOT.call_once(|| root);
    }
    Ok(())
}

/// Gives the pages of boot's stack to the pool of tables; the boot core is on its own stack by now.
///
/// # Errors
/// No table for the guard page's mapping, which boot made: cannot happen.
pub fn end_boot() -> Result<(), bulkhead_core::tables::OutOfTables> {
    map(table_pool::boot_guard(), GUARD, Use::Write)?;
    table_pool::POOL.lock().take_boot_stack();
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
    let range = (sysreg::id_aa64mmfr0_el1::read() & 0xf).min(2);
    sysreg::mair_el2::write(MAIR);
    // 39-bit addresses, 4 KiB granule, write-back inner-shareable walks; bits 31 and 23 are RES1.
    sysreg::tcr_el2::write(25 | 1 << 8 | 1 << 10 | 3 << 12 | range << 16 | 1 << 23 | 1 << 31);
    sysreg::ttbr0_el2::write(root.0);
    dsb_ish();
    tlbi_alle2is();
    dsb_ish();
    isb();
    // M, C, SA, I, WXN and the RES1 bits.
    sysreg::sctlr_el2::write(0x30c5_0830 | 1 | 1 << 2 | 1 << 3 | 1 << 12 | 1 << 19);
    isb();
}

/// Adds a range to the map, after boot's first stage.
///
/// # Errors
/// The pool or the SPMC's own share of it is spent.
pub fn map(start: u64, size: u64, use_: Use) -> Result<(), bulkhead_core::tables::OutOfTables> {
    map_in(&mut table_pool::POOL.lock(), &mut OWN.lock(), start, start + size, use_)
}

/// What is in use of the stack that `pointer` is on, and mapped. Empty when it is on none of them.
pub fn stack_above(pointer: u64) -> core::ops::Range<u64> {
    let pointer = pointer & !7;
    if (image::stacks()..image::tables_start()).contains(&pointer) {
        let guard = pointer - (pointer - image::stacks()) % (GUARD + STACK);
        pointer.max(guard + GUARD)..guard + GUARD + STACK
    } else if (table_pool::boot_guard()..image::tables_end()).contains(&pointer) {
        pointer.max(table_pool::boot_guard() + GUARD)..image::tables_end()
    } else {
        0..0
    }
}
