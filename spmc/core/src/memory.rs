//! Who holds which page, and the memory transactions that move pages between endpoints (DEN0140 v1.2 chapter 1).
//!
//! The page tables are the ledger: each holder's entry for a page carries a [`PageState`], also where it maps nothing.
//! [`MemoryManager`] keeps the transactions; [`crate::memory_calls`] are the calls that change both.

mod ledger;
mod layout;
mod pool;
mod retrieve;
mod send;
mod staging;
mod transaction;
#[cfg(test)]
pub(crate) mod tests;

use crate::machine::{AccessFault, Address, Machine, Permissions};
use bulkhead_ffa::{EndpointId, Status, Version};
use layout::Relinquish;
use ledger::Runs;
use pool::{Link, Pool};
pub(crate) use ledger::Pinned;
pub(crate) use retrieve::Reply;
use staging::Staging;
pub(crate) use send::{Progress, Sending};
pub(crate) use transaction::Kind;
use transaction::{BORROWERS, Borrower, CELLS, Cell, LENDERS, State, TRANSACTIONS, Traits, Transaction, Transfer};
use transaction::{FLAG_TIME_SLICE, FLAG_ZERO, WORD_CELLS, first_slot, lender_of, place_of, quota};

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

impl PageState {
    /// The state that `state as u64` was; only the lower two bits count.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        match bits & 3 {
            0 => Self::Owned,
            1 => Self::Shared,
            2 => Self::Lent,
            _ => Self::Borrowed,
        }
    }
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

impl From<OutOfMemory> for Status {
    fn from(_: OutOfMemory) -> Self {
        Self::NoMemory
    }
}

/// The page tables of all holders. Addresses are physical, and equal to the holders' intermediate ones.
pub trait PageTables {
    /// Calls `work` once to look at and change what `owner` has; not if it has no tables at all. They are locked meanwhile, once
    /// for all that a call does there; the changes are in memory for every core's table walks when this returns.
    fn holdings(&mut self, owner: Owner, work: &mut dyn FnMut(&mut dyn Holdings));

    /// What `owner` has at `page`.
    fn holding(&mut self, owner: Owner, page: u64) -> Option<Holding> {
        let mut holding = None;
        self.holdings(owner, &mut |holdings| holding = holdings.at(page, 1).0);
        holding
    }

    /// Fills pages with zeroes.
    ///
    /// # Errors
    /// [`AccessFault`] when the bus refuses.
    fn zero(&mut self, start: Address, pages: u64) -> Result<(), AccessFault>;
}

/// What one holder has, by its page tables.
pub trait Holdings {
    /// What it has at `page`, `None` when it has nothing there; and how many pages from there on it holds alike: at least
    /// one, at most `pages`. There may be more of them behind those counted.
    fn at(&mut self, page: u64, pages: u64) -> (Option<Holding>, u64);

    /// Gives it pages at which it has nothing.
    ///
    /// # Errors
    /// DENIED when it has something at one of them; NO_MEMORY. Nothing has changed.
    fn add(&mut self, page: u64, pages: u64, holding: Holding) -> Result<(), Status>;

    /// Marks pages from `page` on as shared or lent that it holds alike and may give away (see [`ledger::givable`]). What it had
    /// there, and how many were marked: at least one, at most `pages`, and no more behind a smaller number need be different.
    ///
    /// # Errors
    /// DENIED when it may not give away the page at `page`; NO_MEMORY. Nothing has changed.
    fn mark(&mut self, page: u64, pages: u64, to: PageState, write: bool) -> Result<(Holding, u64), Status> {
        let (holding, pages) = self.at(page, pages);
        let held = ledger::givable(holding, write)?;
        if self.set(page, pages, Holding { state: to, ..held }).is_err() {
            // Writing what was there before needs no table.
            let _ = self.set(page, pages, held);
            return Err(Status::NoMemory);
        }
        Ok((held, pages))
    }

