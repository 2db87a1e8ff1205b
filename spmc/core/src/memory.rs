//! Who holds which page, and the memory transactions that move pages between endpoints (DEN0140 v1.2 chapter 1).
//!
//! The page tables are the ledger: each holder's entry for a page carries a [`PageState`], also where it maps nothing.
//! [`MemoryManager`] keeps the transactions; [`crate::memory_calls`] are the calls that change both.

use crate::machine::{AccessFault, Address, Permissions};

/// Who holds memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The normal world as a whole.
    NormalWorld,
    /// A partition, by its index.
    Partition(u8),
}

/// A holder's relation to a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PageState {
    /// Owner with exclusive access.
    Owned = 0,
    /// Owner that shared it: keeps its access.
    Shared = 1,
    /// Owner that lent it (or donates it): no access until it is reclaimed.
    Lent = 2,
    /// Borrower that retrieved it.
    Borrowed = 3,
}

/// What kind of memory a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryType {
    /// Normal write-back memory.
    Normal,
    /// Device registers.
    Device,
}

/// What a holder has at one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Relation.
    pub state: PageState,
    /// Access that the holder has by right; in state [`PageState::Lent`] it gets it back with the page.
    pub permissions: Permissions,
    /// In the secure or in the non-secure physical address space.
    pub secure: bool,
    /// Kind of memory.
    pub memory_type: MemoryType,
}

impl Holding {
    /// Whether the holder owns the page and nobody else has access.
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        self.state == PageState::Owned
    }

    /// Whether it is RAM.
    #[must_use]
    pub fn is_normal_memory(&self) -> bool {
        self.memory_type == MemoryType::Normal
    }
}

/// No table page is left for a change of mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory;

/// The page tables of all holders. Addresses are physical, and equal to the holders' intermediate ones.
pub trait PageTables {
    /// What `owner` has at `page`; `None` when it has nothing there.
    fn holding(&self, owner: Owner, page: u64) -> Option<Holding>;

    /// Replaces what `owner` has at `pages` pages from `page` on. Access that this takes away is gone only after
    /// [`Self::flush`].
    ///
    /// # Errors
    /// [`OutOfMemory`]: part of the range may have changed; writing what was there before, or `None`, needs no new table.
    fn set_holding(&mut self, owner: Owner, page: u64, pages: u64, holding: Option<Holding>) -> Result<(), OutOfMemory>;

    /// Makes earlier changes of `owner`'s tables effective on all cores, in both address spaces.
    fn flush(&mut self, owner: Owner);

    /// Fills pages with zeroes.
    ///
    /// # Errors
    /// [`AccessFault`] when the bus refuses.
    fn zero(&mut self, start: Address, pages: u64) -> Result<(), AccessFault>;
}

/// All live transactions.
pub struct MemoryManager {}

impl MemoryManager {
    /// No transactions.
    #[must_use]
    pub const fn new() -> Self {
        Self {}
    }
}
