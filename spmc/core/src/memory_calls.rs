//! The memory management calls (DEN0140 v1.2 chapter 2): registers and buffers in, registers out.
//!
//! Descriptors travel in the RX and TX buffers only (address and page count in w3 and w4 are zero). A caller's mailbox is
//! locked before the memory is, so that its buffers stay where they are meanwhile.

use crate::calls::{Call, From};
use crate::machine::Machine;
use crate::mailbox::Buffers;
use crate::memory::{Kind, MemoryManager, Party, Pinned, Progress, Reply, Sending};
use crate::spmc::Spmc;
use crate::vms::VM_PAGES;
use bulkhead_ffa::{EndpointId, Message, Status, function, message};
use crate::sync::MutexGuard;

/// The handle in w1 and w2.
fn handle_of(call: &Call) -> u64 {
    u64::from(call.regs.w(1)) | u64::from(call.regs.w(2)) << 32
}

/// Low and high half of a handle, as registers.
fn halves(handle: u64) -> [u64; 2] {
    [handle & 0xffff_ffff, handle >> 32]
}

impl Spmc {
    /// The caller, as the memory manager knows it.
    fn party(&self, call: &Call) -> Party {
        Party { owner: call.from.owner(), id: self.id(call.from), version: self.version(call.from) }
    }

