//! The tables of every partition: stage 2 of its two IPA spaces, and stage 1 where it runs at S-EL0; and the ledger of
//! the normal world's pages that are shared or lent.
//!
//! A leaf's software bits 56..55 hold the page's [`PageState`], bit 57 marks a leaf that is set though it maps nothing
//! (a page lent to others). An S-EL0 partition has its permissions in stage 1; stage 2 gives it all that it may ever ask for.
//! Stage 1's own table pages are readable in its stage 2, because the walker reads them through it.

use crate::sysreg::{self, dsb_ish, isb};
use crate::table_pool::{POOL, Tables, User};
use arrayvec::ArrayVec;
use bulkhead_core::machine::Permissions;
use bulkhead_core::memory::{Holding, MemoryType, OutOfMemory, PageState};
use bulkhead_core::tables::{Mapping, PAGE, Root, TableMemory, VALID};
use bulkhead_core::MAX_PARTITIONS;
use spin::Mutex;

/// Bits that stage 1 and stage 2 leaves share.
const ACCESSED: u64 = 1 << 10;
const INNER_SHAREABLE: u64 = 3 << 8;
const EXECUTE_NEVER: u64 = 1 << 54;
const STATE_SHIFT: u32 = 55;
/// The leaf means something though it may map nothing.
const PRESENT: u64 = 1 << 57;

/// Stage 2: S2AP and MemAttr (Arm ARM D8.3 and D8.5).
mod s2 {
    pub const READ: u64 = 1 << 6;
    pub const WRITE: u64 = 1 << 7;
    pub const NORMAL: u64 = 0b1111 << 2;
    pub const DEVICE: u64 = 0b0001 << 2;
    pub const MEMORY: u64 = 0b1111 << 2;
}

/// Stage 1 of S-EL0 partitions.
mod s1 {
    /// AttrIndx 1: device.
    pub const DEVICE: u64 = 1 << 2;
    pub const NON_SECURE: u64 = 1 << 5;
    pub const EL0: u64 = 1 << 6;
    pub const READ_ONLY: u64 = 1 << 7;
    /// EL1 never executes what EL0 may reach.
    pub const EL1_EXECUTE_NEVER: u64 = 1 << 53;
}

/// MAIR_EL1 of S-EL0 partitions: attribute 0 normal write-back, attribute 1 device nGnRE.
pub const MAIR: u64 = 0x04ff;
/// TCR_EL1 of S-EL0 partitions: 39 bits, 4 KiB, write-back inner-shareable walks, TTBR1 off, 40-bit output.
pub const TCR: u64 = 25 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23 | 2 << 32;

/// The roots of one partition.
#[derive(Clone, Copy)]
pub struct Roots {
    /// Secure IPA space, and the VMID's owner.
    pub secure: Root,
    /// Non-secure IPA space.
    pub non_secure: Root,
    /// Stage 1, for S-EL0.
    pub stage1: Option<Root>,
    /// VMID: unique among partitions.
    pub vmid: u16,
}

struct Space {
    roots: Option<Roots>,
}

impl Space {
    const fn new() -> Self {
        Self { roots: None }
    }
}

static SPACES: [Mutex<Space>; MAX_PARTITIONS] = [const { Mutex::new(Space::new()) }; MAX_PARTITIONS];

/// Pages of the normal world that are not simply its own: no hardware walks this table.
struct NormalWorld {
    root: Option<Root>,
}

static NORMAL_WORLD: Mutex<NormalWorld> = Mutex::new(NormalWorld { root: None });

fn space(partition: u8) -> &'static Mutex<Space> {
    &SPACES[usize::from(partition) % MAX_PARTITIONS]
}

/// Invalidates all of a VMID's entries on all cores.
pub fn invalidate(vmid: u16) {
    let running = sysreg::vttbr_el2::read();
    // Completes the table writes before the invalidation that makes them count.
    dsb_ish();
    let switch = (running >> 48) as u16 != vmid;
    if switch {
        sysreg::vttbr_el2::write(u64::from(vmid) << 48);
        isb();
    }
    sysreg::tlbi_vmalls12e1is();
    // All cores have dropped the entries before the pages or tables are used for something else.
    dsb_ish();
    isb();
    if switch {
        sysreg::vttbr_el2::write(running);
        isb();
    }
}

