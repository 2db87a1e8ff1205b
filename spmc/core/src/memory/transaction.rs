//! What is kept of a memory transaction, and how much of it each lender may have.

use super::ledger::{Run, Terms};
use super::pool::Chain;
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
    pub ranges: usize,
    pub borrowers: usize,
}

/// Linux keeps a transaction for each buffer that it shares with OP-TEE, of scattered pages.
const NORMAL_WORLD: Quota = Quota { transactions: 128, ranges: 2560, borrowers: 192 };
const PARTITION: Quota = Quota { transactions: 16, ranges: 64, borrowers: 24 };
pub(super) const TRANSACTIONS: usize = NORMAL_WORLD.transactions + MAX_PARTITIONS * PARTITION.transactions;
pub(super) const RANGES: usize = NORMAL_WORLD.ranges + MAX_PARTITIONS * PARTITION.ranges;
pub(super) const BORROWERS: usize = NORMAL_WORLD.borrowers + MAX_PARTITIONS * PARTITION.borrowers;

pub(super) const fn quota(lender: Owner) -> Quota {
    match lender {
        Owner::NormalWorld => NORMAL_WORLD,
        Owner::Partition(_) => PARTITION,
    }
}

/// The places of a lender's transactions.
pub(super) fn slots(lender: Owner) -> core::ops::Range<usize> {
    match lender {
        Owner::NormalWorld => 0..NORMAL_WORLD.transactions,
        Owner::Partition(n) => {
            let first = NORMAL_WORLD.transactions + usize::from(n) % MAX_PARTITIONS * PARTITION.transactions;
            first..first + PARTITION.transactions
        }
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

/// One transaction; free while its handle is zero.
#[derive(Clone, Copy)]
pub(super) struct Transaction {
    pub handle: u64,
    pub tag: u64,
    pub ranges: Chain,
    pub borrowers: Chain,
    /// Pages in `ranges`.
    pub pages: u32,
    /// Pages that the descriptor promised.
    pub pages_promised: u32,
    /// Ranges that the descriptor promised.
    pub ranges_promised: u32,
    /// Bytes of the descriptor that were received.
    pub received: u32,
    pub attributes: u16,
    pub sender: EndpointId,
    pub kind: Kind,
    pub state: State,
    pub terms: Terms,
    /// Its access descriptors had implementation-defined words.
    pub wide: bool,
    /// The lender wanted the memory zeroed.
    pub zeroed: bool,
    /// To be zeroed when nobody has access any more.
    pub zero_after: bool,
    /// For the normal world's hypervisor, which may ask for the description.
    pub transfer: Transfer,
}

impl Transaction {
    pub const FREE: Self = Self {
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
    pub fn lender_state(&self) -> PageState {
        if self.kind == Kind::Share { PageState::Shared } else { PageState::Lent }
    }
}

/// One borrower of a transaction.
#[derive(Clone, Copy)]
pub(super) struct Borrower {
    pub id: EndpointId,
    pub partition: u8,
    /// Permissions that the lender gave it, as in its access descriptor.
    pub permissions: u8,
    pub retrieved: bool,
    /// It retrieved the memory for reading only.
    pub read_only: bool,
    /// It asked for zeroes when it gives the memory up.
    pub zero_after: bool,
    pub implementation_defined: [u8; 16],
    pub transfer: Transfer,
}

impl Borrower {
    pub const BLANK: Self = Self {
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

/// A range in 6 bytes: page number (so addresses below 2^44) and page count (at most [`super::MAX_PAGES`]).
#[derive(Clone, Copy)]
pub(super) struct Range {
    pub page: [u16; 2],
    pub count: u16,
}

impl Range {
    pub const BLANK: Self = Self { page: [0; 2], count: 0 };

    pub fn new(run: Run) -> Option<Self> {
        let page = u32::try_from(run.start / PAGE).ok()?;
        Some(Self { page: [page as u16, (page >> 16) as u16], count: u16::try_from(run.pages).ok()? })
    }

    pub fn run(self) -> Run {
        let page = u64::from(self.page[0]) | u64::from(self.page[1]) << 16;
        Run { start: page * PAGE, pages: u64::from(self.count) }
    }
}
