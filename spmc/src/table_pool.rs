//! The pages that translation tables are made of: one static pool, with a quota per user, so that a partition whose
//! memory is shared page by page cannot take the tables of its neighbours.
#![expect(unsafe_code, reason = "table entries are read and written at their physical addresses")]

use bulkhead_core::tables::{PAGE, TableMemory};
use spin::Mutex;

unsafe extern "C" {
    static __tables_start: u8;
    static __tables_end: u8;
}

/// Pages that the bitmap can describe.
const MAX_PAGES: usize = 128;

/// Which pages are taken.
pub struct Pool {
    used: u128,
}

/// The pool of this image.
pub static POOL: Mutex<Pool> = Mutex::new(Pool { used: 0 });

fn start() -> u64 {
    &raw const __tables_start as u64
}

fn pages() -> usize {
    ((&raw const __tables_end as u64 - start()) / PAGE) as usize
}

/// One user's access to the pool.
pub struct Tables<'a> {
    pool: &'a mut Pool,
    /// Pages that this user has and may have.
    quota: &'a mut Quota,
    /// Invalidates the user's TLB entries; called for break-before-make.
    invalidate: fn(u16),
    /// What `invalidate` is told: the VMID.
    vmid: u16,
}

/// Pages taken and allowed.
#[derive(Clone, Copy, Debug)]
pub struct Quota {
    /// Pages in use.
    pub used: u16,
    /// Pages at the most.
    pub limit: u16,
}

impl<'a> Tables<'a> {
    /// Access for the user with `quota` and `vmid`.
    pub fn new(pool: &'a mut Pool, quota: &'a mut Quota, invalidate: fn(u16), vmid: u16) -> Self {
        Self { pool, quota, invalidate, vmid }
    }
}

fn entry(table: u64, index: usize) -> *mut u64 {
    debug_assert!(index < 512);
    debug_assert!(table >= start() && table < start() + pages() as u64 * PAGE);
    (table as usize + index * 8) as *mut u64
}

impl TableMemory for Tables<'_> {
    fn read(&self, table: u64, index: usize) -> u64 {
        // SAFETY: `table` came from `allocate`, so it lies in the pool, which is mapped RW at its physical address and
        // reached by nothing but this trait, under the pool's lock; index is below 512 by the builder's arithmetic.
        unsafe { entry(table, index).read_volatile() }
    }

    fn write(&mut self, table: u64, index: usize, descriptor: u64) {
        // SAFETY: as in `read`. Hardware walks see a whole 64-bit store or none of it.
        unsafe { entry(table, index).write_volatile(descriptor) };
    }

    fn allocate(&mut self) -> Option<u64> {
        let free = (!self.pool.used).trailing_zeros() as usize;
        if free >= pages().min(MAX_PAGES) || self.quota.used == self.quota.limit {
            return None;
        }
        self.pool.used |= 1 << free;
        self.quota.used += 1;
        let table = start() + free as u64 * PAGE;
        for index in 0..512 {
            self.write(table, index, 0);
        }
        // The zeroes are visible to walks before an entry that points here is.
        crate::sysreg::dsb_ish();
        Some(table)
    }

    fn free(&mut self, table: u64) {
        self.pool.used &= !(1 << ((table - start()) / PAGE));
        self.quota.used -= 1;
    }

    fn invalidate(&mut self) {
        (self.invalidate)(self.vmid);
    }
}

/// The pool before the MMU is on, when locks (exclusive accesses) may not work and no other core runs.
pub fn before_mmu() -> &'static mut Pool {
    // SAFETY: called once by the boot core before it turns the MMU on and before any other core runs, so nothing else
    // holds or takes the lock.
    unsafe { &mut *POOL.as_mut_ptr() }
}
