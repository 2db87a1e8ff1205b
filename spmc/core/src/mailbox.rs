//! RX/TX buffers: FFA_RXTX_MAP, FFA_RXTX_UNMAP, FFA_RX_RELEASE, FFA_RX_ACQUIRE (DEN0077A v1.2 sections 13.5 to 13.7).
//!
//! Invariant: the SPMC writes the RX buffer only while it owns it (`!full`), and gives it to the endpoint with the write.

use crate::calls::{Call, From};
use crate::machine::{Address, Machine};
use crate::memory::Owner;
use crate::spmc::Spmc;
use bulkhead_ffa::{EndpointId, Message, Status, Version, function, message};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, MutexGuard};

/// Bytes of each buffer: one page is the minimum, the maximum and the alignment that FFA_FEATURES reports.
pub const BUFFER_SIZE: u64 = 4096;

/// An endpoint's buffer pair.
pub struct Mailbox {
    /// Valid while `mapped`. Not an option, so that an empty mailbox is all zero bits (see [`Spmc`]).
    buffers: Buffers,
    mapped: bool,
    full: bool,
    /// What the RX buffer holds is a piece of a memory transaction's description.
    describes: bool,
}

/// A mailbox behind its lock.
pub struct LockedMailbox {
    mailbox: Mutex<Mailbox>,
    /// Somebody has had the lock since the endpoint last gave its RX buffer back by waiting: it may be full.
    touched: AtomicBool,
}

impl LockedMailbox {
    /// No buffers.
    pub const fn new() -> Self {
        Self { mailbox: Mutex::new(Mailbox::new()), touched: AtomicBool::new(false) }
    }

    /// Waits for the lock.
    pub fn lock(&self) -> MutexGuard<'_, Mailbox> {
        let mailbox = self.mailbox.lock();
        self.touched.store(true, Ordering::Relaxed);
        mailbox
    }

    /// FFA_MSG_WAIT's implicit release. Where nothing has come, the vCPUs of a partition do not meet at the lock.
    #[inline]
    pub fn release(&self) {
        if self.touched.load(Ordering::Relaxed) {
            self.release_touched();
        }
    }

    #[inline(never)]
    fn release_touched(&self) {
        let mut mailbox = self.mailbox.lock();
        self.touched.store(false, Ordering::Relaxed);
        mailbox.release();
    }

    /// Whether nobody has the lock.
    #[cfg(test)]
    pub(crate) fn is_free(&self) -> bool {
        self.mailbox.try_lock().is_some()
    }
}

/// Where the buffers are.
#[derive(Clone, Copy)]
pub struct Buffers {
    /// Read by the endpoint.
    pub rx: Address,
    /// Written by the endpoint.
    pub tx: Address,
}

impl Mailbox {
    /// No buffers.
    pub(crate) const fn new() -> Self {
        let nowhere = Address { pa: 0, secure: false };
        Self { buffers: Buffers { rx: nowhere, tx: nowhere }, mapped: false, full: false, describes: false }
    }

    fn pair(&self) -> Option<Buffers> {
        self.mapped.then_some(self.buffers)
    }

    /// The buffers.
    ///
    /// # Errors
    /// `missing` when none are mapped.
    pub fn buffers(&self, missing: Status) -> Result<Buffers, Status> {
        self.pair().ok_or(missing)
    }

    /// The RX buffer, for the SPMC to write.
    ///
    /// # Errors
    /// BUSY when the endpoint still owns it or has none.
    pub fn free_rx(&self) -> Result<Address, Status> {
        match self.pair() {
            Some(buffers) if !self.full => Ok(buffers.rx),
            _ => Err(Status::Busy),
        }
    }

    /// The RX buffer, for the next piece of a description: asking for that gives the one before back.
    ///
    /// # Errors
    /// As [`Self::free_rx`].
    pub fn rx_for_more(&self) -> Result<Address, Status> {
        match self.pair() {
            Some(buffers) if self.describes => Ok(buffers.rx),
            _ => self.free_rx(),
        }
    }

    /// Gives the RX buffer to the endpoint.
    pub fn give(&mut self) {
        (self.full, self.describes) = (true, false);
    }

    /// The same with a piece of a description in it.
    pub fn give_description(&mut self) {
        (self.full, self.describes) = (true, true);
    }

    /// Whether the endpoint owns a full RX buffer.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Takes the RX buffer back, if the endpoint has it: FFA_MSG_WAIT's implicit release.
    pub fn release(&mut self) {
        self.full = false;
    }

    /// Takes `buffers` as the endpoint's: by its own call, or before its first because its manifest says so (`rx_tx-info`).
    pub fn map(&mut self, buffers: Buffers) {
        (self.buffers, self.mapped, self.full) = (buffers, true, false);
    }

    /// Forgets the buffers; whether there were any.
    pub fn unmap(&mut self) -> bool {
        self.full = false;
        core::mem::take(&mut self.mapped)
    }

    /// Whether `page` is one of the buffers.
    pub fn holds(&self, page: u64) -> bool {
        self.pair().is_some_and(|b| b.rx.pa == page || b.tx.pa == page)
    }
}