/// Makes an empty address space for a partition.
///
/// # Errors
/// The pool or the partition's share of it is spent.
pub fn create(partition: u8, s_el0: bool) -> Result<(), OutOfMemory> {
    let mut space = space(partition).lock();
    let mut pool = POOL.lock();
    let vmid = u16::from(partition) + 1;
    let mut tables = Tables::new(&mut pool, User::Partition(vmid));
    let secure = Root::new(&mut tables)?;
    let non_secure = Root::new(&mut tables)?;
    let stage1 = if s_el0 { Some(Root::new(&mut tables)?) } else { None };
    if let Some(root) = stage1 {
        secure.set(&mut tables, root.0, PAGE, Some(for_the_walker(root.0)))?;
    }
    space.roots = Some(Roots { secure, non_secure, stage1, vmid });
    Ok(())
}

/// Whether a partition's tables map a page now. While they are changed, entries that stay what they are vanish for a moment
/// (break-before-make), and its vCPUs on other cores may fault on them.
pub fn is_mapped(partition: u8, page: u64, secure: bool) -> bool {
    let space = space(partition).lock();
    let Some(roots) = space.roots else { return false };
    let mut pool = POOL.lock();
    let tables = Tables::new(&mut pool, User::Partition(roots.vmid));
    let root = if secure { roots.secure } else { roots.non_secure };
    root.walk(&tables, page).is_some_and(|leaf| leaf.attributes & VALID != 0)
}

/// Takes everything from a partition that has failed, so that its vCPUs on other cores stop at their next instruction. The
/// tables below the roots stay with it: it never gives any back.
pub fn cut_off(partition: u8) {
    let space = space(partition).lock();
    let Some(roots) = space.roots else { return };
    let mut pool = POOL.lock();
    let mut tables = Tables::new(&mut pool, User::Partition(roots.vmid));
    for root in [roots.secure, roots.non_secure] {
        for index in 0..512 {
            tables.write(root.0, index, 0);
        }
    }
    tables.invalidate();
}

/// The roots of a partition, for entering it.
pub fn roots(partition: u8) -> Option<Roots> {
    space(partition).lock().roots
}

/// How the walker sees a stage 1 table through stage 2.
fn for_the_walker(table: u64) -> Mapping {
    let access = Permissions { read: true, write: false, execute: false };
    Mapping { output: table, attributes: stage_2_attributes(access, true, MemoryType::Normal) | ACCESSED | VALID }
}

fn stage_2_attributes(permissions: Permissions, secure: bool, memory_type: MemoryType) -> u64 {
    let mut bits = match memory_type {
        MemoryType::Normal => s2::NORMAL | INNER_SHAREABLE,
        MemoryType::Device => s2::DEVICE | EXECUTE_NEVER,
    };
    if permissions.read {
        bits |= s2::READ;
    }
    if permissions.write {
        bits |= s2::WRITE;
    }
    // Nothing of the normal world is executed in the secure one.
    if !permissions.execute || !secure {
        bits |= EXECUTE_NEVER;
    }
    bits
}

fn stage_1_attributes(permissions: Permissions, secure: bool, memory_type: MemoryType) -> u64 {
    let mut bits = ACCESSED | INNER_SHAREABLE | s1::EL1_EXECUTE_NEVER | PRESENT;
    if memory_type == MemoryType::Device {
        bits |= s1::DEVICE;
    }
    if !secure {
        bits |= s1::NON_SECURE;
    }
    if permissions.read || permissions.write {
        bits |= s1::EL0 | VALID;
    }
    if !permissions.write {
        bits |= s1::READ_ONLY;
    }
    if !permissions.execute {
        bits |= EXECUTE_NEVER;
    }
    bits
}

const fn encode_state(state: PageState) -> u64 {
    PRESENT | (state as u64) << STATE_SHIFT
}

const fn decode_state(bits: u64) -> PageState {
    match bits >> STATE_SHIFT & 3 {
        0 => PageState::Owned,
        1 => PageState::Shared,
        2 => PageState::Lent,
        _ => PageState::Borrowed,
    }
}

