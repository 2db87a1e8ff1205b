//! FFA_MEM_SHARE, FFA_MEM_LEND, FFA_MEM_DONATE and FFA_MEM_FRAG_TX (DEN0140 v1.2 sections 2.1 to 2.3 and 2.9).
//!
//! The first fragment holds everything but the tail of the ranges. The memory changes hands when the last one is there; until
//! then a mistake costs only the transaction.

use super::layout::{Header, data, instruction, parse_composite, parse_range};
use super::ledger::{Pinned, Run};
use super::staging::Fields;
use super::transaction::{Borrower, Cell, FLAG_TIME_SLICE, FLAG_ZERO, FLAGS_KIND, Kind, State, Traits, lender_of};
use super::{MAX_PAGES, MemoryManager, Owner, Party, ledger};
use crate::machine::{Address, Machine};
use crate::tables::PAGE;
use bulkhead_ffa::descriptor::{composite, range};
use bulkhead_ffa::{EndpointId, Status};

/// Memory region attributes: normal, write-back, inner shareable. Everything is mapped so.
pub(super) const NORMAL_MEMORY: u16 = 0x2f;
/// Memory region attributes: bits that are not reserved (bit 6, the NS bit, may not be set by an endpoint).
pub(super) const ATTRIBUTES: u16 = 0x3f;
pub(super) const TYPE_SHIFT: u16 = 4;

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
        let fields = self.staging.fields(len);
        let header = Header::parse(fields, call.sender.version)?;
        check_header(&header, call)?;
        let summary = check_borrowers(&header, fields, call)?;
        // All borrowers get the same memory, so there is one description of it.
        let at = summary.composite;
        if at < header.access_end() || at % 8 != 0 {
            return Err(Status::InvalidParameters);
        }
        let (pages, ranges) = parse_composite(fields, at)?;
        let ranges_at = at + composite::SIZE;
        let expected = u64::from(ranges) * range::SIZE as u64 + ranges_at as u64;
        if pages == 0 || ranges == 0 || expected != u64::from(call.total) {
            return Err(Status::InvalidParameters);
        }
        if pages > MAX_PAGES {
            return Err(Status::NoMemory);
        }
        self.reserve(slot, ranges, header.access_count, summary.worded)?;
        let transaction = &mut self.transactions[slot];
        transaction.pages_promised = pages as u16;
        // Fragments are no longer than the staging area.
        transaction.base = ranges_at as u16;
        transaction.tag = header.tag;
        transaction.attributes = header.attributes as u8;
        transaction.sender = header.sender;
        transaction.kind = call.kind;
        transaction.traits.set(Traits::WIDE, header.access_size == bulkhead_ffa::descriptor::access::SIZE_V1_2);
        transaction.traits.set(Traits::ZEROED, header.flags & FLAG_ZERO != 0);
        let mut secure_borrowers = false;
        for n in 0..header.access_count {
            let entry = header.access(self.staging.fields(len), n)?;
            let partition = receiver(call, header.sender, entry.endpoint, &partition_of)?;
            secure_borrowers |= partition != Borrower::VIRTUAL_MACHINE;
            let borrower = Borrower { id: entry.endpoint, partition, permissions: entry.permissions, ..Borrower::BLANK };
            self.add_borrower(slot, borrower, entry.words)?;
        }
        // What virtual machines do among themselves is the hypervisor's affair.
        if !secure_borrowers {
            return Err(Status::InvalidParameters);
        }
        self.read_ranges(slot, ranges_at, len)?;
        self.finish_if_complete(machine, slot, &call.pinned)
    }

    /// Takes over the ranges in bytes `from..to` of the staging area. Fragments end between ranges.
    fn read_ranges(&mut self, slot: usize, from: usize, to: usize) -> Result<(), Status> {
        let transaction = &mut self.transactions[slot];
        let ranges = self.staging.fields(to).ranges(from)?;
        if ranges.len() > usize::from(transaction.ranges_promised) - transaction.ranges() {
            return Err(Status::InvalidParameters);
        }
        for range in ranges {
            let (start, pages) = parse_range(*range)?;
            let length = u64::from(pages) * PAGE;
            if start % PAGE != 0 || pages == 0 || start.checked_add(length).is_none() {
                return Err(Status::InvalidParameters);
            }
            if pages > u32::from(transaction.pages_promised - transaction.pages) {
                return Err(Status::InvalidParameters);
            }
            // No such memory: nobody can own it.
            let range = Cell::range(Run { start, pages: u64::from(pages) }).ok_or(Status::Denied)?;
            transaction.pages += pages as u16;
            self.cells.push(&mut transaction.cells, range).map_err(|_| Status::NoMemory)?;
        }
        Ok(())
    }

    fn finish_if_complete<M: Machine>(&mut self, machine: &mut M, slot: usize, pinned: &Pinned) -> Result<Progress, Status> {
        let transaction = &self.transactions[slot];
        if transaction.ranges() < usize::from(transaction.ranges_promised) {
            let named = if lender_of(slot) == Owner::NormalWorld { transaction.sender } else { EndpointId::HYPERVISOR };
            let received = usize::from(transaction.base) + transaction.ranges() * range::SIZE;
            return Ok(Progress::More(self.handle(slot), received as u32, named));
        }
        if transaction.pages != transaction.pages_promised {
            return Err(Status::InvalidParameters);
        }
        let (lender, state, zero) = (lender_of(slot), transaction.lender_state(), transaction.traits.has(Traits::ZEROED));
        // The new owner's access is for it to say when it retrieves, up to what the old one had.
        let writes = |b: Borrower| b.permissions & data::MASK == data::WRITE;
        let write = zero || self.borrowers.iter(transaction.borrowers).any(|(_, b)| writes(b));
        let mut terms = Err(Status::Aborted);
        machine.holdings(lender, &mut |lender| terms = ledger::give(lender, &self.runs(slot), state, write, pinned));
        let terms = terms?;
        if zero && ledger::zero(machine, self.runs(slot), terms.secure).is_err() {
            machine.holdings(lender, &mut |lender| ledger::take_back(lender, self.runs(slot)));
            return Err(Status::Aborted);
        }
        self.leave_queue(slot);
        let transaction = &mut self.transactions[slot];
        transaction.set_terms(terms);
        transaction.state = State::Live;
        Ok(Progress::Complete(self.handle(slot)))
    }
}

