//! FFA_MEM_RETRIEVE_REQ, its answer, and FFA_MEM_FRAG_RX (DEN0140 v1.2 sections 2.4, 2.5 and 2.8).
//!
//! A borrower has access when its request is answered, also where the description takes several fragments.

use super::layout::{Access, Header, data, default_access_size, header_size, instruction, is_v1_0, range_words, write_composite};
use super::pool::Link;
use super::staging::Fields;
use super::send::{ATTRIBUTES, NORMAL_MEMORY, TYPE_SHIFT, check_attributes};
use super::transaction::{Borrower, FLAG_ZERO, FLAGS_KIND, Kind, State, Traits, Transfer, lender_of};
use super::{Holding, MemoryManager, MemoryType, Owner, PageState, Party, ledger};
use crate::machine::{Address, Machine, Permissions};
use crate::tables::PAGE;
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
    /// The borrower, as the lender named it.
    sent: Borrower,
    access_size: usize,
    permissions: Permissions,
    zero_after: bool,
}

impl MemoryManager {
    /// A request of `len` bytes in the TX buffer `from`; the answer goes to the RX buffer `to`.
    pub(crate) fn retrieve<M: Machine>(&mut self, machine: &mut M, caller: Party, from: Address, len: u32, to: Address) -> Result<Reply, Status> {
        self.copy_in(machine, from, len)?;
        let header = Header::parse(self.staging.fields(len as usize), caller.version)?;
        // A borrower's request ends with its access descriptors.
        if header.access_count != 0 && len as usize != header.access_end() {
            return Err(Status::InvalidParameters);
        }
        let slot = self.find(header.handle)?;
        match self.transactions[slot].state {
            State::Live => {}
            State::Free | State::Sending => return Err(Status::InvalidParameters),
            State::Donated | State::Orphaned => return Err(Status::Denied),
        }
        match (caller.owner, header.access_count) {
            (Owner::NormalWorld, 0) => self.describe_to_hypervisor(machine, caller, slot, to),
            (Owner::Partition(_), 0) => Err(Status::InvalidParameters),
            _ => {
                let accepted = self.accept(&header, caller, slot, len as usize)?;
                self.hand_over(machine, caller, slot, &accepted, to)
            }
        }
    }

    /// The borrower in whose name `caller` asks: itself, or the one virtual machine that a hypervisor's request names.
    fn asker(&self, header: &Header, caller: Party, slot: usize, fields: Fields<'_>) -> Result<(Link, Borrower), Status> {
        let id = match caller.owner {
            Owner::Partition(_) => caller.id,
            Owner::NormalWorld => {
                let mut machines = header.accesses(fields).flatten().filter(|entry| !entry.endpoint.is_secure());
                let only = machines.next().filter(|_| machines.next().is_none());
                only.ok_or(Status::Denied)?.endpoint
            }
        };
        self.borrower(slot, id).ok_or(Status::Denied)
    }

    /// Checks a borrower's request against what the lender sent.
    fn accept(&self, header: &Header, caller: Party, slot: usize, len: usize) -> Result<Accepted, Status> {
        let transaction = &self.transactions[slot];
        let fields = self.staging.fields(len);
        for entry in header.accesses(fields) {
            // Bulkhead places the memory: its address is the same everywhere.
            if entry?.composite != 0 {
                return Err(Status::InvalidParameters);
            }
        }
        let (link, sent) = self.asker(header, caller, slot, fields)?;
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
        if header.access_count != expected {
            return Err(Status::InvalidParameters);
        }
        let both_wide = transaction.traits.has(Traits::WIDE) && header.access_size == access::SIZE_V1_2;
        let mut permissions = None;
        for entry in header.accesses(fields) {
            let entry = entry?;
            let (_, other) = self.borrower(slot, entry.endpoint).ok_or(Status::InvalidParameters)?;
            if both_wide && self.words(slot, &other) != entry.words {
                return Err(Status::InvalidParameters);
            }
            let granted = self.access(slot, &other, entry.permissions, is_v1_0(caller.version))?;
            if entry.endpoint == sent.id && !entry.not_for_it {
                permissions = Some(granted);
            }
        }
        let permissions = permissions.ok_or(Status::InvalidParameters)?;
        // A borrower may leave the type to the lender and the SPMC.
        match header.attributes >> TYPE_SHIFT {
            0 if header.attributes & !ATTRIBUTES == 0 => {}
            _ => check_attributes(header.attributes)?,
        }
        let already_zero = transaction.traits.has(Traits::ZEROED) || zero_flags & FLAG_ZERO == 0;
        if sent.retrieved || !already_zero || zero_flags != 0 && !permissions.write {
            return Err(Status::Denied);
        }
        let zero_after = zero_flags & FLAG_ZERO_AFTER != 0;
        Ok(Accepted { link, sent, access_size: header.access_size, permissions, zero_after })
    }

