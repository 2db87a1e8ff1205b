//! What is kept of a memory transaction, and how much of it each lender may have.

use super::ledger::{Run, Terms};
use super::pool::{Chain, Link};
use super::{Owner, PageState};
use crate::MAX_PARTITIONS;
use crate::tables::PAGE;
use bulkhead_ffa::EndpointId;
use bulkhead_ffa::descriptor::range;

/// Flags, bit 0: fill with zeroes.
pub(super) const FLAG_ZERO: u32 = 1 << 0;
/// Flags, bit 1: the operation may be done in time slices. Accepted and not used: the work of a call is bounded.
pub(super) const FLAG_TIME_SLICE: u32 = 1 << 1;

/// Flags, bits 4..3: kind of transaction.
pub(super) const FLAGS_KIND: u32 = 3 << 3;

/// What one lender may have at a time, so that a greedy one starves only itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quota {
    pub transactions: usize,
    pub cells: usize,
    pub borrowers: usize,
}

/// Linux keeps a transaction for each buffer that it shares with OP-TEE, of scattered pages.
pub(super) const NORMAL_WORLD: Quota = Quota { transactions: 1024, cells: 5120, borrowers: 1152 };
pub(super) const PARTITION: Quota = Quota { transactions: 32, cells: 96, borrowers: 48 };
/// Who may lend.
pub(super) const LENDERS: usize = 1 + MAX_PARTITIONS;
pub(super) const TRANSACTIONS: usize = NORMAL_WORLD.transactions + MAX_PARTITIONS * PARTITION.transactions;
pub(super) const CELLS: usize = NORMAL_WORLD.cells + MAX_PARTITIONS * PARTITION.cells;
pub(super) const BORROWERS: usize = NORMAL_WORLD.borrowers + MAX_PARTITIONS * PARTITION.borrowers;

pub(super) const fn quota(lender: Owner) -> Quota {
    match lender {
        Owner::NormalWorld => NORMAL_WORLD,
        Owner::Partition(_) => PARTITION,
    }
}

/// A lender's place in a table of [`LENDERS`].
pub(super) fn place_of(lender: Owner) -> usize {
    match lender {
        Owner::NormalWorld => 0,
        Owner::Partition(n) => 1 + usize::from(n) % MAX_PARTITIONS,
    }
}

/// The first place of a lender's transactions.
pub(super) fn first_slot(lender: Owner) -> usize {
    match lender {
        Owner::NormalWorld => 0,
        Owner::Partition(n) => NORMAL_WORLD.transactions + usize::from(n) % MAX_PARTITIONS * PARTITION.transactions,
    }
}

/// The lender whose transaction is at `slot`.
pub(super) fn lender_of(slot: usize) -> Owner {
    match slot.checked_sub(NORMAL_WORLD.transactions) {
        None => Owner::NormalWorld,
        Some(n) => Owner::Partition((n / PARTITION.transactions) as u8),
    }
}

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
    pub const fn flags(self) -> u32 {
        match self {
            Self::Share => 1 << 3,
            Self::Lend => 2 << 3,
            Self::Donate => 3 << 3,
        }
    }
}

/// How far a transaction is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// There is none here.
    #[default]
    Free,
    /// Fragments of its descriptor are missing; the memory is not touched yet.
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
pub(super) struct Transfer {
    /// Offset of the first range in the description; zero when nothing is left to send.
    pub base: u16,
    /// Ranges that were sent.
    pub ranges: u16,
}

impl Transfer {
    pub const NONE: Self = Self { base: 0, ranges: 0 };

    pub fn offset(self) -> u32 {
        u32::from(self.base) + u32::from(self.ranges) * range::SIZE as u32
    }
}

/// What is true of a transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Traits(u8);

impl Traits {
    /// The lender may write all of the memory.
    pub const WRITE: u8 = 1 << 0;
    /// The lender may execute all of it.
    pub const EXECUTE: u8 = 1 << 1;
    /// It is in the secure address space.
    pub const SECURE: u8 = 1 << 2;
    /// Its access descriptors had implementation-defined words.
    pub const WIDE: u8 = 1 << 3;
    /// The lender wanted the memory zeroed.
    pub const ZEROED: u8 = 1 << 4;
    /// To be zeroed when nobody has access any more.
    pub const ZERO_AFTER: u8 = 1 << 5;

    pub const fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }

    pub fn set(&mut self, bit: u8, on: bool) {
        self.0 = self.0 & !bit | if on { bit } else { 0 };
    }
}