/// What a partition has at `page`.
pub fn holding(partition: u8, page: u64) -> Option<Holding> {
    let space = space(partition).lock();
    let roots = space.roots?;
    let mut pool = POOL.lock();
    let tables = Tables::new(&mut pool, User::Partition(roots.vmid));
    let found = |root: Root, secure: bool| {
        let bits = root.walk(&tables, page)?.attributes;
        // A table page, or the vectors of S-EL0: mapped, and not the partition's.
        if bits & PRESENT == 0 {
            return None;
        }
        let memory_type = if bits & s2::MEMORY == s2::NORMAL { MemoryType::Normal } else { MemoryType::Device };
        let permissions = Permissions { read: bits & s2::READ != 0, write: bits & s2::WRITE != 0, execute: bits & EXECUTE_NEVER == 0 };
        Some(Holding { state: decode_state(bits), permissions, secure, memory_type })
    };
    let mut holding = found(roots.secure, true).or_else(|| found(roots.non_secure, false))?;
    if let Some(stage1) = roots.stage1 {
        holding.permissions = stage1.walk(&tables, page).map_or(NO_ACCESS, |leaf| stage_1_permissions(leaf.attributes));
    }
    Some(holding)
}

const NO_ACCESS: Permissions = Permissions { read: false, write: false, execute: false };

/// The permissions in a stage 1 leaf, valid or not.
const fn stage_1_permissions(bits: u64) -> Permissions {
    let read = bits & s1::EL0 != 0;
    Permissions { read, write: read && bits & s1::READ_ONLY == 0, execute: bits & EXECUTE_NEVER == 0 }
}

/// Replaces what a partition has at a run of pages.
///
/// # Errors
/// The pool or the partition's share of it is spent; part of the range may have changed.
pub fn set_holding(partition: u8, page: u64, pages: u64, holding: Option<Holding>) -> Result<(), OutOfMemory> {
    let space = space(partition).lock();
    let Some(roots) = space.roots else { return Err(OutOfMemory) };
    let mut pool = POOL.lock();
    let mut tables = Tables::new(&mut pool, User::Partition(roots.vmid));
    let size = pages * PAGE;
    let Some(holding) = holding else {
        roots.secure.set(&mut tables, page, size, None)?;
        roots.non_secure.set(&mut tables, page, size, None)?;
        return set_stage_1(&mut tables, roots, page, size, None);
    };
    let root = if holding.secure { roots.secure } else { roots.non_secure };
    // Stage 1 decides for S-EL0; stage 2 only keeps devices and the normal world's memory from being executed.
    let everything = Permissions { read: true, write: true, execute: true };
    let permissions = if roots.stage1.is_some() { everything } else { holding.permissions };
    let mut attributes = stage_2_attributes(permissions, holding.secure, holding.memory_type) | ACCESSED | encode_state(holding.state);
    let accessible = holding.state != PageState::Lent;
    if accessible {
        attributes |= VALID;
    }
    root.set(&mut tables, page, size, Some(Mapping { output: page, attributes }))?;
    let mut leaf = stage_1_attributes(holding.permissions, holding.secure, holding.memory_type);
    if !accessible {
        leaf &= !VALID;
    }
    set_stage_1(&mut tables, roots, page, size, Some(leaf))
}

/// Changes stage 1 of an S-EL0 partition, and lets the walker see the tables that the change brings.
fn set_stage_1(tables: &mut Tables<'_>, roots: Roots, page: u64, size: u64, attributes: Option<u64>) -> Result<(), OutOfMemory> {
    let Some(stage1) = roots.stage1 else { return Ok(()) };
    let mut recording = Recording { tables, fresh: ArrayVec::new(), stale: ArrayVec::new() };
    let mapping = attributes.map(|attributes| Mapping { output: page, attributes });
    let result = stage1.set(&mut recording, page, size, mapping).map_err(OutOfMemory::from);
    let Recording { tables, fresh, stale } = recording;
    for table in stale {
        roots.secure.set(tables, table, PAGE, None)?;
    }
    for table in fresh {
        roots.secure.set(tables, table, PAGE, Some(for_the_walker(table)))?;
    }
    result
}

