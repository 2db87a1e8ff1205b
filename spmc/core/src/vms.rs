//! RX/TX buffers of the normal world's virtual machines, which its hypervisor maps and speaks for (DEN0077A v1.2
//! sections 7.2.2 and 13.6: FFA_RXTX_MAP that names no address).
//!
//! Invariants: places are taken and freed under the lock of the hypervisor's own mailbox; `pages` changes under the memory
//! lock, so that a memory transaction sees which pages of the normal world it may not have.

use crate::machine::{Address, Machine};
use crate::mailbox::{BUFFER_SIZE, Buffers, LockedMailbox, Mailbox, place};
use crate::memory::Owner;
use crate::spmc::Spmc;
use bulkhead_ffa::descriptor::{composite, endpoint_buffers, range};
use bulkhead_ffa::{EndpointId, Message, Status, message};
use crate::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use crate::sync::MutexGuard;

/// Virtual machines with buffers, at the most.
pub const MAX_VMS: usize = 4;
/// Pages of their buffers.
pub const VM_PAGES: usize = 2 * MAX_VMS;

/// One virtual machine, or a free place.
pub struct Vm {
    /// Its identity; 0 for a free place.
    id: AtomicU16,
    /// Its buffers.
    pub mailbox: LockedMailbox,
    /// The pages of its buffers; 0 for none.
    pages: [AtomicU64; 2],
}

impl Vm {
    /// A free place.
    pub const fn new() -> Self {
        Self { id: AtomicU16::new(0), mailbox: LockedMailbox::new(), pages: [const { AtomicU64::new(0) }; 2] }
    }

    /// Whether the place is `id`'s. It stays so while the mailbox is locked and mapped.
    pub fn is(&self, id: EndpointId) -> bool {
        self.id.load(Ordering::Acquire) == id.0
    }

    fn set_pages(&self, pages: [u64; 2]) {
        for (place, page) in self.pages.iter().zip(pages) {
            place.store(page, Ordering::Relaxed);
        }
    }
}

/// An Endpoint RX/TX descriptor: whose buffers, and where they are.
struct Descriptor {
    id: EndpointId,
    rx: u64,
    tx: u64,
}

impl Descriptor {
    fn read<M: Machine>(machine: &mut M, from: Address) -> Result<Self, Status> {
        let mut head = [0; endpoint_buffers::SIZE];
        machine.read(from, &mut head).map_err(|_| Status::Aborted)?;
        let word = |bytes: &[u8], at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        const PLACE_SIZE: usize = composite::SIZE + range::SIZE;
        let offsets = [endpoint_buffers::RX_OFFSET, endpoint_buffers::TX_OFFSET].map(|at| word(&head, at));
        // What overlaps would be read, and believed, twice.
        let apart = |a: u32, b: u32| a.abs_diff(b) as usize >= PLACE_SIZE;
        if offsets.iter().any(|offset| (*offset as usize) < endpoint_buffers::SIZE) || !apart(offsets[0], offsets[1]) {
            return Err(Status::InvalidParameters);
        }
        let mut one_page = |offset: u32| {
            let mut bytes = [0; PLACE_SIZE];
            if !offset.is_multiple_of(8) || u64::from(offset) + bytes.len() as u64 > BUFFER_SIZE {
                return Err(Status::InvalidParameters);
            }
            machine.read(Address { pa: from.pa + u64::from(offset), ..from }, &mut bytes).map_err(|_| Status::Aborted)?;
            let (composite, range) = bytes.split_at(composite::SIZE);
            let pages = [word(composite, composite::PAGE_COUNT), word(composite, composite::RANGE_COUNT), word(range, range::PAGE_COUNT)];
            let address = u64::from(word(range, range::ADDRESS)) | u64::from(word(range, range::ADDRESS + 4)) << 32;
            if pages == [1; 3] { Ok(address) } else { Err(Status::InvalidParameters) }
        };
        let (rx, tx) = (one_page(offsets[0])?, one_page(offsets[1])?);
        Ok(Self { id: EndpointId(word(&head, endpoint_buffers::ID) as u16), rx, tx })
    }
}

impl Spmc {
    /// FFA_RXTX_MAP of a hypervisor for one of its virtual machines: the description is in its TX buffer.
    pub(crate) fn map_for_vm<M: Machine>(&self, machine: &mut M) -> Result<Message, Status> {
        let hypervisor = self.normal_world.mailbox.lock();
        let own = hypervisor.buffers(Status::InvalidParameters)?;
        let wanted = Descriptor::read(machine, own.tx)?;
        if wanted.id.is_secure() || wanted.id == EndpointId::HYPERVISOR || wanted.rx == wanted.tx {
            return Err(Status::InvalidParameters);
        }
        if self.vms.iter().any(|vm| vm.is(wanted.id)) {
            return Err(Status::Denied);
        }
        let free = self.vms.iter().find(|vm| vm.is(EndpointId(0))).ok_or(Status::NoMemory)?;
        let mut mailbox = free.mailbox.lock();
        let _memory = self.memory.lock();
        let pages = [wanted.rx, wanted.tx];
        if pages.iter().any(|page| hypervisor.holds(*page) || self.vm_pages().contains(page)) {
            return Err(Status::Denied);
        }
        let [rx, tx] = [(wanted.rx, false), (wanted.tx, true)].map(|(page, writes)| place(machine, Owner::NormalWorld, page, writes));
        mailbox.map(Buffers { rx: rx?, tx: tx? });
        free.set_pages(pages);
        free.id.store(wanted.id.0, Ordering::Release);
        Ok(message::success(&[]))
    }

    /// FFA_RXTX_UNMAP of a hypervisor for one of its virtual machines.
    pub(crate) fn unmap_for_vm(&self, id: EndpointId) -> Result<Message, Status> {
        let _hypervisor = self.normal_world.mailbox.lock();
        let (vm, mut mailbox) = self.vm_mailbox(id).ok_or(Status::InvalidParameters)?;
        let _memory = self.memory.lock();
        vm.set_pages([0; 2]);
        mailbox.unmap();
        vm.id.store(0, Ordering::Release);
        Ok(message::success(&[]))
    }

    /// The buffers of a virtual machine, if its hypervisor has mapped any.
    pub(crate) fn vm_mailbox(&self, id: EndpointId) -> Option<(&Vm, MutexGuard<'_, Mailbox>)> {
        let vm = self.vms.iter().find(|vm| id != EndpointId::HYPERVISOR && vm.is(id))?;
        let mailbox = vm.mailbox.lock();
        // It may have lost its place before the lock was had.
        vm.is(id).then_some((vm, mailbox))
    }

    /// The pages of all virtual machines' buffers; 0 where there is none. To be asked for under the memory lock.
    pub(crate) fn vm_pages(&self) -> [u64; VM_PAGES] {
        core::array::from_fn(|n| self.vms[n / 2].pages[n % 2].load(Ordering::Relaxed))
    }
}