/// Everything of a sender's descriptor that depends neither on the borrowers nor on the memory.
fn check_header(header: &Header, call: &Sending) -> Result<(), Status> {
    // The normal world's hypervisor sends on behalf of its virtual machines.
    let own = match call.sender.owner {
        Owner::NormalWorld => !header.sender.is_secure(),
        Owner::Partition(_) => header.sender == call.sender.id,
    };
    if !own {
        return Err(Status::Denied);
    }
    if header.handle != 0 || header.access_count == 0 || call.kind == Kind::Donate && header.access_count != 1 {
        return Err(Status::InvalidParameters);
    }
    let kind = header.flags & FLAGS_KIND;
    let zero = header.flags & FLAG_ZERO != 0;
    let flags_known = header.flags & !(FLAG_ZERO | FLAG_TIME_SLICE) == kind;
    if !flags_known || kind != 0 && kind != call.kind.flags() || zero && call.kind == Kind::Share {
        return Err(Status::InvalidParameters);
    }
    if header.attributes & !ATTRIBUTES != 0 {
        return Err(Status::InvalidParameters);
    }
    // One borrower of lent memory, and a new owner, choose the type themselves.
    let borrower_chooses = call.kind != Kind::Share && header.access_count == 1;
    match (borrower_chooses, header.attributes >> TYPE_SHIFT) {
        (true, 0) => Ok(()),
        (true, _) => Err(Status::InvalidParameters),
        (false, _) => check_attributes(header.attributes),
    }
}

/// What the borrowers of a sender's descriptor have in common.
struct Summary {
    /// Offset of the composite descriptor.
    composite: usize,
    /// How many have implementation-defined words.
    worded: usize,
}

/// The borrowers of a sender's descriptor, as far as it does not matter who they are.
fn check_borrowers(header: &Header, fields: Fields<'_>, call: &Sending) -> Result<Summary, Status> {
    let mut summary = Summary { composite: 0, worded: 0 };
    let mut nobody_writes = true;
    for (n, entry) in header.accesses(fields).enumerate() {
        let entry = entry?;
        if n == 0 {
            summary.composite = entry.composite;
        }
        let data = entry.permissions & data::MASK;
        // Who executes is for one borrower to say when it retrieves, and never for several.
        let specified_rightly = (data == data::UNSPECIFIED) == (call.kind == Kind::Donate);
        let executes = entry.permissions & instruction::MASK != instruction::UNSPECIFIED;
        if entry.composite != summary.composite || entry.not_for_it || !specified_rightly || executes {
            return Err(Status::InvalidParameters);
        }
        nobody_writes &= data == data::READ;
        summary.worded += usize::from(entry.words != 0);
    }
    let zero = header.flags & FLAG_ZERO != 0;
    if zero && nobody_writes { Err(Status::InvalidParameters) } else { Ok(summary) }
}

/// Memory region attributes as an endpoint specifies them.
pub(super) fn check_attributes(attributes: u16) -> Result<(), Status> {
    match attributes >> TYPE_SHIFT {
        _ if attributes & !ATTRIBUTES != 0 => Err(Status::InvalidParameters),
        0 | 3 => Err(Status::InvalidParameters),
        _ if attributes == NORMAL_MEMORY => Ok(()),
        // Device memory, and mappings other than the one that there is.
        _ => Err(Status::Denied),
    }
}

/// The partition that a sender names as a borrower, or [`Borrower::VIRTUAL_MACHINE`].
fn receiver(call: &Sending, sender: EndpointId, id: EndpointId, partition_of: impl Fn(EndpointId) -> Result<u8, Status>) -> Result<u8, Status> {
    if id == sender {
        return Err(Status::InvalidParameters);
    }
    match (id.is_secure(), call.sender.owner) {
        (true, _) => partition_of(id),
        (false, Owner::NormalWorld) => Ok(Borrower::VIRTUAL_MACHINE),
        // Secure endpoints lend nothing to the normal world.
        (false, Owner::Partition(_)) => Err(Status::Denied),
    }
}
