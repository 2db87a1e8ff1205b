//! The pages that translation tables are made of: one static pool with a reserve for each user, so that a partition whose
//! memory is shared page by page cannot take the tables of its neighbours.
#![expect(unsafe_code, reason = "table entries are read and written at their physical addresses")]

use crate::image;
use bulkhead_core::shares::Shares;
use bulkhead_core::tables::{Note, PAGE, TableMemory};
use spin::Mutex;

/// Pages that the bitmap can describe.
const MAX_PAGES: usize = 128;

/// Which pages are taken.
pub struct Pool {
    used: u128,
    shares: Shares,
    notes: [Note; MAX_PAGES],
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
            Self::NormalWorld => bulkhead_core::MAX_PARTITIONS + 1,
        }
    }
}

/// The pool of this image.
pub static POOL: Mutex<Pool> = Mutex::new(Pool::new());

impl Pool {
    /// Nothing taken.
    pub const fn new() -> Self {
        Self { used: 0, shares: Shares::new(), notes: [Note { live: 0, empty: 0 }; MAX_PAGES] }
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
        // SAFETY: `table` came from `allocate`, so it lies in the pool, which is mapped RW at its physical address and
        // reached by nothing but this trait, under the pool's lock; index is below 512 by the builder's arithmetic.
        unsafe { entry(table, index).read_volatile() }
    }

    fn write(&mut self, table: u64, index: usize, descriptor: u64) {
        self.dirty = true;
        // SAFETY: as in `read`. Hardware walks see a whole 64-bit store or none of it.
        unsafe { entry(table, index).write_volatile(descriptor) };
    }

    fn allocate(&mut self) -> Option<u64> {
        let all = pages().min(MAX_PAGES);
        let free = (!self.pool.used).trailing_zeros() as usize;
        let count = all.saturating_sub(self.pool.used.count_ones() as usize);
        if free >= all || !self.pool.shares.take(self.user.place(), count as u16) {
            return None;
        }
        self.pool.used |= 1 << free;
        self.pool.notes[free] = Note::default();
        let table = image::tables_start() + free as u64 * PAGE;
        // SAFETY: as in `write`; the page is free, so no walk reads it.
        unsafe { core::ptr::write_bytes(entry(table, 0), 0, 512) };
        // The zeroes are visible to walks before an entry that points here is.
        crate::sysreg::dsb_ish();
        Some(table)
    }

    fn note(&mut self, table: u64) -> &mut Note {
        &mut self.pool.notes[place(table)]
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
