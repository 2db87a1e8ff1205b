//! FFA_MEM_SHARE, FFA_MEM_LEND, FFA_MEM_DONATE and FFA_MEM_FRAG_TX (DEN0140 v1.2 sections 2.1 to 2.3 and 2.9).
//!
//! The first fragment holds everything but the tail of the ranges. The memory changes hands when the last one is there; until
//! then a mistake costs only the transaction.

use super::layout::{Access, Header, MAX_BORROWERS, parse_composite, parse_range};
use super::ledger::{Pinned, Run};
use super::transaction::{Borrower, FLAG_TIME_SLICE, FLAG_ZERO, FLAGS_KIND, Kind, State, lender_of};
use super::{MAX_DESCRIPTOR, MAX_PAGES, MemoryManager, Owner, Party, ledger};
use crate::machine::{Address, Machine};
use crate::tables::PAGE;
use arrayvec::ArrayVec;
use bulkhead_ffa::descriptor::{composite, range};
use bulkhead_ffa::{EndpointId, Status};

/// Memory region attributes: normal, write-back, inner shareable. Everything is mapped so.
pub(super) const NORMAL_MEMORY: u16 = 0x2f;
/// Memory region attributes: bits that are not reserved (bit 6, the NS bit, may not be set by an endpoint).
const ATTRIBUTES: u16 = 0x3f;
pub(super) const TYPE_SHIFT: u16 = 4;

/// Data access in an access descriptor.
pub(super) mod data {
    pub const MASK: u8 = 3;
    pub const UNSPECIFIED: u8 = 0;
    pub const READ: u8 = 1;
    pub const WRITE: u8 = 2;
}

/// Instruction access in an access descriptor.
pub(super) mod instruction {
    pub const MASK: u8 = 3 << 2;
    pub const UNSPECIFIED: u8 = 0;
    pub const NEVER: u8 = 1 << 2;
    pub const EXECUTE: u8 = 2 << 2;
}

/// What the sender is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The memory is given; this is its handle.
    Complete(u64),
    /// More of the descriptor is wanted, from this offset on. The sender's id is for a hypervisor that speaks for several; zero
    /// for a partition.
    More(u64, u32, EndpointId),
}

/// A send call and its sender.
pub(crate) struct Sending {
    /// Who sends.
    pub sender: Party,
    /// Which call.
    pub kind: Kind,
    /// Bytes of the whole descriptor.
    pub total: u32,
    /// Bytes of it that are in the TX buffer.
    pub fragment: u32,
    /// The TX buffer.
    pub from: Address,
    /// The sender's RX and TX buffer, which it may not give away.
    pub pinned: Pinned,
}

impl MemoryManager {
    /// The first fragment. `partition_of` finds the partition that a descriptor names.
    pub(crate) fn send<M: Machine>(
        &mut self,
        machine: &mut M,
        call: &Sending,
        partition_of: impl Fn(EndpointId) -> Result<u8, Status>,
    ) -> Result<Progress, Status> {
        if call.fragment > call.total {
            return Err(Status::InvalidParameters);
        }
        self.copy_in(machine, call.from, call.fragment)?;
        let slot = self.allocate(call.sender.owner)?;
        let result = self.first_fragment(machine, call, slot, partition_of);
        if result.is_err() {
            self.free(slot);
        }
        result
    }

    /// A further fragment.
    pub(crate) fn send_more<M: Machine>(&mut self, machine: &mut M, call: &Sending, handle: u64, named_sender: u16) -> Result<Progress, Status> {
        let slot = self.find_of(call.sender.owner, handle)?;
        let transaction = &self.transactions[slot];
        if transaction.state != State::Sending {
            return Err(Status::InvalidParameters);
        }
        // The normal world names the sender, which its hypervisor speaks for; a partition does not.
        let expected = if call.sender.owner == Owner::NormalWorld { transaction.sender.0 } else { 0 };
        if named_sender != expected || call.fragment == 0 {
            return Err(Status::InvalidParameters);
        }
        self.copy_in(machine, call.from, call.fragment)?;
        let result = self.read_ranges(slot, 0, call.fragment as usize).and_then(|()| self.finish_if_complete(machine, slot, &call.pinned));
        if result.is_err() {
            self.free(slot);
        }
        result
    }