impl Spmc {
    pub(crate) fn rxtx_map<M: Machine>(&self, machine: &mut M, call: &Call) -> Result<Message, Status> {
        let wide = function::is_64_bit(call.function());
        let [tx, rx] = [1, 2].map(|n| if wide { call.regs.0[n] } else { u64::from(call.regs.w(n)) });
        let pages = call.regs.w(3);
        if matches!(call.from, From::NormalWorld) && tx == 0 && rx == 0 && pages == 0 {
            return self.map_for_vm(machine);
        }
        // Bits 31..6 must be zero; one page is all there is (FFA_FEATURES says so).
        if pages != 1 || (tx | rx) % BUFFER_SIZE != 0 || tx == rx {
            return Err(Status::InvalidParameters);
        }
        let endpoint = self.endpoint(call.from);
        let mut mailbox = endpoint.mailbox.lock();
        if mailbox.mapped {
            return Err(Status::Denied);
        }
        // Keeps memory transactions from moving the pages between the check and the registration.
        let _memory = self.memory.lock();
        let owner = call.from.owner();
        if owner == Owner::NormalWorld && self.vm_pages().iter().any(|page| [rx, tx].contains(page)) {
            return Err(Status::Denied);
        }
        mailbox.map(Buffers { rx: place(machine, owner, rx, false)?, tx: place(machine, owner, tx, true)? });
        Ok(message::success(&[]))
    }

    pub(crate) fn rxtx_unmap(&self, call: &Call) -> Result<Message, Status> {
        // w1 bits 31..16 name the endpoint only for a hypervisor that acts for a VM; every other caller leaves it zero.
        let id = EndpointId((call.regs.w(1) >> 16) as u16);
        if id != EndpointId::HYPERVISOR && matches!(call.from, From::NormalWorld) {
            return self.unmap_for_vm(id);
        }
        if self.mailbox_of(call.from, id)?.unmap() {
            // Firmware that hands over to an operating system gives its buffers back. A version stands for the lifetime of the calling
            // component (section 13.2), and the next one may speak another: U-Boot 1.0, Linux 1.2.
            if matches!(call.from, From::NormalWorld) {
                self.normal_world.spoken.unlock();
            }
            Ok(message::success(&[]))
        } else {
            Err(Status::InvalidParameters)
        }
    }

    pub(crate) fn rx_release(&self, call: &Call) -> Result<Message, Status> {
        let mut mailbox = self.mailbox_of(call.from, EndpointId(call.regs.w(1) as u16))?;
        if !mailbox.full {
            return Err(Status::Denied);
        }
        mailbox.full = false;
        Ok(message::success(&[]))
    }

    pub(crate) fn rx_acquire(&self, call: &Call) -> Result<Message, Status> {
        if !matches!(call.from, From::NormalWorld) || self.version(call.from) < Version::V1_1 {
            return Err(Status::NotSupported);
        }
        let mut mailbox = self.mailbox_of(call.from, EndpointId(call.regs.w(1) as u16))?;
        mailbox.buffers(Status::InvalidParameters)?;
        if mailbox.full {
            return Err(Status::Denied);
        }
        // The SPMC writes it again after FFA_RX_RELEASE.
        mailbox.give();
        Ok(message::success(&[]))
    }

    /// Whose buffers a caller means by `id`: zero for its own; only a hypervisor names another than itself.
    ///
    /// # Errors
    /// INVALID_PARAMETERS when they are not there, or not the caller's.
    pub(crate) fn mailbox_of(&self, from: From, id: EndpointId) -> Result<MutexGuard<'_, Mailbox>, Status> {
        if id == EndpointId::HYPERVISOR || id == self.id(from) {
            return Ok(self.endpoint(from).mailbox.lock());
        }
        match from {
            From::NormalWorld => self.vm_mailbox(id).map(|(_, mailbox)| mailbox).ok_or(Status::InvalidParameters),
            From::Partition(_) => Err(Status::InvalidParameters),
        }
    }
}

/// Where a page of `owner` is, if it can be a buffer that the owner reads, or `writes`. Under the memory lock, so that it stays so until it is taken into use.
///
/// # Errors
/// DENIED for a page that is not exclusively the owner's; INVALID_PARAMETERS for one that is no memory to read and write. A
/// partition's address that leads nowhere is as invalid as another page; the normal world's is physical, and so somebody else's.
pub(crate) fn place<M: Machine>(machine: &mut M, owner: Owner, page: u64, writes: bool) -> Result<Address, Status> {
    let absent = if owner == Owner::NormalWorld { Status::Denied } else { Status::InvalidParameters };
    if !page.is_multiple_of(BUFFER_SIZE) {
        return Err(Status::InvalidParameters);
    }
    let holding = machine.holding(owner, page).ok_or(absent)?;
    let readable = holding.permissions.read && holding.is_normal_memory();
    if !readable || writes && !holding.permissions.write {
        return Err(Status::InvalidParameters);
    }
    if !holding.is_exclusive() {
        return Err(Status::Denied);
    }
    Ok(Address { pa: page, secure: holding.secure })
}
