//! The tables of every partition: stage 2 of its two IPA spaces, and stage 1 where it runs at S-EL0.
//!
//! A leaf's software bits 56..55 hold the page's [`PageState`], bit 57 marks a leaf that is set though it maps nothing
//! (a page lent to others). An S-EL0 partition has its permissions and states in stage 1, which Bulkhead owns. Its secure
//! stage 2 keeps it from all secure memory but its own and what it borrows, and from writing its tables; its non-secure
//! stage 2 is the identity, one for all of them: stage 1 says which of the normal world's memory it reaches.

use crate::{image, platform};
use crate::sysreg::{self, dsb_ish, isb};
use crate::table_pool::{POOL, Pool, Tables, User};
use bulkhead_core::machine::Permissions;
use bulkhead_core::memory::{Holding, Holdings, MemoryType, OutOfMemory, PageState};
use bulkhead_core::tables::{Cursor, MAX_ADDRESS_BITS, MIN_ADDRESS_BITS, Mapping, OutOfTables, PAGE, Root, TableMemory, VALID};
use bulkhead_core::MAX_PARTITIONS;
use bulkhead_ffa::Status;
use core::sync::atomic::{AtomicU32, Ordering};
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

/// See [`address_bits`].
static ADDRESS_BITS: AtomicU32 = AtomicU32::new(0);

/// Makes the address spaces of partitions reach to `end`, or as far as tables can. Before the first one is made.
pub fn reach(end: u64) {
    let bits = (u64::BITS - end.saturating_sub(1).leading_zeros()).clamp(MIN_ADDRESS_BITS, MAX_ADDRESS_BITS);
    ADDRESS_BITS.store(bits, Ordering::Relaxed);
}

/// Address bits of every partition, of stage 2 and stage 1: no more than there is memory for, which keeps the roots small.
pub fn address_bits() -> u32 {
    ADDRESS_BITS.load(Ordering::Relaxed)
}

/// TCR_EL1 of S-EL0 partitions: 4 KiB, write-back inner-shareable walks, TTBR1 off, 40-bit output.
pub fn tcr() -> u64 {
    u64::from(64 - address_bits()) | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23 | 2 << 32
}

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

/// A partition's place; all zero bits when fresh, and so no data of the image.
struct Space {
    made: bool,
    /// There may be blocks of what will be cleared in pieces.
    joined: bool,
    roots: Roots,
}

impl Space {
    const fn new() -> Self {
        Self { made: false, joined: false, roots: Roots { secure: Root::NONE, non_secure: Root::NONE, stage1: None, vmid: 0 } }
    }

    fn roots(&self) -> Option<Roots> {
        self.made.then_some(self.roots)
    }
}

static SPACES: [Mutex<Space>; MAX_PARTITIONS] = [const { Mutex::new(Space::new()) }; MAX_PARTITIONS];

fn space(partition: u8) -> &'static Mutex<Space> {
    &SPACES[usize::from(partition) % MAX_PARTITIONS]
}

/// See [`identity`].
static IDENTITY: Mutex<Option<Root>> = Mutex::new(None);

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
    let (start, end, bits) = (image::tables_start(), pool.end(), address_bits());
    let mut tables = Tables::new(&mut pool, User::Partition(vmid));
    let secure = Root::new(&mut tables, bits)?;
    let stage1 = if s_el0 { Some(Root::new(&mut tables, bits)?) } else { None };
    if s_el0 {
        // The walker of stage 1 reads its tables through stage 2; they are in nobody's stage 1.
        let access = Permissions { read: true, write: false, execute: false };
        let attributes = stage_2_attributes(access, true, MemoryType::Normal) | ACCESSED | VALID;
        secure.set(&mut tables, start, end - start, Some(Mapping { output: start, attributes }))?;
    }
    drop(tables);
    let non_secure = if s_el0 { identity(&mut pool)? } else { Root::new(&mut Tables::new(&mut pool, User::Partition(vmid)), bits)? };
    *space = Space { made: true, joined: false, roots: Roots { secure, non_secure, stage1, vmid } };
    Ok(())
}