    fn first_fragment<M: Machine>(
        &mut self,
        machine: &mut M,
        call: &Sending,
        slot: usize,
        partition_of: impl Fn(EndpointId) -> Result<u8, Status>,
    ) -> Result<Progress, Status> {
        let len = call.fragment as usize;
        let bytes = &self.staging[..len];
        let header = Header::parse(bytes, call.sender.version)?;
        let entries = borrowers(&header, bytes)?;
        check_header(&header, call, &entries)?;
        // All borrowers get the same memory, so there is one description of it.
        let at = entries[0].composite;
        if at < header.access_end() || at % 8 != 0 || entries.iter().any(|e| e.composite != at) {
            return Err(Status::InvalidParameters);
        }
        let (pages, ranges) = parse_composite(bytes, at)?;
        let ranges_at = at + composite::SIZE;
        let expected = u64::from(ranges) * range::SIZE as u64 + ranges_at as u64;
        if pages == 0 || ranges == 0 || expected != u64::from(call.total) {
            return Err(Status::InvalidParameters);
        }
        if pages > MAX_PAGES || call.total > MAX_DESCRIPTOR {
            return Err(Status::NoMemory);
        }
        self.reserve(slot, ranges, entries.len())?;
        let transaction = &mut self.transactions[slot];
        transaction.pages_promised = pages;
        transaction.received = ranges_at as u32;
        transaction.tag = header.tag;
        transaction.attributes = header.attributes;
        transaction.sender = header.sender;
        transaction.kind = call.kind;
        transaction.wide = header.access_size == bulkhead_ffa::descriptor::access::SIZE_V1_2;
        transaction.zeroed = header.flags & FLAG_ZERO != 0;
        for entry in &entries {
            let partition = receiver(call, entry.endpoint, &partition_of)?;
            let (permissions, implementation_defined) = (entry.permissions, entry.implementation_defined);
            self.add_borrower(slot, Borrower { id: entry.endpoint, partition, permissions, implementation_defined, ..Borrower::BLANK })?;
        }
        self.read_ranges(slot, ranges_at, len)?;
        self.finish_if_complete(machine, slot, &call.pinned)
    }

    /// Takes over the ranges in bytes `from..to` of the staging area. Fragments end between ranges.
    fn read_ranges(&mut self, slot: usize, from: usize, to: usize) -> Result<(), Status> {
        let bytes = to - from;
        let count = bytes / range::SIZE;
        let left = self.transactions[slot].ranges_promised as usize - self.transactions[slot].ranges.len();
        if !bytes.is_multiple_of(range::SIZE) || count > left {
            return Err(Status::InvalidParameters);
        }
        for n in 0..count {
            let (start, pages) = parse_range(&self.staging, from + n * range::SIZE)?;
            let length = u64::from(pages) * PAGE;
            if start % PAGE != 0 || pages == 0 || start.checked_add(length).is_none() {
                return Err(Status::InvalidParameters);
            }
            let transaction = &self.transactions[slot];
            if pages > transaction.pages_promised - transaction.pages {
                return Err(Status::InvalidParameters);
            }
            self.add_range(slot, Run { start, pages: u64::from(pages) })?;
        }
        self.transactions[slot].received += bytes as u32;
        Ok(())
    }

    fn finish_if_complete<M: Machine>(&mut self, machine: &mut M, slot: usize, pinned: &Pinned) -> Result<Progress, Status> {
        let transaction = &self.transactions[slot];
        if transaction.ranges.len() < transaction.ranges_promised as usize {
            let named = if lender_of(slot) == Owner::NormalWorld { transaction.sender } else { EndpointId::HYPERVISOR };
            return Ok(Progress::More(transaction.handle, transaction.received, named));
        }
        if transaction.pages != transaction.pages_promised {
            return Err(Status::InvalidParameters);
        }
        let (lender, state, zero) = (lender_of(slot), transaction.lender_state(), transaction.zeroed);
        let entries = || self.borrowers.iter(transaction.borrowers).map(|(_, b)| b);
        // The new owner's access is for it to say when it retrieves, up to what the old one had.
        let write = zero || entries().any(|b| b.permissions & data::MASK == data::WRITE);
        let terms = ledger::give(machine, lender, self.runs(slot), state, write, pinned)?;
        if transaction.kind != Kind::Share {
            machine.flush(lender);
        }
        if zero && ledger::zero(machine, self.runs(slot), terms.secure).is_err() {
            let _ = ledger::take_back(machine, lender, self.runs(slot));
            return Err(Status::Aborted);
        }
        let transaction = &mut self.transactions[slot];
        transaction.terms = terms;
        transaction.state = State::Live;
        Ok(Progress::Complete(transaction.handle))
    }
}