/// Tables that one change of a stage 1 may take or give up.
const MAX_CHANGES: usize = 16;

/// Table memory that remembers which tables came and went.
struct Recording<'a, 'b> {
    tables: &'a mut Tables<'b>,
    fresh: ArrayVec<u64, MAX_CHANGES>,
    stale: ArrayVec<u64, MAX_CHANGES>,
}

impl TableMemory for Recording<'_, '_> {
    fn read(&self, table: u64, index: usize) -> u64 {
        self.tables.read(table, index)
    }

    fn write(&mut self, table: u64, index: usize, descriptor: u64) {
        self.tables.write(table, index, descriptor);
    }

    fn allocate(&mut self) -> Option<u64> {
        if self.fresh.is_full() {
            return None;
        }
        let table = self.tables.allocate()?;
        self.fresh.push(table);
        Some(table)
    }

    fn free(&mut self, table: u64) {
        self.tables.free(table);
        if let Some(place) = self.fresh.iter().position(|t| *t == table) {
            self.fresh.remove(place);
        } else if self.stale.try_push(table).is_err() {
            // More tables than one call of the ABI can empty: the page stays readable to the walker, which never reads it.
            debug_assert!(false, "a change of stage 1 freed more than {MAX_CHANGES} tables");
        }
    }

    fn invalidate(&mut self) {
        self.tables.invalidate();
    }
}

/// Changes an S-EL0 partition's permissions at pages that it has.
///
/// # Errors
/// The pool or the partition's share of it is spent.
pub fn set_permissions(partition: u8, page: u64, pages: u64, permissions: Permissions) -> Result<(), OutOfMemory> {
    for n in 0..pages {
        let at = page + n * PAGE;
        if let Some(holding) = holding(partition, at) {
            set_holding(partition, at, 1, Some(Holding { permissions, ..holding }))?;
        }
    }
    if let Some(roots) = roots(partition) {
        invalidate(roots.vmid);
    }
    if permissions.execute {
        sysreg::invalidate_instruction_caches();
    }
    Ok(())
}

/// Maps Bulkhead's page of EL1 vectors into an S-EL0 partition: executable by EL1, invisible to EL0.
///
/// # Errors
/// The pool or the partition's share of it is spent.
pub fn map_vectors(partition: u8, page: u64) -> Result<(), OutOfMemory> {
    let space = space(partition).lock();
    let Some(roots) = space.roots else { return Err(OutOfMemory) };
    let mut pool = POOL.lock();
    let mut tables = Tables::new(&mut pool, User::Partition(roots.vmid));
    let access = Permissions { read: true, write: false, execute: true };
    let attributes = stage_2_attributes(access, true, MemoryType::Normal) | ACCESSED | VALID;
    roots.secure.set(&mut tables, page, PAGE, Some(Mapping { output: page, attributes }))?;
    let leaf = ACCESSED | INNER_SHAREABLE | s1::READ_ONLY | EXECUTE_NEVER | VALID;
    set_stage_1(&mut tables, roots, page, PAGE, Some(leaf))
}

/// The state of a page of the normal world's RAM.
pub fn normal_world_state(page: u64) -> PageState {
    let world = NORMAL_WORLD.lock();
    let Some(root) = world.root else { return PageState::Owned };
    let mut pool = POOL.lock();
    let tables = Tables::new(&mut pool, User::NormalWorld);
    root.walk(&tables, page).map_or(PageState::Owned, |leaf| decode_state(leaf.attributes))
}

/// Notes the state of pages of the normal world's RAM.
///
/// # Errors
/// The pool or the normal world's share of it is spent.
pub fn set_normal_world_state(page: u64, pages: u64, state: PageState) -> Result<(), OutOfMemory> {
    let mut world = NORMAL_WORLD.lock();
    let mut pool = POOL.lock();
    let mut tables = Tables::new(&mut pool, User::NormalWorld);
    let root = match world.root {
        Some(root) => root,
        None => *world.root.insert(Root::new(&mut tables)?),
    };
    let mapping = (state != PageState::Owned).then_some(Mapping { output: page, attributes: encode_state(state) });
    root.set(&mut tables, page, pages * PAGE, mapping).map_err(OutOfMemory::from)
}
