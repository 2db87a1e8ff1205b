//! Indirect messages: FFA_MSG_SEND2 (DEN0077A v1.2 chapters 7 and 15), between partitions and between the worlds.
//!
//! A message travels from the sender's TX buffer to the receiver's RX buffer as it is, header included: the header's offset
//! says where the payload starts, for readers of either version. What was checked of a header is what the receiver gets.
//! Both mailboxes stay locked while bytes move, so that neither buffer becomes somebody else's page meanwhile.

use crate::PartitionIndex;
use crate::calls::{Call, From};
use crate::machine::{Address, Machine};
use crate::mailbox::{BUFFER_SIZE, LockedMailbox, Mailbox};
use crate::notifications::{DELAY, RxFull};
use crate::partition::Methods;
use crate::spmc::{Spmc, UNKNOWN};
use crate::vcpu::VcpuId;
use crate::vms::MAX_VMS;
use bulkhead_ffa::descriptor::message as layout;
use crate::sync::MutexGuard;
use bulkhead_ffa::{EndpointId, Message, Status, Uuid, Version, message};

/// Bytes that are copied at a time.
const CHUNK: usize = 256;

/// A header that was read and checked.
struct Header {
    bytes: [u8; layout::HEADER_SIZE_V1_2],
    /// Bytes of it in the sender's version.
    length: u64,
    /// Where the payload ends.
    end: u64,
    ends: u32,
}

/// Where a message comes from or goes to. Mailboxes are locked in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Partition(PartitionIndex),
    NormalWorld,
    /// A virtual machine, by its place.
    Vm(usize),
}

impl Header {
    fn read<M: Machine>(machine: &mut M, tx: Address, version: Version) -> Result<Self, Status> {
        let mut bytes = [0; layout::HEADER_SIZE_V1_2];
        let length = if version >= Version::V1_2 { layout::HEADER_SIZE_V1_2 } else { layout::HEADER_SIZE_V1_1 };
        machine.read(tx, &mut bytes[..length]).map_err(|_| Status::Aborted)?;
        let field = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let (offset, size) = (u64::from(field(layout::OFFSET)), u64::from(field(layout::SIZE)));
        let (length, end) = (length as u64, offset + size);
        if field(layout::FLAGS) != 0 || offset < length || offset % 4 != 0 || end > BUFFER_SIZE {
            return Err(Status::InvalidParameters);
        }
        Ok(Self { length, end, ends: field(layout::ENDS), bytes })
    }

    /// The service that it is for (v1.2), or nil.
    fn service(&self) -> Uuid {
        let mut uuid = Uuid::NIL;
        if self.length as usize >= layout::HEADER_SIZE_V1_2 {
            uuid.0.copy_from_slice(&self.bytes[layout::UUID..][..16]);
        }
        uuid
    }

    fn sender(&self) -> EndpointId {
        EndpointId((self.ends >> 16) as u16)
    }

    fn receiver(&self) -> EndpointId {
        EndpointId(self.ends as u16)
    }
}

impl Spmc {
    /// FFA_MSG_SEND2.
    pub(crate) fn message_send<M: Machine>(&self, machine: &mut M, call: &Call) -> Result<Message, Status> {
        let version = self.version(call.from);
        if version < Version::V1_1 {
            return Err(UNKNOWN);
        }
        let flags = call.regs.w(2);
        let (named, reserved) = call.sender_receiver();
        // A hypervisor may name one of its machines in w1, and the receiver's scheduler runs at once anyway.
        let allowed = if matches!(call.from, From::Partition(_)) { DELAY } else { 0 };
        if reserved.0 != 0 || flags & !allowed != 0 || named.is_secure() || matches!(call.from, From::Partition(_)) && named.0 != 0 {
            return Err(Status::InvalidParameters);
        }
        let sender = match call.from {
            From::Partition(vcpu) => End::Partition(vcpu.partition),
            From::NormalWorld => self.normal_end(named).ok_or(Status::Denied)?,
        };
        let mailbox = self.mailbox_at(sender).lock();
        // While it is locked the page is the sender's: buffers cannot be given away, only unmapped first.
        let header = Header::read(machine, mailbox.buffers(Status::Denied)?.tx, version)?;
        drop(mailbox);
        let own = if named == EndpointId::HYPERVISOR { self.id(call.from) } else { named };
        if header.sender() != own || header.receiver() == own {
            return Err(Status::InvalidParameters);
        }
        let receiver = self.indirect_receiver(call.from, &header)?;
        self.transfer(machine, [(sender, own), (receiver, header.receiver())], &header)?;
        let kind = if matches!(call.from, From::NormalWorld) { RxFull::FromNormalWorld } else { RxFull::FromPartition };
        let found = if let End::Partition(index) = receiver { self.found(index) } else { None };
        self.signal_rx_full(machine, header.receiver(), found, kind, flags);
        Ok(message::success(&[]))
    }

