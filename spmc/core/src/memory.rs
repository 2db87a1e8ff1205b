//! Who holds which page, and the memory transactions that move pages between endpoints (DEN0140 v1.2 chapter 1).
//!
//! The page tables are the ledger: each holder's entry for a page carries a [`PageState`], also where it maps nothing.
//! [`MemoryManager`] keeps the transactions; [`crate::memory_calls`] are the calls that change both.

mod ledger;
mod layout;
mod pool;
mod retrieve;
mod send;

use crate::MAX_PARTITIONS;
use crate::machine::{AccessFault, Address, Machine, Permissions};
use crate::tables::PAGE;
use bulkhead_ffa::descriptor::range;
use bulkhead_ffa::{EndpointId, Status, Version};
use layout::Relinquish;
use ledger::{Joined, Run, Terms};
use pool::{Chain, Link, Pool};
pub(crate) use retrieve::Reply;
pub(crate) use send::{Progress, Sending};

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

/// Bytes that are copied from or to a guest at a time: an RX or TX buffer.
const STAGING: usize = 4096;
/// Pages of one transaction, at the most (64 MiB): bounds the work of one call.
const MAX_PAGES: u32 = 0x4000;
/// Bytes of a transaction descriptor, at the most.
const MAX_DESCRIPTOR: u32 = 0x1_0000;

/// What one lender may have at a time, so that a greedy one starves only itself.
#[derive(Clone, Copy, Debug)]
struct Quota {
    transactions: usize,
    ranges: usize,
    borrowers: usize,
}

/// Linux keeps a transaction for each buffer that it shares with OP-TEE, of scattered pages.
const NORMAL_WORLD: Quota = Quota { transactions: 128, ranges: 2560, borrowers: 192 };
const PARTITION: Quota = Quota { transactions: 16, ranges: 64, borrowers: 24 };
const TRANSACTIONS: usize = NORMAL_WORLD.transactions + MAX_PARTITIONS * PARTITION.transactions;
const RANGES: usize = NORMAL_WORLD.ranges + MAX_PARTITIONS * PARTITION.ranges;
const BORROWERS: usize = NORMAL_WORLD.borrowers + MAX_PARTITIONS * PARTITION.borrowers;

const _: () = assert!(size_of::<MemoryManager>() < 0x1_0000);

/// What the sender does with its memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    /// FFA_MEM_SHARE.
    #[default]
    Share,
    /// FFA_MEM_LEND.
    Lend,
    /// FFA_MEM_DONATE.
    Donate,
}

impl Kind {
    /// Bits 4..3 of the flags of a descriptor.
    const fn flags(self) -> u32 {
        match self {
            Self::Share => 1 << 3,
            Self::Lend => 2 << 3,
            Self::Donate => 3 << 3,
        }
    }
}

/// How far a transaction is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Fragments of its descriptor are missing; the memory is not touched yet.
    #[default]
    Sending,
    /// Borrowers may retrieve it.
    Live,
    /// The new owner has it. Kept until the lender needs the place: to go on sending the description, and to tell the
    /// lender what became of the handle.
    Donated,
    /// Its lender failed while borrowers had access: ends when the last of them gives it up.
    Orphaned,
}

/// A description that is being sent to someone in fragments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Transfer {
    /// Offset of the first range in the description; zero when nothing is left to send.
    base: u16,
    /// Ranges that were sent.
    ranges: u16,
}

impl Transfer {
    const NONE: Self = Self { base: 0, ranges: 0 };

    fn offset(self) -> u32 {
        u32::from(self.base) + u32::from(self.ranges) * range::SIZE as u32
    }
}

