//! FFA_MEM_RETRIEVE_REQ, its answer, and FFA_MEM_FRAG_RX (DEN0140 v1.2 sections 2.4, 2.5 and 2.8).
//!
//! A borrower has access when its request is answered, also where the description takes several fragments.

use super::layout::{Access, Header, MAX_BORROWERS, default_access_size, header_size, is_v1_0, write_composite, write_range};
use super::send::{NORMAL_MEMORY, TYPE_SHIFT, borrowers, check_attributes, data, instruction};
use super::pool::Link;
use super::transaction::{Borrower, FLAG_ZERO, FLAGS_KIND, Kind, State, Transfer, lender_of};
use super::{Holding, MemoryManager, MemoryType, Owner, PageState, Party, STAGING, ledger};
use crate::machine::{Address, Machine, Permissions};
use crate::tables::PAGE;
use arrayvec::ArrayVec;
use bulkhead_ffa::Status;
use bulkhead_ffa::descriptor::{access, composite, range};

/// Bit 2: the memory is filled with zeroes when the borrower gives it up.
const FLAG_ZERO_AFTER: u32 = 1 << 2;
/// Bits 8..5: alignment that the borrower wants, as a power of two of pages, if bit 9 is set.
const HINT_SHIFT: u32 = 5;
const HINT_MASK: u32 = 0xf;
const FLAG_HINT: u32 = 1 << 9;
/// Bit 10: the request names only its caller, not all borrowers.
const FLAG_ONLY_CALLER: u32 = 1 << 10;
const FLAGS: u32 = 0x7ff;
/// Memory region attributes: the memory is in the non-secure address space.
const NON_SECURE: u16 = 1 << 6;

/// A piece of a description, now in an RX buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// Bytes of the whole description.
    pub total: u32,
    /// Bytes that are in the buffer.
    pub fragment: u32,
    /// Who sent the memory.
    pub sender: bulkhead_ffa::EndpointId,
}

/// What a valid request comes down to.
struct Accepted {
    link: Link,
    /// The access descriptors of the answer.
    entries: ArrayVec<Access, MAX_BORROWERS>,
    access_size: usize,
    permissions: Permissions,
    zero_after: bool,
}

impl MemoryManager {
    /// A request of `len` bytes in the TX buffer `from`; the answer goes to the RX buffer `to`.
    pub(crate) fn retrieve<M: Machine>(&mut self, machine: &mut M, caller: Party, from: Address, len: u32, to: Address) -> Result<Reply, Status> {
        self.copy_in(machine, from, len)?;
        let header = Header::parse(&self.staging[..len as usize], caller.version)?;
        let slot = self.find(header.handle)?;
        match self.transactions[slot].state {
            State::Live => {}
            State::Sending => return Err(Status::InvalidParameters),
            State::Donated | State::Orphaned => return Err(Status::Denied),
        }
        match (caller.owner, header.access_count) {
            (Owner::NormalWorld, 0) => self.describe_to_hypervisor(machine, caller, slot, to),
            // No normal-world endpoint is ever a borrower.
            (Owner::NormalWorld, _) => Err(Status::Denied),
            (Owner::Partition(_), 0) => Err(Status::InvalidParameters),
            (Owner::Partition(_), _) => {
                let accepted = self.accept(&header, caller, slot, len as usize)?;
                self.hand_over(machine, caller, slot, &accepted, to)
            }
        }
    }

    /// Checks a borrower's request against what the lender sent.
    fn accept(&self, header: &Header, caller: Party, slot: usize, len: usize) -> Result<Accepted, Status> {
        let transaction = &self.transactions[slot];
        let requested = borrowers(header, &self.staging[..len])?;
        let (link, own) = self.borrower(slot, caller.id).ok_or(Status::Denied)?;
        if header.sender != transaction.sender {
            return Err(Status::Denied);
        }
        let kind = header.flags & FLAGS_KIND;
        if header.tag != transaction.tag || kind != 0 && kind != transaction.kind.flags() || header.flags & !FLAGS != 0 {
            return Err(Status::InvalidParameters);
        }
        let zero_flags = header.flags & (FLAG_ZERO | FLAG_ZERO_AFTER);
        let meaningless = match transaction.kind {
            Kind::Share => FLAG_ZERO | FLAG_ZERO_AFTER,
            Kind::Lend => 0,
            Kind::Donate => FLAG_ZERO_AFTER,
        };
        if zero_flags & meaningless != 0 {
            return Err(Status::InvalidParameters);
        }
        self.check_alignment(header.flags, slot)?;
        let expected = if header.flags & FLAG_ONLY_CALLER != 0 { 1 } else { transaction.borrowers.len() };
        if requested.len() != expected {
            return Err(Status::InvalidParameters);
        }
        check_attributes(header.attributes, true)?;
        let both_wide = transaction.wide && header.access_size == access::SIZE_V1_2;
        let mut entries = ArrayVec::new();
        let mut permissions = None;
        for entry in requested {
            // Bulkhead places the memory: its address is the same everywhere.
            if entry.composite != 0 {
                return Err(Status::InvalidParameters);
            }
            let (_, sent) = self.borrower(slot, entry.endpoint).ok_or(Status::Denied)?;
            if both_wide && sent.implementation_defined != entry.implementation_defined {
                return Err(Status::InvalidParameters);
            }
            let granted = self.access(slot, &sent, entry.permissions)?;
            if entry.endpoint == caller.id {
                permissions = Some(granted);
            }
            entries.push(Access { permissions: encode(granted), implementation_defined: sent.implementation_defined, ..entry });
        }
        let permissions = permissions.ok_or(Status::InvalidParameters)?;
        let already_zero = transaction.zeroed || zero_flags & FLAG_ZERO == 0;
        if own.retrieved || !already_zero || zero_flags != 0 && !permissions.write {
            return Err(Status::Denied);
        }
        Ok(Accepted { link, entries, access_size: header.access_size, permissions, zero_after: zero_flags & FLAG_ZERO_AFTER != 0 })
    }