    /// Whom a message is for, if both sides' manifests allow it.
    fn indirect_receiver(&self, from: From, header: &Header) -> Result<End, Status> {
        let (receiver, service) = (header.receiver(), header.service());
        let sends = match from {
            From::NormalWorld => true,
            From::Partition(vcpu) => self.config_of(vcpu).is_some_and(|c| c.methods.has(Methods::INDIRECT)),
        };
        if !receiver.is_secure() {
            // Messages within the normal world are its hypervisor's.
            let end = if matches!(from, From::Partition(_)) { self.normal_end(receiver) } else { None };
            let end = end.ok_or(Status::InvalidParameters)?;
            return if sends { Ok(end) } else { Err(Status::Denied) };
        }
        let (index, partition, config) = self.find(receiver).ok_or(Status::InvalidParameters)?;
        if !sends || !partition.methods(config.methods).has(Methods::INDIRECT) {
            return Err(Status::Denied);
        }
        if service != Uuid::NIL && !config.services.iter().any(|s| s.uuid == service) {
            return Err(Status::InvalidParameters);
        }
        if partition.has_failed() { Err(Status::Aborted) } else { Ok(End::Partition(index)) }
    }

    /// An endpoint of the normal world, if it has a place for buffers.
    fn normal_end(&self, id: EndpointId) -> Option<End> {
        if id == EndpointId::HYPERVISOR {
            return Some(End::NormalWorld);
        }
        self.vms.iter().position(|vm| vm.is(id)).map(End::Vm)
    }

    fn mailbox_at(&self, end: End) -> &LockedMailbox {
        match end {
            End::Partition(index) => &self.vcpu(VcpuId { partition: index, index: 0 }).0.endpoint.mailbox,
            End::NormalWorld => &self.normal_world.mailbox,
            End::Vm(place) => &self.vms[place % MAX_VMS].mailbox,
        }
    }

    /// Copies a message from the first end to the second, and gives the receiver its RX buffer.
    fn transfer<M: Machine>(&self, machine: &mut M, ends: [(End, EndpointId); 2], header: &Header) -> Result<(), Status> {
        let [(from, _), (to, _)] = ends;
        let (sender, mut receiver) = lock_both(self.mailbox_at(from), self.mailbox_at(to), from < to);
        // A virtual machine may have lost its place meanwhile, and another got it.
        if ends.iter().any(|(end, id)| matches!(end, End::Vm(place) if !self.vms[place % MAX_VMS].is(*id))) {
            return Err(Status::InvalidParameters);
        }
        let tx = sender.buffers(Status::Denied)?.tx;
        let rx = receiver.free_rx()?;
        machine.write(rx, &header.bytes[..header.length as usize]).map_err(|_| Status::Aborted)?;
        let mut at = header.length;
        let mut chunk = [0; CHUNK];
        while at < header.end {
            let bytes = &mut chunk[..CHUNK.min((header.end - at) as usize)];
            machine.read(Address { pa: tx.pa + at, ..tx }, bytes).map_err(|_| Status::Aborted)?;
            machine.write(Address { pa: rx.pa + at, ..rx }, bytes).map_err(|_| Status::Aborted)?;
            at += bytes.len() as u64;
        }
        receiver.give();
        Ok(())
    }
}

fn lock_both<'a>(sender: &'a LockedMailbox, receiver: &'a LockedMailbox, sender_first: bool) -> (MutexGuard<'a, Mailbox>, MutexGuard<'a, Mailbox>) {
    if sender_first {
        let sender = sender.lock();
        (sender, receiver.lock())
    } else {
        let receiver = receiver.lock();
        (sender.lock(), receiver)
    }
}