/// The non-secure stage 2 of all partitions at S-EL0.
fn identity(pool: &mut Pool) -> Result<Root, OutOfMemory> {
    let mut shared = IDENTITY.lock();
    if let Some(root) = *shared {
        return Ok(root);
    }
    let mut tables = Tables::new(pool, User::Own);
    let root = Root::new(&mut tables, address_bits())?;
    let access = Permissions { read: true, write: true, execute: false };
    let attributes = stage_2_attributes(access, false, MemoryType::Normal) | ACCESSED | VALID;
    root.set(&mut tables, 0, 1 << address_bits(), Some(Mapping { output: 0, attributes }))?;
    Ok(*shared.insert(root))
}

/// Whether a partition's tables map a page now, in one address space or the other. While they are changed, entries that stay what they are vanish for a moment
/// (break-before-make), and its vCPUs on other cores may fault on them.
pub fn is_mapped(partition: u8, page: u64) -> bool {
    let space = space(partition).lock();
    let Some(roots) = space.roots() else { return false };
    let mut pool = POOL.lock();
    let tables = Tables::new(&mut pool, User::Partition(roots.vmid));
    [roots.secure, roots.non_secure].iter().any(|root| root.walk(&tables, page).is_some_and(|leaf| leaf.attributes & VALID != 0))
}

/// Takes everything from a partition that has failed, so that its vCPUs on other cores stop at their next instruction. The
/// tables below the roots stay with it: it never gives any back.
pub fn cut_off(partition: u8) {
    let space = space(partition).lock();
    let Some(roots) = space.roots() else { return };
    let mut pool = POOL.lock();
    let mut tables = Tables::new(&mut pool, User::Partition(roots.vmid));
    // At S-EL0 the non-secure stage 2 is others' as well. Without the secure one no walk of stage 1 gets anywhere.
    for root in [roots.secure, roots.stage1.unwrap_or(roots.non_secure)] {
        for index in 0..root.entries() {
            tables.write(root.table, index, 0);
        }
    }
    tables.invalidate();
}

/// The roots of a partition, for entering it.
pub fn roots(partition: u8) -> Option<Roots> {
    space(partition).lock().roots()
}

fn stage_2_attributes(permissions: Permissions, secure: bool, memory_type: MemoryType) -> u64 {
    let kind = match memory_type {
        MemoryType::Normal => s2::NORMAL | INNER_SHAREABLE,
        MemoryType::Device => s2::DEVICE | EXECUTE_NEVER,
    };
    // Nothing of the normal world is executed in the secure one.
    let never = !(permissions.execute & secure);
    kind | bit(s2::READ, permissions.read) | bit(s2::WRITE, permissions.write) | bit(EXECUTE_NEVER, never)
}

fn stage_1_attributes(permissions: Permissions, secure: bool, memory_type: MemoryType, state: PageState) -> u64 {
    ACCESSED | INNER_SHAREABLE | s1::EL1_EXECUTE_NEVER | encode_state(state)
        | bit(s1::DEVICE, memory_type == MemoryType::Device)
        | bit(s1::NON_SECURE, !secure)
        | bit(s1::EL0 | VALID, permissions.read | permissions.write)
        | bit(s1::READ_ONLY, !permissions.write)
        | bit(EXECUTE_NEVER, !permissions.execute)
}

/// The bits, if they are to be set.
const fn bit(bits: u64, set: bool) -> u64 {
    if set { bits } else { 0 }
}

const fn encode_state(state: PageState) -> u64 {
    PRESENT | (state as u64) << STATE_SHIFT
}

const fn decode_state(bits: u64) -> PageState {
    PageState::from_bits(bits >> STATE_SHIFT)
}

/// Lets `work` look at and change what a partition has, with its tables locked.
pub fn holdings(partition: u8, work: &mut dyn FnMut(&mut dyn Holdings)) {
    let mut space = space(partition).lock();
    let mut pool = POOL.lock();
    if let Some(roots) = space.roots() {
        work(&mut Partition::new(&mut pool, roots, &mut space.joined));
    }
}

/// One partition's tables while they are locked.
struct Partition<'a> {
    tables: Tables<'a>,
    secure: Cursor,
    non_secure: Cursor,
    stage1: Option<Cursor>,
    joined: &'a mut bool,
}

impl<'a> Partition<'a> {
    fn new(pool: &'a mut Pool, roots: Roots, joined: &'a mut bool) -> Self {
        Self {
            tables: Tables::new(pool, User::Partition(roots.vmid)),
            secure: Cursor::new(roots.secure),
            non_secure: Cursor::new(roots.non_secure),
            stage1: roots.stage1.map(Cursor::new),
            joined,
        }
    }