    fn check_alignment(&self, flags: u32, slot: usize) -> Result<(), Status> {
        let hint = flags >> HINT_SHIFT & HINT_MASK;
        if flags & FLAG_HINT == 0 {
            return if hint == 0 { Ok(()) } else { Err(Status::InvalidParameters) };
        }
        let aligned = self.ranges(slot).next().is_some_and(|run| run.start % (PAGE << hint) == 0);
        if aligned { Ok(()) } else { Err(Status::Denied) }
    }

    /// The access that a borrower gets when it asks for `wanted`.
    fn access(&self, slot: usize, sent: &Borrower, wanted: u8) -> Result<Permissions, Status> {
        let transaction = &self.transactions[slot];
        let limit = match sent.permissions & data::MASK {
            data::UNSPECIFIED if transaction.terms.write => data::WRITE,
            data::UNSPECIFIED => data::READ,
            limit => limit,
        };
        let data = match wanted & data::MASK {
            data::UNSPECIFIED => limit,
            wanted if wanted <= limit => wanted,
            _ => return Err(Status::Denied),
        };
        // Nobody executes shared memory, and who executes is not for several borrowers to say.
        let several = transaction.borrowers.len() > 1;
        let instruction = wanted & instruction::MASK;
        let execute = match (transaction.kind, instruction) {
            (Kind::Share, instruction::UNSPECIFIED) => false,
            (Kind::Share, _) => return Err(Status::InvalidParameters),
            (_, instruction::EXECUTE) if several => return Err(Status::InvalidParameters),
            // An instruction fetch of the secure world from non-secure memory faults by SCR_EL3.SIF.
            (_, instruction::EXECUTE) if sent.permissions & instruction::MASK != instruction::UNSPECIFIED => return Err(Status::Denied),
            (_, instruction::EXECUTE) if !(transaction.terms.execute && transaction.terms.secure) => return Err(Status::Denied),
            (_, instruction) => instruction == instruction::EXECUTE,
        };
        Ok(Permissions { read: true, write: data == data::WRITE, execute })
    }

    /// Gives a borrower access and its description of the memory.
    fn hand_over<M: Machine>(&mut self, machine: &mut M, caller: Party, slot: usize, accepted: &Accepted, to: Address) -> Result<Reply, Status> {
        let transaction = &self.transactions[slot];
        let donated = transaction.kind == Kind::Donate;
        let holding = Holding {
            state: if donated { PageState::Owned } else { PageState::Borrowed },
            permissions: accepted.permissions,
            secure: transaction.terms.secure,
            memory_type: MemoryType::Normal,
        };
        let attributes = if transaction.attributes >> TYPE_SHIFT == 0 { NORMAL_MEMORY } else { transaction.attributes };
        let (reply, transfer) = self.describe(caller, slot, attributes, accepted.access_size, &accepted.entries)?;
        machine.write(to, &self.staging[..reply.fragment as usize]).map_err(|_| Status::Aborted)?;
        ledger::grant(machine, caller.owner, self.runs(slot), holding)?;
        if let Some(borrower) = self.borrowers.get_mut(accepted.link) {
            borrower.retrieved = true;
            borrower.read_only = !accepted.permissions.write;
            borrower.zero_after = accepted.zero_after;
            borrower.transfer = transfer;
        }
        if donated {
            ledger::forget(machine, lender_of(slot), self.runs(slot));
            self.transactions[slot].state = State::Donated;
            self.drop_lists_of_donated(slot, transfer);
        }
        Ok(reply)
    }