    fn check_alignment(&self, flags: u32, slot: usize) -> Result<(), Status> {
        let hint = flags >> HINT_SHIFT & HINT_MASK;
        if flags & FLAG_HINT == 0 {
            return if hint == 0 { Ok(()) } else { Err(Status::InvalidParameters) };
        }
        let aligned = self.runs(slot).next().is_some_and(|run| run.start % (PAGE << hint) == 0);
        if aligned { Ok(()) } else { Err(Status::Denied) }
    }

    /// The access that a borrower gets when it asks for `wanted`. At v1.0 it need not say whether it executes what it alone has.
    fn access(&self, slot: usize, sent: &Borrower, wanted: u8, v1_0: bool) -> Result<Permissions, Status> {
        let transaction = &self.transactions[slot];
        let limit = match sent.permissions & data::MASK {
            data::UNSPECIFIED if transaction.traits.has(Traits::WRITE) => data::WRITE,
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
            (_, instruction::UNSPECIFIED) if several || v1_0 => false,
            (_, instruction::UNSPECIFIED) => return Err(Status::InvalidParameters),
            (_, _) if several => return Err(Status::InvalidParameters),
            // An instruction fetch of the secure world from non-secure memory faults by SCR_EL3.SIF.
            (_, instruction::EXECUTE) if !(transaction.traits.has(Traits::EXECUTE) && transaction.traits.has(Traits::SECURE)) => {
                return Err(Status::Denied);
            }
            (_, instruction) => instruction == instruction::EXECUTE,
        };
        Ok(Permissions { read: true, write: data == data::WRITE, execute })
    }