/// One transaction; free while its handle is zero.
#[derive(Clone, Copy)]
struct Transaction {
    handle: u64,
    tag: u64,
    ranges: Chain,
    borrowers: Chain,
    /// Pages in `ranges`.
    pages: u32,
    /// Pages that the descriptor promised.
    pages_promised: u32,
    /// Ranges that the descriptor promised.
    ranges_promised: u32,
    /// Bytes of the descriptor that were received.
    received: u32,
    attributes: u16,
    sender: EndpointId,
    kind: Kind,
    state: State,
    terms: Terms,
    /// Its access descriptors had implementation-defined words.
    wide: bool,
    /// The lender wanted the memory zeroed.
    zeroed: bool,
    /// To be zeroed when nobody has access any more.
    zero_after: bool,
    /// For the normal world's hypervisor, which may ask for the description.
    transfer: Transfer,
}

impl Transaction {
    const FREE: Self = Self {
        handle: 0,
        tag: 0,
        ranges: Chain::EMPTY,
        borrowers: Chain::EMPTY,
        pages: 0,
        pages_promised: 0,
        ranges_promised: 0,
        received: 0,
        attributes: 0,
        sender: EndpointId::HYPERVISOR,
        kind: Kind::Share,
        state: State::Sending,
        terms: Terms { write: false, execute: false, secure: false },
        wide: false,
        zeroed: false,
        zero_after: false,
        transfer: Transfer::NONE,
    };

    /// How the lender holds the pages meanwhile.
    fn lender_state(&self) -> PageState {
        if self.kind == Kind::Share { PageState::Shared } else { PageState::Lent }
    }
}

/// One borrower of a transaction.
#[derive(Clone, Copy)]
struct Borrower {
    id: EndpointId,
    partition: u8,
    /// Permissions that the lender gave it, as in its access descriptor.
    permissions: u8,
    retrieved: bool,
    /// It retrieved the memory for reading only.
    read_only: bool,
    /// It asked for zeroes when it gives the memory up.
    zero_after: bool,
    implementation_defined: [u8; 16],
    transfer: Transfer,
}

impl Borrower {
    const BLANK: Self = Self {
        id: EndpointId::HYPERVISOR,
        partition: 0,
        permissions: 0,
        retrieved: false,
        read_only: false,
        zero_after: false,
        implementation_defined: [0; 16],
        transfer: Transfer::NONE,
    };
}

/// A range in 6 bytes: page number (so addresses below 2^44) and page count (at most [`MAX_PAGES`]).
#[derive(Clone, Copy)]
struct Range {
    page: [u16; 2],
    count: u16,
}

impl Range {
    const BLANK: Self = Self { page: [0; 2], count: 0 };

    fn new(run: Run) -> Option<Self> {
        let page = u32::try_from(run.start / PAGE).ok()?;
        Some(Self { page: [page as u16, (page >> 16) as u16], count: u16::try_from(run.pages).ok()? })
    }

    fn run(self) -> Run {
        let page = u64::from(self.page[0]) | u64::from(self.page[1]) << 16;
        Run { start: page * PAGE, pages: u64::from(self.count) }
    }
}

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

/// Flags, bit 0: fill with zeroes.
const FLAG_ZERO: u32 = 1 << 0;
/// Flags, bit 1: the operation may be done in time slices. Accepted and not used: the work of a call is bounded.
const FLAG_TIME_SLICE: u32 = 1 << 1;

const fn quota(lender: Owner) -> Quota {
    match lender {
        Owner::NormalWorld => NORMAL_WORLD,
        Owner::Partition(_) => PARTITION,
    }
}

/// The places of a lender's transactions.
fn slots(lender: Owner) -> core::ops::Range<usize> {
    match lender {
        Owner::NormalWorld => 0..NORMAL_WORLD.transactions,
        Owner::Partition(n) => {
            let first = NORMAL_WORLD.transactions + usize::from(n) % MAX_PARTITIONS * PARTITION.transactions;
            first..first + PARTITION.transactions
        }
    }
}

/// The lender whose transaction is at `slot`.
fn lender_of(slot: usize) -> Owner {
    match slot.checked_sub(NORMAL_WORLD.transactions) {
        None => Owner::NormalWorld,
        Some(n) => Owner::Partition((n / PARTITION.transactions) as u8),
    }
}