    /// Replaces what it has at `pages` pages from `page` on. Access that this takes away is gone only after [`Self::flush`].
    ///
    /// # Errors
    /// [`OutOfMemory`]: part of the range may have changed; writing what was there before, or clearing it, needs no new table.
    fn set(&mut self, page: u64, pages: u64, holding: Holding) -> Result<(), OutOfMemory>;

    /// Takes from it what was set for exactly these pages, in a state other than [`PageState::Owned`], in the secure or the
    /// non-secure address space. This needs no table after [`Self::part`]. Access is gone only after [`Self::flush`].
    fn clear(&mut self, page: u64, pages: u64, secure: bool);

    /// Makes room in the tables by what makes [`Self::part`] necessary from now on; whether there is some.
    fn join(&mut self) -> bool {
        false
    }

    /// Whether [`Self::part`] may be necessary.
    fn is_joined(&self) -> bool {
        false
    }

    /// Prepares what [`Self::clear`] does; nothing else changes.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    fn part(&mut self, _page: u64, _pages: u64, _secure: bool) -> Result<(), OutOfMemory> {
        Ok(())
    }

    /// Makes pages that it shared, lent or borrowed, set for exactly these pages, exclusively its own; pages that it does not hold
    /// stay so. This needs no table.
    fn take_back(&mut self, page: u64, pages: u64);

    /// Makes earlier changes effective on all cores, in both address spaces.
    fn flush(&mut self);
}

/// Pages of one transaction, at the most (64 MiB): bounds the work of one call.
const MAX_PAGES: u32 = 0x4000;

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

/// What a lender has of its quota, and where.
#[derive(Clone, Copy)]
struct Account {
    /// Places that were used and are free again.
    free: Link,
    /// Places that were used so far.
    fresh: u16,
    /// Cells that were promised to its transactions.
    cells: u16,
    /// Borrowers of its transactions.
    borrowers: u16,
    /// Its transactions that hold no memory, the oldest first: those whose memory has a new owner, and those being sent.
    idle: [Queue; 2],
}

/// First and last of the transactions that [`Transaction::next`] and [`Transaction::previous`] link.
#[derive(Clone, Copy)]
struct Queue {
    first: Link,
    last: Link,
}

impl Account {
    const EMPTY: Self = Self { free: Link::NONE, fresh: 0, cells: 0, borrowers: 0, idle: [Queue { first: Link::NONE, last: Link::NONE }; 2] };
}

/// All transactions, and the only copies of what their senders wrote. The work of a call does not depend on how many there are.
pub struct MemoryManager {
    transactions: [Transaction; TRANSACTIONS],
    cells: Pool<Cell, CELLS>,
    borrowers: Pool<Borrower, BORROWERS>,
    accounts: [Account; LENDERS],
    staging: Staging,
}

/// Bits of a handle that are the transaction's place; those above are its generation.
const SLOT_BITS: u32 = 16;
const _: () = assert!(TRANSACTIONS < 1 << SLOT_BITS);