/// The access descriptors of a request; each endpoint occurs once.
pub(super) fn borrowers(header: &Header, bytes: &[u8]) -> Result<ArrayVec<Access, MAX_BORROWERS>, Status> {
    let mut entries: ArrayVec<Access, MAX_BORROWERS> = ArrayVec::new();
    for n in 0..header.access_count {
        let entry = header.access(bytes, n)?;
        let reserved = entry.permissions & !(data::MASK | instruction::MASK) != 0
            || entry.permissions & data::MASK == data::MASK
            || entry.permissions & instruction::MASK == instruction::MASK
            || entry.flags != 0;
        if reserved || entries.iter().any(|e| e.endpoint == entry.endpoint) {
            return Err(Status::InvalidParameters);
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// Everything of a sender's descriptor that does not depend on the memory.
fn check_header(header: &Header, call: &Sending, entries: &[Access]) -> Result<(), Status> {
    // The normal world's hypervisor sends on behalf of its virtual machines.
    let own = match call.sender.owner {
        Owner::NormalWorld => !header.sender.is_secure(),
        Owner::Partition(_) => header.sender == call.sender.id,
    };
    if !own {
        return Err(Status::Denied);
    }
    if header.handle != 0 || entries.is_empty() || call.kind == Kind::Donate && entries.len() != 1 {
        return Err(Status::InvalidParameters);
    }
    let kind = header.flags & FLAGS_KIND;
    if header.flags & !(FLAG_ZERO | FLAG_TIME_SLICE) != kind || kind != 0 && kind != call.kind.flags() {
        return Err(Status::InvalidParameters);
    }
    let zero = header.flags & FLAG_ZERO != 0;
    let nobody_writes = entries.iter().all(|e| e.permissions & data::MASK == data::READ);
    if zero && (call.kind == Kind::Share || nobody_writes) {
        return Err(Status::InvalidParameters);
    }
    // One borrower of lent memory, and a new owner, choose type and execution themselves.
    let borrower_chooses = call.kind != Kind::Share && entries.len() == 1;
    check_attributes(header.attributes, borrower_chooses)?;
    let permissions = |p: u8| {
        let specified = p & data::MASK != data::UNSPECIFIED;
        let instruction = p & instruction::MASK;
        match call.kind {
            Kind::Share => specified && instruction == instruction::UNSPECIFIED,
            Kind::Lend => specified && instruction != instruction::EXECUTE,
            Kind::Donate => p == 0,
        }
    };
    if entries.iter().all(|e| permissions(e.permissions)) { Ok(()) } else { Err(Status::InvalidParameters) }
}

/// Memory region attributes as an endpoint gives them.
pub(super) fn check_attributes(attributes: u16, may_be_unspecified: bool) -> Result<(), Status> {
    if attributes & !ATTRIBUTES != 0 {
        return Err(Status::InvalidParameters);
    }
    match attributes >> TYPE_SHIFT {
        // Cacheability and shareability mean nothing then, and senders leave them as they like.
        0 if may_be_unspecified => Ok(()),
        0 | 3 => Err(Status::InvalidParameters),
        _ if attributes == NORMAL_MEMORY => Ok(()),
        // Device memory, and mappings other than the one that there is.
        _ => Err(Status::Denied),
    }
}

/// The partition that a sender names as a borrower.
fn receiver(call: &Sending, id: EndpointId, partition_of: impl Fn(EndpointId) -> Result<u8, Status>) -> Result<u8, Status> {
    if id == call.sender.id {
        return Err(Status::InvalidParameters);
    }
    // Secure endpoints lend nothing to the normal world.
    if !id.is_secure() {
        return Err(if call.sender.owner == Owner::NormalWorld { Status::InvalidParameters } else { Status::Denied });
    }
    partition_of(id)
}