    /// FFA_MEM_RETRIEVE_REQ of the normal world's hypervisor: what was sent, and access for nobody.
    fn describe_to_hypervisor<M: Machine>(&mut self, machine: &mut M, caller: Party, slot: usize, to: Address) -> Result<Reply, Status> {
        // It asks about what the normal world sent, before it passes a reclaim on.
        if lender_of(slot) != Owner::NormalWorld {
            return Err(Status::Denied);
        }
        let transaction = &self.transactions[slot];
        let entries: ArrayVec<Access, MAX_BORROWERS> = self
            .borrowers
            .iter(transaction.borrowers)
            .map(|(_, b)| {
                let (endpoint, permissions, implementation_defined) = (b.id, b.permissions, b.implementation_defined);
                Access { endpoint, permissions, flags: 0, composite: 0, implementation_defined }
            })
            .collect();
        let (reply, transfer) = self.describe(caller, slot, transaction.attributes, default_access_size(caller.version), &entries)?;
        machine.write(to, &self.staging[..reply.fragment as usize]).map_err(|_| Status::Aborted)?;
        self.transactions[slot].transfer = transfer;
        Ok(reply)
    }

    /// FFA_MEM_FRAG_RX: the next piece of a description, from `offset` on.
    pub(crate) fn retrieve_more<M: Machine>(
        &mut self,
        machine: &mut M,
        caller: Party,
        handle: u64,
        offset: u32,
        to: Address,
    ) -> Result<Reply, Status> {
        let slot = self.find(handle)?;
        let link = match caller.owner {
            Owner::NormalWorld => None,
            Owner::Partition(_) => Some(self.borrower(slot, caller.id).ok_or(Status::InvalidParameters)?),
        };
        let transfer = link.map_or(self.transactions[slot].transfer, |(_, b)| b.transfer);
        if transfer == Transfer::NONE || offset != transfer.offset() {
            return Err(Status::InvalidParameters);
        }
        let (fragment, transfer) = self.write_ranges(slot, 0, transfer)?;
        machine.write(to, &self.staging[..fragment as usize]).map_err(|_| Status::Aborted)?;
        match link {
            None => self.transactions[slot].transfer = transfer,
            Some((link, _)) => {
                if let Some(borrower) = self.borrowers.get_mut(link) {
                    borrower.transfer = transfer;
                }
            }
        }
        let sender = self.transactions[slot].sender;
        if self.transactions[slot].state == State::Donated {
            self.drop_lists_of_donated(slot, transfer);
        }
        Ok(Reply { total: 0, fragment, sender })
    }

    /// Writes a description, or its first fragment, to the staging area.
    fn describe(&mut self, caller: Party, slot: usize, attributes: u16, access_size: usize, entries: &[Access]) -> Result<(Reply, Transfer), Status> {
        let transaction = &self.transactions[slot];
        let tell_non_secure = !is_v1_0(caller.version) && !transaction.terms.secure;
        let header = Header {
            sender: transaction.sender,
            attributes: attributes | if tell_non_secure { NON_SECURE } else { 0 },
            flags: transaction.kind.flags() | if transaction.zeroed { FLAG_ZERO } else { 0 },
            handle: transaction.handle,
            tag: transaction.tag,
            access_size,
            access_count: entries.len(),
            access_offset: header_size(caller.version),
        };
        let (pages, ranges, sender) = (transaction.pages, transaction.ranges.len(), transaction.sender);
        let at = header.access_end();
        header.write(&mut self.staging, caller.version)?;
        for (n, entry) in entries.iter().enumerate() {
            header.write_access(&mut self.staging, n, &Access { composite: at, ..*entry })?;
        }
        write_composite(&mut self.staging, at, pages, ranges as u32)?;
        let base = at + composite::SIZE;
        let (fragment, transfer) = self.write_ranges(slot, base, Transfer { base: base as u16, ranges: 0 })?;
        Ok((Reply { total: (base + ranges * range::SIZE) as u32, fragment, sender }, transfer))
    }

    /// Writes the ranges that follow those of `transfer` to the staging area from `at` on, as many as there is room for.
    /// Returns where they end, and what is left to send.
    fn write_ranges(&mut self, slot: usize, at: usize, transfer: Transfer) -> Result<(u32, Transfer), Status> {
        let chain = self.transactions[slot].ranges;
        let room = (STAGING - at) / range::SIZE;
        let mut end = at;
        for (_, range) in self.ranges.iter(chain).skip(usize::from(transfer.ranges)).take(room) {
            let run = range.run();
            write_range(&mut self.staging, end, run.start, run.pages as u32)?;
            end += range::SIZE;
        }
        let sent = usize::from(transfer.ranges) + (end - at) / range::SIZE;
        let left = if sent < chain.len() { Transfer { ranges: sent as u16, ..transfer } } else { Transfer::NONE };
        Ok((end as u32, left))
    }

    /// The lists of memory that has a new owner serve only to describe it.
    fn drop_lists_of_donated(&mut self, slot: usize, transfer: Transfer) {
        if transfer == Transfer::NONE {
            self.free_lists(slot);
        }
    }
}

/// Permissions as an access descriptor gives them.
fn encode(permissions: Permissions) -> u8 {
    let data = if permissions.write { data::WRITE } else { data::READ };
    data | if permissions.execute { instruction::EXECUTE } else { instruction::NEVER }
}