    /// Locks the memory for a caller. One that has failed meanwhile on another core has been cleaned up after, and must not
    /// start anew.
    fn lock_memory(&self, call: &Call) -> Result<MutexGuard<'_, MemoryManager>, Status> {
        let memory = self.memory.lock();
        match call.from {
            From::Partition(vcpu) if self.vcpu(vcpu).0.has_failed() => Err(Status::Aborted),
            _ => Ok(memory),
        }
    }

    /// The pages that the caller may not give away: its own buffers, and for the normal world those of its virtual machines.
    /// Asked for under the memory lock.
    fn pinned(&self, call: &Call, own: &Buffers) -> Pinned {
        let vms = if matches!(call.from, From::NormalWorld) { self.vm_pages() } else { [0; VM_PAGES] };
        [own.tx.pa, own.rx.pa].into_iter().chain(vms.into_iter().filter(|page| *page != 0)).collect()
    }

    /// A piece of a descriptor that is in the caller's TX buffer.
    fn sending(&self, call: &Call, own: &Buffers, kind: Kind, total: u32, fragment: u32) -> Sending {
        Sending { sender: self.party(call), kind, total, fragment, from: own.tx, pinned: self.pinned(call, own) }
    }

    /// FFA_MEM_SHARE, FFA_MEM_LEND and FFA_MEM_DONATE.
    pub(crate) fn memory_send<M: Machine>(&self, machine: &mut M, call: &Call) -> Result<Message, Status> {
        let kind = match call.function() {
            function::MEM_SHARE_32 | function::MEM_SHARE_64 => Kind::Share,
            function::MEM_LEND_32 | function::MEM_LEND_64 => Kind::Lend,
            _ => Kind::Donate,
        };
        call.zero(3..=4)?;
        let mailbox = self.endpoint(call.from).mailbox.lock();
        let buffers = mailbox.buffers(Status::InvalidParameters)?;
        let mut memory = self.lock_memory(call)?;
        let sending = self.sending(call, &buffers, kind, call.regs.w(1), call.regs.w(2));
        let progress = memory.send(machine, &sending, |id| self.borrower(id))?;
        Ok(self.progress(progress))
    }

    /// The partition that a descriptor names.
    fn borrower(&self, id: EndpointId) -> Result<u8, Status> {
        match self.find(id) {
            Some((_, partition, _)) if partition.has_failed() => Err(Status::Aborted),
            Some((index, _, _)) => Ok(index),
            None => Err(Status::InvalidParameters),
        }
    }

    fn progress(&self, progress: Progress) -> Message {
        match progress {
            Progress::Complete(handle) => message::success(&halves(handle)),
            Progress::More(handle, offset, sender) => {
                let [low, high] = halves(handle);
                message::new(&[u64::from(function::MEM_FRAG_RX), low, high, u64::from(offset), u64::from(sender.0) << 16])
            }
        }
    }

    /// FFA_MEM_FRAG_TX: a further piece of a descriptor.
    pub(crate) fn memory_fragment_tx<M: Machine>(&self, machine: &mut M, call: &Call) -> Result<Message, Status> {
        let mailbox = self.endpoint(call.from).mailbox.lock();
        let buffers = mailbox.buffers(Status::InvalidParameters)?;
        if call.regs.w(4) & 0xffff != 0 {
            return Err(Status::InvalidParameters);
        }
        let named_sender = (call.regs.w(4) >> 16) as u16;
        let mut memory = self.lock_memory(call)?;
        // The first piece said which kind, and how long the whole is.
        let sending = self.sending(call, &buffers, Kind::Share, 0, call.regs.w(3));
        let progress = memory.send_more(machine, &sending, handle_of(call), named_sender)?;
        Ok(self.progress(progress))
    }

    /// FFA_MEM_RETRIEVE_REQ.
    pub(crate) fn memory_retrieve<M: Machine>(&self, machine: &mut M, call: &Call) -> Result<Message, Status> {
        call.zero(3..=4)?;
        // A request is short enough for one fragment.
        let (total, fragment) = (call.regs.w(1), call.regs.w(2));
        if total != fragment {
            return Err(Status::InvalidParameters);
        }
        let mut mailbox = self.endpoint(call.from).mailbox.lock();
        let tx = mailbox.buffers(Status::InvalidParameters)?.tx;
        let rx = mailbox.free_rx()?;
        let reply = self.lock_memory(call)?.retrieve(machine, self.party(call), tx, fragment, rx)?;
        mailbox.give_description();
        Ok(message::new(&[u64::from(function::MEM_RETRIEVE_RESP), u64::from(reply.total), u64::from(reply.fragment)]))
    }

    /// FFA_MEM_FRAG_RX: the next piece of a description.
    pub(crate) fn memory_fragment_rx<M: Machine>(&self, machine: &mut M, call: &Call) -> Result<Message, Status> {
        let mut mailbox = self.endpoint(call.from).mailbox.lock();
        mailbox.buffers(Status::InvalidParameters)?;
        let rx = match call.from {
            From::Partition(_) => {
                call.zero(4..=4)?;
                mailbox.free_rx()?
            }
            // The normal world's hypervisor may name the endpoint that it asks for. Those there are (TF-A-Tests') do not release
            // the buffer before they ask for more.
            From::NormalWorld => mailbox.rx_for_more()?,
        };
        let handle = handle_of(call);
        let Reply { fragment, sender, .. } = self.lock_memory(call)?.retrieve_more(machine, self.party(call), handle, call.regs.w(3), rx)?;
        mailbox.give_description();
        let named = if matches!(call.from, From::NormalWorld) { u64::from(sender.0) << 16 } else { 0 };
        let [low, high] = halves(handle);
        Ok(message::new(&[u64::from(function::MEM_FRAG_TX), low, high, u64::from(fragment), named]))
    }

    /// FFA_MEM_RELINQUISH.
    pub(crate) fn memory_relinquish<M: Machine>(&self, machine: &mut M, call: &Call) -> Result<Message, Status> {
        let mailbox = self.endpoint(call.from).mailbox.lock();
        let tx = mailbox.buffers(Status::InvalidParameters)?.tx;
        self.lock_memory(call)?.relinquish(machine, self.party(call), tx)?;
        Ok(message::success(&[]))
    }

    /// FFA_MEM_RECLAIM.
    pub(crate) fn memory_reclaim<M: Machine>(&self, machine: &mut M, call: &Call) -> Result<Message, Status> {
        self.lock_memory(call)?.reclaim(machine, self.party(call), handle_of(call), call.regs.w(3))?;
        Ok(message::success(&[]))
    }

    /// What a failed partition had borrowed is taken from it, and what it had lent returns as its borrowers let go.
    pub(crate) fn memory_after_failure<M: Machine>(&self, machine: &mut M, partition: u8) {
        self.memory.lock().clean_up_after(machine, partition);
    }
}
