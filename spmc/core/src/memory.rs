//! Who holds which page, and the memory transactions that move pages between endpoints (DEN0140 v1.2 chapter 1).
//!
//! The page tables are the ledger: each holder's entry for a page carries a [`PageState`], also where it maps nothing.
//! [`MemoryManager`] keeps the transactions; [`crate::memory_calls`] are the calls that change both.

mod ledger;
mod layout;
mod pool;
mod retrieve;
mod send;
mod transaction;
#[cfg(all(test, not(any(feature = "shuttle", feature = "loom"))))]
mod tests;

use crate::machine::{AccessFault, Address, Machine, Permissions};
use bulkhead_ffa::{EndpointId, Status, Version};
use layout::Relinquish;
use ledger::{Joined, Run};
use pool::{Link, Pool};
pub(crate) use retrieve::Reply;
pub(crate) use send::{Progress, Sending};
pub(crate) use transaction::Kind;
use transaction::{BORROWERS, Borrower, RANGES, Range, State, TRANSACTIONS, Transaction, Transfer};
use transaction::{FLAG_TIME_SLICE, FLAG_ZERO, lender_of, quota, slots};

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

impl From<crate::tables::OutOfTables> for OutOfMemory {
    fn from(_: crate::tables::OutOfTables) -> Self {
        Self
    }
}

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

/// Bytes that are copied from or to a guest at a time: an RX or TX buffer.
const STAGING: usize = 4096;
/// Pages of one transaction, at the most (64 MiB): bounds the work of one call.
const MAX_PAGES: u32 = 0x4000;
/// Bytes of a transaction descriptor, at the most.
const MAX_DESCRIPTOR: u32 = 0x1_0000;

const _: () = assert!(size_of::<MemoryManager>() < 0x1_0000);

/// An endpoint that makes a memory call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Party {
    /// As the page tables name it.
    pub owner: Owner,
    /// As descriptors name it.
    pub id: EndpointId,
    /// Which layouts it speaks.
    pub version: Version,
}

/// All transactions, and the only copies of what their senders wrote.
pub struct MemoryManager {
    transactions: [Transaction; TRANSACTIONS],
    ranges: Pool<Range, RANGES>,
    borrowers: Pool<Borrower, BORROWERS>,
    /// Handles given out so far.
    sequence: u64,
    staging: [u8; STAGING],
}

