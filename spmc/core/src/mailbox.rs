//! RX/TX buffers: FFA_RXTX_MAP, FFA_RXTX_UNMAP, FFA_RX_RELEASE, FFA_RX_ACQUIRE (DEN0077A v1.2 sections 13.5 to 13.7).
//!
//! Invariant: the SPMC writes the RX buffer only while it owns it (`!full`), and gives it to the endpoint with the write.

use crate::calls::{Call, From};
use crate::machine::{Address, Machine};
use crate::spmc::Spmc;
use bulkhead_ffa::{EndpointId, Regs, Status, Version, function};

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
    pub(crate) fn rxtx_map<M: Machine>(&self, machine: &mut M, call: &Call) -> Result<Regs, Status> {
        let wide = function::is_64_bit(call.function());
        let [tx, rx] = [1, 2].map(|n| if wide { call.regs.0[n] } else { u64::from(call.regs.w(n)) });
        let pages = call.regs.w(3);
        // Bits 31..6 must be zero; one page is all there is (FFA_FEATURES says so).
        if pages != 1 || tx % BUFFER_SIZE != 0 || rx % BUFFER_SIZE != 0 || tx == rx {
            return Err(Status::InvalidParameters);
        }
        let endpoint = self.endpoint(call.from);
        let mut mailbox = endpoint.mailbox.lock();
        if mailbox.mapped {
            return Err(Status::Denied);
        }
        // Keeps memory transactions from moving the pages between the check and the registration.
        let _memory = self.memory.lock();
        // What the normal world does not hold is other worlds' or not its memory at all: that is denied, as when it sends it.
        let foreign = if matches!(call.from, From::NormalWorld) { Status::Denied } else { Status::InvalidParameters };
        let place = |machine: &M, page: u64, writes: bool| {
            let holding = machine.holding(call.from.owner(), page).ok_or(foreign)?;
            let usable = holding.permissions.read && (holding.permissions.write || !writes) && holding.is_normal_memory();
            if !usable {
                return Err(Status::InvalidParameters);
            }
            if !holding.is_exclusive() {
                return Err(Status::Denied);
            }
            Ok(Address { pa: page, secure: holding.secure })
        };
        mailbox.map(Buffers { rx: place(machine, rx, false)?, tx: place(machine, tx, true)? });
        Ok(Regs::success(&[]))
    }

    pub(crate) fn rxtx_unmap(&self, call: &Call) -> Result<Regs, Status> {
        // w1 bits 31..16 name the endpoint only for a hypervisor that acts for a VM; every other caller leaves it zero.
        let id = EndpointId((call.regs.w(1) >> 16) as u16);
        if id != EndpointId::HYPERVISOR && id != self.id(call.from) {
            return Err(Status::InvalidParameters);
        }
        let mut mailbox = self.endpoint(call.from).mailbox.lock();
        if mailbox.unmap() { Ok(Regs::success(&[])) } else { Err(Status::InvalidParameters) }
    }

    pub(crate) fn rx_release(&self, call: &Call) -> Result<Regs, Status> {
        let id = EndpointId(call.regs.w(1) as u16);
        // As in FFA_RXTX_UNMAP: only a hypervisor names another than itself, and its machines' buffers are not known here.
        if id != EndpointId::HYPERVISOR && id != self.id(call.from) {
            return Err(Status::InvalidParameters);
        }
        let mut mailbox = self.endpoint(call.from).mailbox.lock();
        if !mailbox.full {
            return Err(Status::Denied);
        }
        mailbox.full = false;
        Ok(Regs::success(&[]))
    }

    pub(crate) fn rx_acquire(&self, call: &Call) -> Result<Regs, Status> {
        if !matches!(call.from, From::NormalWorld) || self.version(call.from) < Version::V1_1 {
            return Err(Status::NotSupported);
        }
        if call.regs.w(1) & 0xffff != 0 {
            return Err(Status::InvalidParameters);
        }
        let mut mailbox = self.endpoint(call.from).mailbox.lock();
        mailbox.buffers(Status::InvalidParameters)?;
        if mailbox.full {
            return Err(Status::Denied);
        }
        // The SPMC writes it again after FFA_RX_RELEASE.
        mailbox.give();
        Ok(Regs::success(&[]))
    }
}