    /// Does something in each of the tables in which a page of one of the address spaces stands: in stage 2 with this flag, then in
    /// stage 1.
    #[inline(always)]
    fn each(&mut self, secure: bool, mut work: impl FnMut(&mut Cursor, &mut Tables<'a>, bool) -> Result<(), OutOfTables>) -> Result<(), OutOfMemory> {
        // The non-secure stage 2 of a partition at S-EL0 is always the same.
        if secure || self.stage1.is_none() {
            work(if secure { &mut self.secure } else { &mut self.non_secure }, &mut self.tables, false)?;
        }
        if let Some(stage1) = &mut self.stage1 {
            work(stage1, &mut self.tables, true)?;
        }
        Ok(())
    }

    /// Writes what stands for pages of one of the address spaces, at their own addresses: in stage 2, and in stage 1.
    fn write(&mut self, page: u64, pages: u64, secure: bool, leaves: Option<[u64; 2]>) -> Result<(), OutOfMemory> {
        self.each(secure, |cursor, tables, is_stage_1| {
            let mapping = leaves.map(|leaves| Mapping { output: page, attributes: leaves[usize::from(is_stage_1)] });
            cursor.set(tables, page, pages * PAGE, mapping)
        })
    }

    /// Changes what it has at each of a run of pages.
    fn change(&mut self, page: u64, pages: u64, to: impl Fn(Holding) -> Holding) -> Result<(), OutOfMemory> {
        let (mut at, mut left) = (page, pages);
        while left != 0 {
            let (holding, run) = self.at(at, left);
            if let Some(holding) = holding {
                self.set(at, run, to(holding))?;
            }
            at += run * PAGE;
            left -= run;
        }
        Ok(())
    }
}

impl Holdings for Partition<'_> {
    fn at(&mut self, page: u64, pages: u64) -> (Option<Holding>, u64) {
        if let Some(stage1) = &mut self.stage1 {
            let (leaf, run) = stage1.walk_run(&self.tables, page, pages);
            return (leaf.and_then(|leaf| stage_1_holding(leaf.attributes)), run);
        }
        let (leaf, run) = self.secure.walk_run(&self.tables, page, pages);
        if let Some(leaf) = leaf {
            return (stage_2_holding(leaf.attributes, true), run);
        }
        let (leaf, run) = self.non_secure.walk_run(&self.tables, page, run);
        (leaf.and_then(|leaf| stage_2_holding(leaf.attributes, false)), run)
    }

    fn add(&mut self, page: u64, pages: u64, holding: Holding) -> Result<(), Status> {
        let size = pages * PAGE;
        let free = match &mut self.stage1 {
            Some(stage1) => stage1.is_free(&self.tables, page, size),
            None => self.secure.is_free(&self.tables, page, size) && self.non_secure.is_free(&self.tables, page, size),
        };
        if !free {
            return Err(Status::Denied);
        }
        let result = self.set(page, pages, holding);
        if result.is_err() {
            self.clear(page, pages, holding.secure);
        }
        Ok(result?)
    }

    fn set(&mut self, page: u64, pages: u64, holding: Holding) -> Result<(), OutOfMemory> {
        let Holding { state, permissions, secure, memory_type } = holding;
        // Lent memory is kept in mind, and not mapped.
        let valid = if state == PageState::Lent { 0 } else { VALID };
        let (by_stage_2, stage_1) = match self.stage1 {
            None => (permissions, 0),
            // Stage 1 decides what it may do there.
            Some(_) => (Permissions { read: true, write: true, execute: true }, stage_1_attributes(permissions, secure, memory_type, state) & !(VALID & !valid)),
        };
        let stage_2 = stage_2_attributes(by_stage_2, secure, memory_type) | ACCESSED | encode_state(state) | valid;
        self.write(page, pages, secure, Some([stage_2, stage_1]))
    }

    fn clear(&mut self, page: u64, pages: u64, secure: bool) {
        // This needs no table: blocks were parted, and what is in passing is not joined without need.
        let _ = self.write(page, pages, secure, None);
    }

    fn join(&mut self) -> bool {
        let mut room = self.secure.join(&mut self.tables) | self.non_secure.join(&mut self.tables);
        if let Some(stage1) = &mut self.stage1 {
            room |= stage1.join(&mut self.tables);
        }
        *self.joined |= room;
        room
    }