impl MemoryManager {
    /// No transactions. All bytes are zero.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            transactions: [Transaction::FREE; TRANSACTIONS],
            ranges: Pool::new(Range::BLANK),
            borrowers: Pool::new(Borrower::BLANK),
            sequence: 0,
            staging: [0; STAGING],
        }
    }

    /// Copies the first `len` bytes of a TX buffer, to be parsed.
    fn copy_in<M: Machine>(&mut self, machine: &mut M, from: Address, len: u32) -> Result<(), Status> {
        let to = self.staging.get_mut(..len as usize).ok_or(Status::InvalidParameters)?;
        machine.read(from, to).map_err(|_| Status::Aborted)
    }

    /// FFA_MEM_RELINQUISH: `from` is the caller's TX buffer, `len` what a descriptor takes.
    pub(crate) fn relinquish<M: Machine>(&mut self, machine: &mut M, caller: Party, from: Address) -> Result<(), Status> {
        self.copy_in(machine, from, Relinquish::SIZE as u32)?;
        let request = Relinquish::parse(&self.staging[..Relinquish::SIZE])?;
        if request.flags & !(FLAG_ZERO | FLAG_TIME_SLICE) != 0 || request.endpoint != caller.id {
            return Err(Status::InvalidParameters);
        }
        let slot = self.find(request.handle)?;
        let (link, borrower) = self.borrower(slot, caller.id).ok_or(Status::Denied)?;
        let transaction = &self.transactions[slot];
        if !borrower.retrieved || transaction.state == State::Donated {
            return Err(Status::Denied);
        }
        let zero = request.flags & FLAG_ZERO != 0;
        match (zero, transaction.kind, borrower.read_only) {
            (true, Kind::Share, _) => return Err(Status::InvalidParameters),
            (true, _, true) => return Err(Status::Denied),
            _ => self.end_borrowing(machine, slot, link, zero || borrower.zero_after),
        }
        Ok(())
    }

    /// Takes the memory from a borrower that has it.
    fn end_borrowing<T: PageTables>(&mut self, tables: &mut T, slot: usize, link: Link, zero: bool) {
        let Some(borrower) = self.borrowers.get_mut(link) else { return };
        let owner = Owner::Partition(borrower.partition);
        (borrower.retrieved, borrower.zero_after, borrower.transfer) = (false, false, Transfer::NONE);
        ledger::withdraw(tables, owner, self.runs(slot));
        self.transactions[slot].zero_after |= zero;
        if self.is_retrieved(slot) {
            return;
        }
        let transaction = &mut self.transactions[slot];
        let secure = transaction.terms.secure;
        if core::mem::take(&mut transaction.zero_after) {
            // What cannot be reached cannot be read by the lender either.
            let _ = ledger::zero(tables, self.runs(slot), secure);
        }
        if self.transactions[slot].state == State::Orphaned {
            self.end(tables, slot);
        }
    }

    /// FFA_MEM_RECLAIM. An unfinished transaction is given up by it.
    pub(crate) fn reclaim<T: PageTables>(&mut self, tables: &mut T, caller: Party, handle: u64, flags: u32) -> Result<(), Status> {
        if flags & !(FLAG_ZERO | FLAG_TIME_SLICE) != 0 {
            return Err(Status::InvalidParameters);
        }
        let slot = self.find_of(caller.owner, handle)?;
        let transaction = &self.transactions[slot];
        match transaction.state {
            State::Sending => {
                self.free(slot);
                return Ok(());
            }
            State::Donated | State::Orphaned => return Err(Status::Denied),
            State::Live => {}
        }
        let zero = flags & FLAG_ZERO != 0;
        if self.is_retrieved(slot) || zero && !transaction.terms.write {
            return Err(Status::Denied);
        }
        if zero {
            ledger::zero(tables, self.runs(slot), transaction.terms.secure).map_err(|_| Status::Aborted)?;
        }
        self.end(tables, slot);
        Ok(())
    }

    /// Gives the memory back to the lender and forgets the transaction.
    fn end<T: PageTables>(&mut self, tables: &mut T, slot: usize) {
        // The lender's entries were written when it gave the memory: writing them again needs no table.
        let _ = ledger::take_back(tables, lender_of(slot), self.runs(slot));
        self.free(slot);
    }

    /// A partition failed: it has no access to others' memory any more, and its own comes back to it as borrowers let go.
    pub(crate) fn clean_up_after<T: PageTables>(&mut self, tables: &mut T, partition: u8) {
        for slot in 0..TRANSACTIONS {
            if self.transactions[slot].handle == 0 {
                continue;
            }
            let failed = |(_, b): &(Link, Borrower)| b.partition == partition && b.retrieved;
            let borrowed = self.borrowers.iter(self.transactions[slot].borrowers).find(failed);
            if let Some((link, borrower)) = borrowed.filter(|_| self.transactions[slot].state != State::Donated) {
                self.end_borrowing(tables, slot, link, borrower.zero_after);
            }
            if lender_of(slot) != Owner::Partition(partition) {
                continue;
            }
            match self.transactions[slot].state {
                State::Live if self.is_retrieved(slot) => self.transactions[slot].state = State::Orphaned,
                State::Live => self.end(tables, slot),
                State::Sending | State::Donated => self.free(slot),
                State::Orphaned => {}
            }
        }
    }

    /// The transaction with this handle.
    fn find(&self, handle: u64) -> Result<usize, Status> {
        let slot = (handle % TRANSACTIONS as u64) as usize;
        if handle != 0 && self.transactions[slot].handle == handle { Ok(slot) } else { Err(Status::InvalidParameters) }
    }

    /// The transaction with this handle, if `lender` sent it.
    fn find_of(&self, lender: Owner, handle: u64) -> Result<usize, Status> {
        self.find(handle).ok().filter(|slot| lender_of(*slot) == lender).ok_or(Status::InvalidParameters)
    }

    fn borrower(&self, slot: usize, id: EndpointId) -> Option<(Link, Borrower)> {
        self.borrowers.iter(self.transactions[slot].borrowers).find(|(_, b)| b.id == id)
    }

    fn is_retrieved(&self, slot: usize) -> bool {
        self.borrowers.iter(self.transactions[slot].borrowers).any(|(_, b)| b.retrieved)
    }

    /// The ranges as they were sent.
    fn ranges(&self, slot: usize) -> impl Iterator<Item = Run> + Clone {
        self.ranges.iter(self.transactions[slot].ranges).map(|(_, r)| r.run())
    }

    /// The ranges, joined where they touch.
    fn runs(&self, slot: usize) -> impl Iterator<Item = Run> + Clone {
        Joined::new(self.ranges(slot))
    }

    /// A free place for a transaction of `lender`, with a new handle. Lists that nobody needs any more make room for it.
    fn allocate(&mut self, lender: Owner) -> Result<usize, Status> {
        let free = |slot: &usize| self.transactions[*slot].handle == 0;
        let slot = slots(lender).find(free).or_else(|| {
            self.evict(lender, None);
            slots(lender).find(|slot| self.transactions[*slot].handle == 0)
        });
        let slot = slot.ok_or(Status::NoMemory)?;
        self.sequence += 1;
        // Bit 63 clear: the SPMC gave it out. Never zero, and never the same twice.
        self.transactions[slot] = Transaction { handle: self.sequence * TRANSACTIONS as u64 + slot as u64, ..Transaction::FREE };
        Ok(slot)
    }

    /// Drops a lender's transactions that hold no memory, except `keep`.
    fn evict(&mut self, lender: Owner, keep: Option<usize>) {
        for slot in slots(lender).filter(|slot| Some(*slot) != keep) {
            if matches!(self.transactions[slot].state, State::Sending | State::Donated) {
                self.free(slot);
            }
        }
    }

    /// Forgets a transaction.
    fn free(&mut self, slot: usize) {
        self.free_lists(slot);
        self.transactions[slot] = Transaction::FREE;
    }

    fn free_lists(&mut self, slot: usize) {
        let transaction = &mut self.transactions[slot];
        transaction.ranges_promised = 0;
        self.ranges.clear(&mut transaction.ranges);
        self.borrowers.clear(&mut transaction.borrowers);
    }

    /// Sets lists of this length aside for a transaction, within the lender's quota.
    fn reserve(&mut self, slot: usize, ranges: u32, borrowers: usize) -> Result<(), Status> {
        let lender = lender_of(slot);
        let fits = |manager: &Self| {
            let others = || slots(lender).filter(|s| *s != slot).map(|s| &manager.transactions[s]);
            others().map(|t| t.ranges_promised as usize).sum::<usize>() + ranges as usize <= quota(lender).ranges
                && others().map(|t| t.borrowers.len()).sum::<usize>() + borrowers <= quota(lender).borrowers
        };
        if !fits(self) {
            self.evict(lender, Some(slot));
            if !fits(self) {
                return Err(Status::NoMemory);
            }
        }
        self.transactions[slot].ranges_promised = ranges;
        Ok(())
    }

    fn add_range(&mut self, slot: usize, run: Run) -> Result<(), Status> {
        // No such memory: nobody can own it.
        let range = Range::new(run).ok_or(Status::Denied)?;
        let transaction = &mut self.transactions[slot];
        transaction.pages += u32::from(range.count);
        self.ranges.push(&mut transaction.ranges, range).map_err(|_| Status::NoMemory)
    }

    fn add_borrower(&mut self, slot: usize, borrower: Borrower) -> Result<(), Status> {
        self.borrowers.push(&mut self.transactions[slot].borrowers, borrower).map_err(|_| Status::NoMemory)
    }
}

impl Default for MemoryManager {
    fn default() -> Self {
        Self::new()
    }
}
