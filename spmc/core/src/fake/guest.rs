//! A partition in a host test: the calls that its script makes.

use super::{Bench, Entry};
use crate::fault::{Fault, FaultKind};
use crate::machine::Exit;
use bulkhead_ffa::{EndpointId, Regs, function};
use std::boxed::Box;
use std::sync::mpsc::{Receiver, Sender};

/// A partition's view, in its script.
pub struct Guest {
    pub(super) enter: Receiver<Entry>,
    pub(super) exit: Sender<(Regs, Exit)>,
    pub(super) last: Entry,
    /// Where it was entered first.
    pub entry: u64,
    /// Its identity.
    pub id: EndpointId,
    /// The bench, to act as the normal world on another core meanwhile.
    pub bench: Bench,
}

/// Ends a guest's thread quietly when its test is over.
struct Over;

impl Guest {
    fn switch(&mut self, regs: Regs, exit: Exit) -> Regs {
        let sent = self.exit.send((regs, exit)).is_ok();
        match self.enter.recv() {
            Ok(entry) if sent => {
                self.last = entry;
                self.last.regs
            }
            _ => std::panic::resume_unwind(Box::new(Over)),
        }
    }

    /// Makes a call with these registers and returns those with which the vCPU runs on.
    pub fn call(&mut self, x: &[u64]) -> Regs {
        self.switch(Regs::new(x), Exit::Call)
    }

    /// FFA_MSG_WAIT: returns the next message.
    pub fn wait(&mut self) -> Regs {
        self.call(&[u64::from(function::MSG_WAIT)])
    }

    /// Answers the direct request `request` with a payload from x3 (or, for REQ2, x4) on; returns the next message.
    pub fn respond(&mut self, request: &Regs, payload: &[u64]) -> Regs {
        let regs = super::response(self.id, request, payload);
        self.switch(regs, Exit::Call)
    }

    /// Sends a 32-bit direct request to another partition and returns its answer.
    pub fn request(&mut self, receiver: u16, payload: &[u64]) -> Regs {
        let mut regs = Regs::new(&[u64::from(function::MSG_SEND_DIRECT_REQ_32), u64::from(self.id.0) << 16 | u64::from(receiver)]);
        regs.0[3..3 + payload.len()].copy_from_slice(payload);
        self.switch(regs, Exit::Call)
    }

    /// Is stopped by something else than a call; runs on when the SPMC lets it.
    pub fn stop(&mut self, exit: Exit) {
        let before = self.last.regs;
        let after = self.switch(before, exit);
        assert_eq!(after, before, "registers survive what the guest does not see");
    }

    /// Is stopped by an access that the SPMC emulates.
    pub fn emulated(&mut self, exit: Exit) {
        let before = self.last.regs;
        self.switch(before, exit);
    }

    /// An access that it may not make. Never returns.
    pub fn crash(&mut self) -> ! {
        let fault = Fault { kind: FaultKind::Exception, pc: 0x1000, esr: 0x9200_0046, address: Some(0xdead_0000) };
        self.switch(Regs::default(), Exit::Fault(fault));
        unreachable!("a failed vCPU ran again");
    }

    /// A virtual interrupt handler's first call: which interrupt it is.
    pub fn interrupt(&mut self) -> u64 {
        self.call(&[0xff04]).0[0]
    }

    /// The registers of the latest entry.
    pub fn regs(&self) -> Regs {
        self.last.regs
    }

    /// The core that it runs on.
    pub fn core(&self) -> usize {
        self.last.core
    }

    /// Whether its virtual IRQ line is up.
    pub fn irq(&self) -> bool {
        self.last.irq
    }

    /// Whether its virtual FIQ line is up.
    pub fn fiq(&self) -> bool {
        self.last.fiq
    }

    /// Whether normal-world interrupts are held while it runs.
    pub fn held(&self) -> bool {
        self.last.held
    }
}