    fn is_joined(&self) -> bool {
        *self.joined
    }

    fn part(&mut self, page: u64, pages: u64, secure: bool) -> Result<(), OutOfMemory> {
        self.each(secure, |cursor, tables, _| cursor.part(tables, page, pages * PAGE))
    }

    fn take_back(&mut self, page: u64, pages: u64) {
        let _ = self.change(page, pages, |held| Holding { state: PageState::Owned, ..held });
    }

    fn flush(&mut self) {
        self.tables.invalidate();
    }
}

/// What a leaf of stage 2 says; `None` for the vectors and tables, which are mapped and not the partition's.
fn stage_2_holding(bits: u64, secure: bool) -> Option<Holding> {
    let memory_type = if bits & s2::MEMORY == s2::NORMAL { MemoryType::Normal } else { MemoryType::Device };
    let permissions = Permissions { read: bits & s2::READ != 0, write: bits & s2::WRITE != 0, execute: bits & EXECUTE_NEVER == 0 };
    (bits & PRESENT != 0).then_some(Holding { state: decode_state(bits), permissions, secure, memory_type })
}

/// What a leaf of stage 1 says, valid or not.
fn stage_1_holding(bits: u64) -> Option<Holding> {
    let memory_type = if bits & s1::DEVICE == 0 { MemoryType::Normal } else { MemoryType::Device };
    let read = bits & s1::EL0 != 0;
    let permissions = Permissions { read, write: read && bits & s1::READ_ONLY == 0, execute: bits & EXECUTE_NEVER == 0 };
    let secure = bits & s1::NON_SECURE == 0;
    (bits & PRESENT != 0).then_some(Holding { state: decode_state(bits), permissions, secure, memory_type })
}

/// Changes an S-EL0 partition's permissions at pages that it has.
///
/// # Errors
/// The pool or the partition's share of it is spent.
pub fn set_permissions(partition: u8, page: u64, pages: u64, permissions: Permissions) -> Result<(), OutOfMemory> {
    let mut space = space(partition).lock();
    let mut pool = POOL.lock();
    let mut partition = Partition::new(&mut pool, space.roots().ok_or(OutOfMemory)?, &mut space.joined);
    let result = partition.change(page, pages, |held| Holding { permissions, ..held });
    // Also where only a part has changed.
    partition.flush();
    if permissions.execute {
        sysreg::invalidate_instruction_caches();
    }
    result
}

/// A block of level 2.
const BLOCK: u64 = 1 << 21;
/// What a partition may never have: a block of it in stage 1 is in nobody's way.
const FIRMWARE: core::ops::Range<u64> = platform::TRUSTED_FIRMWARE.start..platform::OWN_RAM.end;
const _: () = assert!(
    platform::TRUSTED_FIRMWARE.end == platform::OWN_RAM.start && FIRMWARE.start.is_multiple_of(BLOCK) && FIRMWARE.end.is_multiple_of(BLOCK),
    "platform.rs: OWN_RAM has to follow TRUSTED_FIRMWARE, and both together to be whole blocks of 2 MiB"
);

/// Maps Bulkhead's page of EL1 vectors into an S-EL0 partition: executable by EL1, invisible to EL0. In stage 1 that is the whole
/// block around them, which takes no table: of it, stage 2 lets through the vectors, and the tables for walks.
///
/// # Errors
/// The pool or the partition's share of it is spent.
pub fn map_vectors(partition: u8, page: u64) -> Result<(), OutOfMemory> {
    let space = space(partition).lock();
    let Some(roots) = space.roots() else { return Err(OutOfMemory) };
    let mut pool = POOL.lock();
    let mut tables = Tables::new(&mut pool, User::Partition(roots.vmid));
    let access = Permissions { read: true, write: false, execute: true };
    let attributes = stage_2_attributes(access, true, MemoryType::Normal) | ACCESSED | VALID;
    roots.secure.set(&mut tables, page, PAGE, Some(Mapping { output: page, attributes }))?;
    let Some(stage1) = roots.stage1 else { return Ok(()) };
    let attributes = ACCESSED | INNER_SHAREABLE | s1::READ_ONLY | EXECUTE_NEVER | VALID;
    let block = page & !(BLOCK - 1);
    stage1.set(&mut tables, block, BLOCK, Some(Mapping { output: block, attributes })).map_err(OutOfMemory::from)
}
