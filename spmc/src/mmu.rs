//! S-EL2's own translation regime: an identity map, and the cores' stacks once more; every page is either RX, RO, or RW and never
//! executable.

use crate::{image, platform};
use crate::sysreg::{dsb_ish, isb, tlbi_alle2is};
use crate::table_pool::{self, Pool, Tables, User};
use bulkhead_core::tables::{MAX_ADDRESS_BITS, Mapping, OutOfTables, Root, VALID};
use spin::Mutex;

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

/// Where the cores' stacks are mapped: at TF-A's addresses, which S-EL2 has no other use for, and whose table is there anyhow; from
/// one's top to the next one's; and the bytes of a stack, below which nothing is mapped (`linker/spmc.ld`, `entry.s`).
const STACKS: u64 = platform::TRUSTED_FIRMWARE.start;
const STACK_STRIDE: u64 = 1 << 16;
const STACK: u64 = 8192;

/// Invalidates S-EL2's own entries on all cores.
pub fn invalidate() {
    dsb_ish();
    tlbi_alle2is();
    dsb_ish();
    isb();
}

fn map_in(pool: &mut Pool, own: &mut OwnTables, start: u64, end: u64, to: u64, use_: Use) -> Result<(), OutOfTables> {
    let mut tables = Tables::new(pool, User::Own);
    let root = match own.root {
        Some(root) => root,
        None => *own.root.insert(Root::new(&mut tables, MAX_ADDRESS_BITS)?),
    };
    let (start, output) = (start & !0xfff, to & !0xfff);
    root.set(&mut tables, start, end.next_multiple_of(0x1000) - start, Some(Mapping { output, attributes: use_.attributes() }))?;
    dsb_ish();
    Ok(())
}

/// Builds the map of the image, the devices that the SPMC drives and the manifest at `manifest`, and turns the MMU on by `enable`.
///
/// # Errors
/// The pool is too small: a fault of the build, reported on the console.
pub fn start(manifest: u64, enable: impl FnOnce(Root)) -> Result<(), OutOfTables> {
    // Locks come later: exclusive accesses need the MMU.
    let mut pool = Pool::new();
    let mut own = OwnTables::new();
    let mut map = |start: u64, end: u64, use_: Use| map_in(&mut pool, &mut own, start, end, start, use_);
    map(image::start(), image::text_end(), Use::Execute)?;
    map(image::text_end(), image::rodata_end(), Use::Read)?;
    map(image::rodata_end(), image::bss_end(), Use::Write)?;
    map(image::stacks(), image::tables_end(), Use::Write)?;
    map(platform::UART_BASE as u64, platform::UART_BASE as u64 + 0x1000, Use::Device)?;
    map(platform::INTERRUPT_CONTROLLER.start, platform::INTERRUPT_CONTROLLER.end, Use::Device)?;
    map(manifest, manifest + crate::boot::MAX_MANIFEST, Use::Read)?;
    for core in 0..bulkhead_core::MAX_CORES as u64 {
        let top = STACKS + (core + 1) * STACK_STRIDE;
        map_in(&mut pool, &mut own, top - STACK, top, image::stacks() + core * STACK, Use::Write)?;
    }
    if let Some(root) = own.root {
        enable(root);
    }
    *table_pool::POOL.lock() = pool;
    *OWN.lock() = own;
    Ok(())
}

/// Adds a range to the map, after boot's first stage.
///
/// # Errors
/// The pool or the SPMC's own share of it is spent.
pub fn map(start: u64, size: u64, use_: Use) -> Result<(), OutOfTables> {
    map_in(&mut table_pool::POOL.lock(), &mut OWN.lock(), start, start + size, start, use_)
}

/// What is in use of the stack that `pointer` is on, and mapped. Empty when it is on none of them.
pub fn stack_above(pointer: u64) -> core::ops::Range<u64> {
    let pointer = pointer & !7;
    let stacks = STACKS..STACKS + bulkhead_core::MAX_CORES as u64 * STACK_STRIDE;
    if stacks.contains(&pointer) {
        let top = (pointer + 1).next_multiple_of(STACK_STRIDE);
        pointer.max(top - STACK)..top
    } else if (image::stacks()..image::tables_start()).contains(&pointer) {
        pointer..image::tables_start()
    } else {
        0..0
    }
}