/// One transaction, in 48 bytes.
#[derive(Clone, Copy)]
pub(super) struct Transaction {
    pub tag: u64,
    /// Distinguishes the transactions that have had this place.
    pub generation: u32,
    /// Words of borrowers, then ranges.
    pub cells: Chain,
    pub borrowers: Chain,
    /// Pages in the ranges so far; one transaction has at most [`super::MAX_PAGES`].
    pub pages: u16,
    /// Pages that the descriptor promised.
    pub pages_promised: u16,
    /// Ranges that the descriptor promised.
    pub ranges_promised: u16,
    /// Offset of the first range in the sender's descriptor.
    pub base: u16,
    pub sender: EndpointId,
    /// For the normal world's hypervisor, which may ask for the description.
    pub transfer: Transfer,
    /// Neighbours in the lender's list of such as hold no memory; the next free place.
    pub previous: Link,
    pub next: Link,
    /// Memory region attributes as sent: all but their lower byte is reserved.
    pub attributes: u8,
    pub kind: Kind,
    pub state: State,
    pub traits: Traits,
    /// Borrowers that have it.
    pub retrieved: u8,
    /// Borrowers whose words are at the start of `cells`.
    pub worded: u8,
}

const _: () = assert!(size_of::<Transaction>() == 48);

impl Transaction {
    pub const FREE: Self = Self {
        tag: 0,
        generation: 0,
        cells: Chain::EMPTY,
        borrowers: Chain::EMPTY,
        pages: 0,
        pages_promised: 0,
        ranges_promised: 0,
        base: 0,
        sender: EndpointId::HYPERVISOR,
        transfer: Transfer::NONE,
        previous: Link::NONE,
        next: Link::NONE,
        attributes: 0,
        kind: Kind::Share,
        state: State::Free,
        traits: Traits(0),
        retrieved: 0,
        worded: 0,
    };

    /// How the lender holds the pages meanwhile.
    pub fn lender_state(&self) -> PageState {
        if self.kind == Kind::Share { PageState::Shared } else { PageState::Lent }
    }

    /// Cells before the ranges.
    pub fn word_cells(&self) -> usize {
        usize::from(self.worded) * WORD_CELLS
    }

    /// Ranges so far.
    pub fn ranges(&self) -> usize {
        self.cells.len() - self.word_cells()
    }

    pub fn set_terms(&mut self, terms: Terms) {
        self.traits.set(Traits::WRITE, terms.write);
        self.traits.set(Traits::EXECUTE, terms.execute);
        self.traits.set(Traits::SECURE, terms.secure);
    }
}

/// One borrower of a transaction.
#[derive(Clone, Copy)]
pub(super) struct Borrower {
    pub id: EndpointId,
    pub transfer: Transfer,
    /// Its index; [`Borrower::VIRTUAL_MACHINE`] for one of the normal world, which has no tables here.
    pub partition: u8,
    /// Permissions that the lender gave it, as in its access descriptor.
    pub permissions: u8,
    pub retrieved: bool,
    /// It retrieved the memory for reading only.
    pub read_only: bool,
    /// It asked for zeroes when it gives the memory up.
    pub zero_after: bool,
    /// Which of the transaction's words are its implementation-defined ones, plus one; zero when they are zeroes.
    pub words: u8,
}

impl Borrower {
    pub const BLANK: Self = Self {
        id: EndpointId::HYPERVISOR,
        transfer: Transfer::NONE,
        partition: 0,
        permissions: 0,
        retrieved: false,
        read_only: false,
        zero_after: false,
        words: 0,
    };
    /// `partition` of a virtual machine.
    pub const VIRTUAL_MACHINE: u8 = u8::MAX;

    /// Whose tables it is in.
    pub fn owner(&self) -> Owner {
        if self.partition == Self::VIRTUAL_MACHINE { Owner::NormalWorld } else { Owner::Partition(self.partition) }
    }
}

/// Bytes of the words that endpoints agree on among themselves.
pub(super) const WORD_BYTES: usize = 16;
/// Cells that keep them.
pub(super) const WORD_CELLS: usize = WORD_BYTES.div_ceil(CELL_BYTES);
const CELL_BYTES: usize = 6;

/// Six bytes: a range as page number (so addresses below 2^44) and page count, or a piece of words.
#[derive(Clone, Copy)]
pub(super) struct Cell([u16; 3]);

impl Cell {
    pub const BLANK: Self = Self([0; 3]);

    /// A range; `None` where there is no such memory.
    pub fn range(run: Run) -> Option<Self> {
        let page = u32::try_from(run.start / PAGE).ok()?;
        Some(Self([page as u16, (page >> 16) as u16, u16::try_from(run.pages).ok()?]))
    }

    /// The range that it is.
    pub fn run(self) -> Run {
        let [low, high, count] = self.0.map(u64::from);
        Run { start: (low | high << 16) * PAGE, pages: count }
    }

    /// The cells of words.
    pub fn words(words: u128) -> impl Iterator<Item = Self> {
        let half = move |n: u32| words.checked_shr(16 * n).unwrap_or(0) as u16;
        (0..WORD_CELLS as u32).map(move |n| Self([3 * n, 3 * n + 1, 3 * n + 2].map(half)))
    }

    /// Words from their cells.
    pub fn join(cells: impl Iterator<Item = Self>) -> u128 {
        let halves = cells.flat_map(|cell| cell.0).zip((0..u128::BITS).step_by(16));
        halves.fold(0, |words, (half, shift)| words | u128::from(half) << shift)
    }
}