impl MemoryManager {
    /// No transactions. All bytes are zero.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            transactions: [Transaction::FREE; TRANSACTIONS],
            cells: Pool::new(Cell::BLANK),
            borrowers: Pool::new(Borrower::BLANK),
            accounts: [Account::EMPTY; LENDERS],
            staging: Staging::new(),
        }
    }

    /// Copies the first `len` bytes of a TX buffer, to be parsed.
    fn copy_in<M: Machine>(&mut self, machine: &mut M, from: Address, len: u32) -> Result<(), Status> {
        let to = self.staging.bytes_mut(len as usize).ok_or(Status::InvalidParameters)?;
        machine.read(from, to).map_err(|_| Status::Aborted)
    }

    /// Copies the first `len` bytes of what was prepared to an RX buffer.
    fn copy_out<M: Machine>(&self, machine: &mut M, to: Address, len: u32) -> Result<(), Status> {
        let from = self.staging.bytes(len as usize).ok_or(Status::Aborted)?;
        machine.write(to, from).map_err(|_| Status::Aborted)
    }

    /// FFA_MEM_RELINQUISH: `from` is the caller's TX buffer, `len` what a descriptor takes.
    pub(crate) fn relinquish<M: Machine>(&mut self, machine: &mut M, caller: Party, from: Address) -> Result<(), Status> {
        self.copy_in(machine, from, Relinquish::SIZE as u32)?;
        let request = Relinquish::parse(self.staging.fields(Relinquish::SIZE))?;
        // The normal world's hypervisor acts for its virtual machines.
        let own = match caller.owner {
            Owner::NormalWorld => !request.endpoint.is_secure(),
            Owner::Partition(_) => request.endpoint == caller.id,
        };
        if request.flags & !(FLAG_ZERO | FLAG_TIME_SLICE) != 0 || !own {
            return Err(Status::InvalidParameters);
        }
        let slot = self.find(request.handle)?;
        let (link, borrower) = self.borrower(slot, request.endpoint).ok_or(Status::Denied)?;
        let transaction = &self.transactions[slot];
        if !borrower.retrieved || transaction.state == State::Donated {
            return Err(Status::Denied);
        }
        let zero = request.flags & FLAG_ZERO != 0;
        match (zero, transaction.kind, borrower.read_only) {
            (true, Kind::Share, _) => return Err(Status::InvalidParameters),
            (true, _, true) => return Err(Status::Denied),
            _ => {}
        }
        if let owner @ Owner::Partition(_) = borrower.owner() {
            let secure = transaction.traits.has(Traits::SECURE);
            let mut result = Err(Status::Aborted);
            machine.holdings(owner, &mut |borrower| result = ledger::withdraw(borrower, self.runs(slot), secure));
            result?;
        }
        self.end_borrowing(machine, slot, link, zero || borrower.zero_after);
        Ok(())
    }

    /// A borrower that had the memory has it no more.
    fn end_borrowing<T: PageTables>(&mut self, tables: &mut T, slot: usize, link: Link, zero: bool) {
        let Some(borrower) = self.borrowers.get_mut(link) else { return };
        (borrower.retrieved, borrower.zero_after, borrower.transfer) = (false, false, Transfer::NONE);
        let transaction = &mut self.transactions[slot];
        transaction.retrieved -= 1;
        if zero {
            transaction.traits.set(Traits::ZERO_AFTER, true);
        }
        if transaction.retrieved != 0 {
            return;
        }
        if transaction.traits.has(Traits::ZERO_AFTER) {
            transaction.traits.set(Traits::ZERO_AFTER, false);
            let secure = transaction.traits.has(Traits::SECURE);
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
            State::Free | State::Donated | State::Orphaned => return Err(Status::Denied),
            State::Live => {}
        }
        let zero = flags & FLAG_ZERO != 0;
        if transaction.retrieved != 0 || zero && !transaction.traits.has(Traits::WRITE) {
            return Err(Status::Denied);
        }
        if zero {
            ledger::zero(tables, self.runs(slot), transaction.traits.has(Traits::SECURE)).map_err(|_| Status::Aborted)?;
        }
        self.end(tables, slot);
        Ok(())
    }

    /// Gives the memory back to the lender and forgets the transaction.
    fn end<T: PageTables>(&mut self, tables: &mut T, slot: usize) {
        tables.holdings(lender_of(slot), &mut |lender| ledger::take_back(lender, self.runs(slot)));
        self.free(slot);
    }

    /// A partition failed: it has no access to others' memory any more, and its own comes back to it as borrowers let go.
    pub(crate) fn clean_up_after<T: PageTables>(&mut self, tables: &mut T, partition: u8) {
        for slot in 0..TRANSACTIONS {
            let state = self.transactions[slot].state;
            if state == State::Free {
                continue;
            }
            let failed = |(_, b): &(Link, Borrower)| b.partition == partition && b.retrieved;
            let borrowed = self.borrowers.iter(self.transactions[slot].borrowers).find(failed);
            if let Some((link, borrower)) = borrowed.filter(|_| state != State::Donated) {
                // Its tables lead nowhere by now ([`Machine::quiesce`]), so that this needs none.
                let secure = self.transactions[slot].traits.has(Traits::SECURE);
                tables.holdings(Owner::Partition(partition), &mut |borrower| _ = ledger::withdraw(borrower, self.runs(slot), secure));
                self.end_borrowing(tables, slot, link, borrower.zero_after);
            }
            if lender_of(slot) != Owner::Partition(partition) {
                continue;
            }
            match self.transactions[slot].state {
                State::Live if self.transactions[slot].retrieved != 0 => self.transactions[slot].state = State::Orphaned,
                State::Live => self.end(tables, slot),
                State::Sending | State::Donated => self.free(slot),
                State::Free | State::Orphaned => {}
            }
        }
    }

    /// The handle of the transaction at `slot`. Bit 63 is clear: the SPMC gave it out. Never zero, and not the same again
    /// before a place was used 2^32 times.
    fn handle(&self, slot: usize) -> u64 {
        u64::from(self.transactions[slot].generation) << SLOT_BITS | slot as u64
    }

    /// The transaction with this handle.
    fn find(&self, handle: u64) -> Result<usize, Status> {
        let slot = (handle & ((1 << SLOT_BITS) - 1)) as usize;
        match self.transactions.get(slot) {
            Some(transaction) if transaction.state != State::Free && self.handle(slot) == handle => Ok(slot),
            _ => Err(Status::InvalidParameters),
        }
    }

    /// The transaction with this handle, if `lender` sent it.
    fn find_of(&self, lender: Owner, handle: u64) -> Result<usize, Status> {
        self.find(handle).ok().filter(|slot| lender_of(*slot) == lender).ok_or(Status::InvalidParameters)
    }

    fn borrower(&self, slot: usize, id: EndpointId) -> Option<(Link, Borrower)> {
        self.borrowers.iter(self.transactions[slot].borrowers).find(|(_, b)| b.id == id)
    }

    /// The ranges, joined where they touch.
    fn runs(&self, slot: usize) -> Runs<'_> {
        let transaction = &self.transactions[slot];
        Runs::new(self.cells.iter_from(transaction.cells, transaction.word_cells()))
    }

    /// The implementation-defined words that a borrower was sent.
    fn words(&self, slot: usize, borrower: &Borrower) -> u128 {
        let Some(n) = borrower.words.checked_sub(1) else { return 0 };
        let cells = self.cells.iter(self.transactions[slot].cells).skip(usize::from(n) * WORD_CELLS).take(WORD_CELLS);
        Cell::join(cells.map(|(_, cell)| cell))
    }

    /// A place for a transaction of `lender`, with a new handle. What holds no memory any more makes room for it.
    fn allocate(&mut self, lender: Owner) -> Result<usize, Status> {
        let account = &mut self.accounts[place_of(lender)];
        if account.free.index().is_none() && usize::from(account.fresh) == quota(lender).transactions && !self.evict(lender, None) {
            return Err(Status::NoMemory);
        }
        let account = &mut self.accounts[place_of(lender)];
        let slot = match account.free.index() {
            Some(slot) => {
                account.free = self.transactions[slot].next;
                slot
            }
            None => {
                account.fresh += 1;
                first_slot(lender) + usize::from(account.fresh) - 1
            }
        };
        let generation = self.transactions[slot].generation.wrapping_add(1).max(1);
        self.transactions[slot] = Transaction { generation, ..Transaction::FREE };
        self.make_idle(slot, State::Sending);
        Ok(slot)
    }

    /// Which of its lender's queues a transaction is in.
    fn queue_of(&mut self, slot: usize) -> Option<&mut Queue> {
        let n = match self.transactions[slot].state {
            State::Donated => 0,
            State::Sending => 1,
            State::Free | State::Live | State::Orphaned => return None,
        };
        Some(&mut self.accounts[place_of(lender_of(slot))].idle[n])
    }

    /// A transaction holds no memory from now on, and may be evicted.
    fn make_idle(&mut self, slot: usize, state: State) {
        self.transactions[slot].state = state;
        let here = Link::to(slot);
        let Some(queue) = self.queue_of(slot) else { return };
        let last = core::mem::replace(&mut queue.last, here);
        match last.index() {
            Some(last) => self.transactions[last].next = here,
            None => queue.first = here,
        }
        self.transactions[slot].previous = last;
        self.transactions[slot].next = Link::NONE;
    }

    /// Takes a transaction out of the queue that it is in.
    fn leave_queue(&mut self, slot: usize) {
        let Transaction { previous, next, .. } = self.transactions[slot];
        let Some(queue) = self.queue_of(slot) else { return };
        if previous == Link::NONE {
            queue.first = next;
        }
        if next == Link::NONE {
            queue.last = previous;
        }
        if let Some(before) = previous.index() {
            self.transactions[before].next = next;
        }
        if let Some(after) = next.index() {
            self.transactions[after].previous = previous;
        }
    }

    /// Drops the oldest of a lender's transactions that hold no memory, except `keep`; whether there was one.
    fn evict(&mut self, lender: Owner, keep: Option<usize>) -> bool {
        let queues = self.accounts[place_of(lender)].idle;
        let Some(slot) = queues.iter().find_map(|queue| queue.first.index().filter(|slot| Some(*slot) != keep)) else { return false };
        self.free(slot);
        true
    }

    /// Forgets a transaction.
    fn free(&mut self, slot: usize) {
        self.leave_queue(slot);
        self.free_lists(slot);
        let account = &mut self.accounts[place_of(lender_of(slot))];
        let transaction = &mut self.transactions[slot];
        transaction.state = State::Free;
        transaction.next = core::mem::replace(&mut account.free, Link::to(slot));
    }

    fn free_lists(&mut self, slot: usize) {
        let account = &mut self.accounts[place_of(lender_of(slot))];
        let transaction = &mut self.transactions[slot];
        account.cells -= transaction.word_cells() as u16 + core::mem::take(&mut transaction.ranges_promised);
        account.borrowers -= transaction.borrowers.len() as u16;
        transaction.worded = 0;
        self.cells.clear(&mut transaction.cells);
        self.borrowers.clear(&mut transaction.borrowers);
    }

    /// Sets lists of this length aside for a new transaction, within the lender's quota; `worded` borrowers have words.
    fn reserve(&mut self, slot: usize, ranges: u32, borrowers: usize, worded: usize) -> Result<(), Status> {
        let lender = lender_of(slot);
        let place = place_of(lender);
        let cells = ranges as usize + worded * WORD_CELLS;
        let limit = quota(lender);
        if cells > limit.cells || borrowers > limit.borrowers {
            return Err(Status::NoMemory);
        }
        while usize::from(self.accounts[place].cells) + cells > limit.cells || usize::from(self.accounts[place].borrowers) + borrowers > limit.borrowers {
            if !self.evict(lender, Some(slot)) {
                return Err(Status::NoMemory);
            }
        }
        self.accounts[place].cells += cells as u16;
        self.transactions[slot].ranges_promised = ranges as u16;
        self.transactions[slot].worded = worded as u8;
        Ok(())
    }

    /// Adds a borrower, before any ranges; `words` are its implementation-defined ones.
    fn add_borrower(&mut self, slot: usize, borrower: Borrower, words: u128) -> Result<(), Status> {
        let transaction = &mut self.transactions[slot];
        let mut borrower = borrower;
        if words != 0 {
            borrower.words = (transaction.cells.len() / WORD_CELLS + 1) as u8;
            for cell in Cell::words(words) {
                self.cells.push(&mut transaction.cells, cell).map_err(|_| Status::NoMemory)?;
            }
        }
        self.borrowers.push(&mut transaction.borrowers, borrower).map_err(|_| Status::NoMemory)?;
        self.accounts[place_of(lender_of(slot))].borrowers += 1;
        Ok(())
    }
}

impl Default for MemoryManager {
    fn default() -> Self {
        Self::new()
    }
}
