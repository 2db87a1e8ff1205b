//! The pages that translation tables are made of: one static pool with a reserve for each user, so that a partition whose
//! memory is shared page by page cannot take the tables of its neighbours. Roots share pages, and what boot wants for good beside
//! tables comes from the pool's end.
#![expect(unsafe_code, reason = "table entries are read and written at their physical addresses")]

use crate::image;
use bulkhead_core::MAX_PARTITIONS;
use bulkhead_core::shares::Shares;
use bulkhead_core::tables::{PAGE, Root, TableMemory};
use spin::Mutex;

/// Pages that the bitmap can describe.
const MAX_PAGES: usize = 128;
/// Roots at the most: S-EL2's own, the one that all partitions at S-EL0 share, and two of each partition.
const MAX_ROOTS: usize = 2 + 2 * MAX_PARTITIONS;
/// Alignment of a small root.
const ROOT_ALIGNMENT: u64 = 64;

/// Which pages are taken.
pub struct Pool {
    used: u128,
    /// Pages at the end that are none of tables.
    kept: usize,
    shares: Shares,
    /// Of the table in each page, how many entries are not zero.
    live: [u16; MAX_PAGES],
    /// Below each root, how many tables are empty.
    empty: [u16; MAX_ROOTS],
    roots: u8,
    /// Where the next root can be, if that is not a page's first byte.
    next_root: u64,
}

/// A user of the pool.
#[derive(Clone, Copy)]
pub enum User {
    /// S-EL2's own map.
    Own,
    /// The normal world's ledger.
    NormalWorld,
    /// A partition, by its VMID.
    Partition(u16),
}

impl User {
    /// Its place in [`Shares`]: VMIDs start at 1.
    const fn place(self) -> usize {
        match self {
            Self::Own => 0,
            Self::Partition(vmid) => vmid as usize,
            Self::NormalWorld => MAX_PARTITIONS + 1,
        }
    }
}

/// The pool of this image.
pub static POOL: Mutex<Pool> = Mutex::new(Pool::new());

impl Pool {
    /// Nothing taken.
    pub const fn new() -> Self {
        Self { used: 0, kept: 0, shares: Shares::new(), live: [0; MAX_PAGES], empty: [0; MAX_ROOTS], roots: 0, next_root: 0 }
    }

    /// Takes whole pages for something that stays and is no table. Where they start; their content is anything. `None` where that
    /// much is not free.
    pub fn keep(&mut self, bytes: u64) -> Option<u64> {
        let kept = self.kept + bytes.div_ceil(PAGE) as usize;
        let left = pages().checked_sub(kept)?;
        if self.used.checked_shr(left as u32).unwrap_or(0) != 0 {
            return None;
        }
        self.kept = kept;
        Some(self.end())
    }

    /// Pages for tables.
    fn pages(&self) -> usize {
        (pages() - self.kept).min(MAX_PAGES)
    }

    /// End of the tables.
    pub fn end(&self) -> u64 {
        image::tables_start() + (pages() - self.kept) as u64 * PAGE
    }

    /// All partitions are initialised.
    pub fn settle(&mut self) {
        self.shares.settle();
    }
}

fn pages() -> usize {
    ((image::tables_end() - image::tables_start()) / PAGE) as usize
}

/// One user's access to the pool.
pub struct Tables<'a> {
    pool: &'a mut Pool,
    user: User,
    /// Something was written.
    dirty: bool,
}

impl<'a> Tables<'a> {
    /// Access for `user`.
    pub fn new(pool: &'a mut Pool, user: User) -> Self {
        Self { pool, user, dirty: false }
    }
}

impl Drop for Tables<'_> {
    /// What was written is seen by the walks of every core before anybody relies on it. Nothing walks the normal world's tables.
    fn drop(&mut self) {
        if self.dirty && !matches!(self.user, User::NormalWorld) {
            crate::sysreg::dsb_ish();
        }
    }
}

/// Which page of the pool a table is.
fn place(table: u64) -> usize {
    (table.wrapping_sub(image::tables_start()) / PAGE) as usize % MAX_PAGES
}

#[inline(always)]
fn entry(table: u64, index: usize) -> *mut u64 {
    debug_assert!(index < 512);
    debug_assert!(table >= image::tables_start() && table < image::tables_start() + pages() as u64 * PAGE);
    (table as usize | index << 3) as *mut u64
}

impl TableMemory for Tables<'_> {
    fn read(&self, table: u64, index: usize) -> u64 {
        // SAFETY: `table` came from `allocate` or `allocate_root`, so it lies in the pool, which is mapped RW at its physical address and
        // reached by nothing but this trait, under the pool's lock; index is below 512 by the builder's arithmetic.
        unsafe { entry(table, index).read_volatile() }
    }

    fn write(&mut self, table: u64, index: usize, descriptor: u64) {
        self.dirty = true;
        // SAFETY: as in `read`. Hardware walks see a whole 64-bit store or none of it.
        unsafe { entry(table, index).write_volatile(descriptor) };
    }

    fn allocate(&mut self) -> Option<u64> {
        let all = self.pool.pages();
        let free = (!self.pool.used).trailing_zeros() as usize;
        let count = all.saturating_sub(self.pool.used.count_ones() as usize);
        if free >= all || !self.pool.shares.take(self.user.place(), count as u16) {
            return None;
        }
        self.pool.used |= 1 << free;
        self.pool.live[free] = 0;
        let table = image::tables_start() + free as u64 * PAGE;
        // SAFETY: as in `write`; the page is free, so no walk reads it.
        unsafe { core::ptr::write_bytes(entry(table, 0), 0, 512) };
        // The zeroes are visible to walks before an entry that points here is.
        crate::sysreg::dsb_ish();
        Some(table)
    }

    fn allocate_root(&mut self, address_bits: u32) -> Option<Root> {
        let root = Root { table: 0, address_bits: address_bits as u8, number: self.pool.roots };
        let bytes = (root.entries() as u64 * 8).max(ROOT_ALIGNMENT);
        let next = self.pool.next_root.next_multiple_of(bytes);
        let table = match next % PAGE {
            0 => self.allocate()?,
            _ => next,
        };
        *self.pool.empty.get_mut(usize::from(root.number))? = 0;
        self.pool.roots += 1;
        self.pool.next_root = table + bytes;
        Some(Root { table, ..root })
    }

    fn live(&mut self, table: u64) -> &mut u16 {
        &mut self.pool.live[place(table)]
    }

    fn empty(&mut self, root: Root) -> &mut u16 {
        &mut self.pool.empty[usize::from(root.number) % MAX_ROOTS]
    }

    fn free(&mut self, table: u64) {
        self.pool.used &= !(1 << place(table));
        self.pool.shares.give_back(self.user.place());
    }

    fn invalidate(&mut self) {
        match self.user {
            User::Own => crate::mmu::invalidate(),
            // No hardware walks this table.
            User::NormalWorld => {}
            User::Partition(vmid) => {
                crate::stage2::invalidate(vmid);
                // Its barriers waited for the writes.
                self.dirty = false;
            }
        }
    }
}