    /// Gives a borrower access and its description of the memory.
    fn hand_over<M: Machine>(&mut self, machine: &mut M, caller: Party, slot: usize, accepted: &Accepted, to: Address) -> Result<Reply, Status> {
        let transaction = &self.transactions[slot];
        let donated = transaction.kind == Kind::Donate;
        let holding = Holding {
            state: PageState::Borrowed,
            permissions: accepted.permissions,
            secure: transaction.traits.has(Traits::SECURE),
            memory_type: MemoryType::Normal,
        };
        let sender = transaction.sender;
        let base = self.describe(caller, slot, NORMAL_MEMORY, accepted.access_size, 1)?;
        let (sent, words) = (&accepted.sent, self.words(slot, &accepted.sent));
        let entry = Access { endpoint: sent.id, permissions: encode(accepted.permissions), not_for_it: false, composite: base - composite::SIZE, words };
        Header::write_access(&mut self.staging, header_size(caller.version), accepted.access_size, &entry)?;
        let (reply, transfer) = self.first_ranges(slot, base, sender)?;
        self.copy_out(machine, to, reply.fragment)?;
        if let Owner::Partition(_) = caller.owner {
            let mut result = Err(Status::Aborted);
            machine.holdings(caller.owner, &mut |borrower| {
                result = ledger::grant(borrower, self.runs(slot), holding);
                if donated && result.is_ok() {
                    ledger::take_back(borrower, self.runs(slot));
                }
            });
            result?;
        }
        if let Some(borrower) = self.borrowers.get_mut(accepted.link) {
            borrower.retrieved = true;
            borrower.read_only = !accepted.permissions.write;
            borrower.zero_after = accepted.zero_after;
            borrower.transfer = transfer;
        }
        self.transactions[slot].retrieved += 1;
        if donated {
            machine.holdings(lender_of(slot), &mut |lender| ledger::forget(lender, self.runs(slot), usize::MAX, holding.secure));
            self.make_idle(slot, State::Donated);
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
        let (chain, sender, attributes) = (transaction.borrowers, transaction.sender, u16::from(transaction.attributes));
        let size = default_access_size(caller.version);
        let base = self.describe(caller, slot, attributes, size, chain.len())?;
        for (n, (_, sent)) in self.borrowers.iter(chain).enumerate() {
            let words = self.words(slot, &sent);
            let entry = Access { endpoint: sent.id, permissions: sent.permissions, not_for_it: false, composite: base - composite::SIZE, words };
            Header::write_access(&mut self.staging, header_size(caller.version) + n * size, size, &entry)?;
        }
        let (reply, transfer) = self.first_ranges(slot, base, sender)?;
        self.copy_out(machine, to, reply.fragment)?;
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
        // A hypervisor goes on with its own request first, then with a virtual machine's.
        let for_itself = caller.owner == Owner::NormalWorld && self.transactions[slot].transfer != Transfer::NONE;
        let link = if for_itself { None } else { Some(self.transferring(slot, caller)?) };
        let transfer = link.map_or(self.transactions[slot].transfer, |(_, b)| b.transfer);
        if transfer == Transfer::NONE || offset != transfer.offset() {
            return Err(Status::InvalidParameters);
        }
        let (fragment, transfer) = self.write_ranges(slot, 0, transfer)?;
        self.copy_out(machine, to, fragment)?;
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

    /// The borrower of `caller` to which a description is being sent.
    fn transferring(&self, slot: usize, caller: Party) -> Result<(Link, Borrower), Status> {
        let asks = |b: &Borrower| match caller.owner {
            Owner::Partition(_) => b.id == caller.id,
            Owner::NormalWorld => b.partition == Borrower::VIRTUAL_MACHINE && b.transfer != Transfer::NONE,
        };
        self.borrowers.iter(self.transactions[slot].borrowers).find(|(_, b)| asks(b)).ok_or(Status::InvalidParameters)
    }

    /// Writes a description up to the ranges, but for its access descriptors, to the staging area. Returns the offset of the
    /// ranges.
    fn describe(&mut self, caller: Party, slot: usize, attributes: u16, access_size: usize, access_count: usize) -> Result<usize, Status> {
        let transaction = &self.transactions[slot];
        let tell_non_secure = !is_v1_0(caller.version) && !transaction.traits.has(Traits::SECURE);
        let header = Header {
            sender: transaction.sender,
            attributes: attributes | if tell_non_secure { NON_SECURE } else { 0 },
            flags: transaction.kind.flags() | if transaction.traits.has(Traits::ZEROED) { FLAG_ZERO } else { 0 },
            handle: self.handle(slot),
            tag: transaction.tag,
            access_size,
            access_count,
            access_offset: header_size(caller.version),
        };
        let (pages, ranges, at) = (u32::from(transaction.pages), transaction.ranges() as u32, header.access_end());
        header.write(&mut self.staging, caller.version)?;
        write_composite(&mut self.staging, at, pages, ranges)?;
        Ok(at + composite::SIZE)
    }

    /// Writes the ranges that have room behind the rest of a description.
    fn first_ranges(&mut self, slot: usize, base: usize, sender: bulkhead_ffa::EndpointId) -> Result<(Reply, Transfer), Status> {
        let total = base + self.transactions[slot].ranges() * range::SIZE;
        let (fragment, transfer) = self.write_ranges(slot, base, Transfer { base: base as u16, ranges: 0 })?;
        Ok((Reply { total: total as u32, fragment, sender }, transfer))
    }

    /// Writes the ranges that follow those of `transfer` to the staging area from `at` on, as many as there is room for.
    /// Returns where they end, and what is left to send.
    fn write_ranges(&mut self, slot: usize, at: usize, transfer: Transfer) -> Result<(u32, Transfer), Status> {
        let transaction = &self.transactions[slot];
        let first = usize::from(transfer.ranges);
        let mut cells = self.cells.iter_from(transaction.cells, transaction.word_cells() + first);
        let mut count = 0;
        for (place, (_, cell)) in self.staging.ranges_mut(at).iter_mut().zip(&mut cells) {
            let run = cell.run();
            *place = range_words(run.start, run.pages);
            count += 1;
        }
        let sent = first + count;
        let left = if sent < transaction.ranges() { Transfer { ranges: sent as u16, ..transfer } } else { Transfer::NONE };
        Ok(((at + count * range::SIZE) as u32, left))
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
