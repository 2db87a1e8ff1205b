//! What the core needs of the hardware.

use crate::fault::Fault;
use crate::distributor::Place;
use crate::interface::Interface;
use crate::timer::{TimerRegister, Which};
use crate::vcpu::VcpuId;
use bulkhead_ffa::{Message, Regs};

/// A physical address in one of the two physical address spaces that partitions and the normal world live in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Physical address; equal to the intermediate physical address everywhere in Bulkhead.
    pub pa: u64,
    /// Secure or non-secure address space.
    pub secure: bool,
}

/// Why a partition stopped running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// SMC, HVC or (S-EL0) SVC with immediate zero: an ABI call. The registers are the vCPU's.
    Call,
    /// HVC or SMC whose function identifier is a paravirtual interrupt call arrives as [`Exit::Call`] too; this one is a
    /// non-secure interrupt (FIQ at S-EL2): the normal world wants the core.
    NormalWorldInterrupt,
    /// A secure interrupt (IRQ at S-EL2), not yet acknowledged.
    SecureInterrupt,
    /// An access to a register that the SPMC emulates; the vCPU is behind the instruction already.
    Register(Access),
    /// The partition did something that it may not.
    Fault(Fault),
}

/// An access to an emulated register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Which register.
    pub register: Register,
    /// What is written; `None` for a read.
    pub write: Option<u64>,
    /// The general register that a read goes to: 0 to 30, 31 for none.
    pub target: u8,
}

/// Registers that the SPMC emulates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// One of an EL1 timer.
    Timer(Which, TimerRegister),
    /// One of the GICv3's interface.
    Interface(Interface),
    /// One of its distributor or redistributors.
    Distributor(Place),
}

/// Access to guest memory failed: not mapped, or the bus refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessFault;

/// A page as a partition's own tables see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// The partition may read.
    pub read: bool,
    /// The partition may write.
    pub write: bool,
    /// The partition may execute.
    pub execute: bool,
}

/// One core's view of the machine.
///
/// Methods that take a [`VcpuId`] may be called only for a vCPU that this core has claimed, unless they say otherwise.
pub trait Machine: memory::PageTables {
    /// Index of this core, less than [`crate::MAX_CORES`].
    fn core(&self) -> usize;

    /// Runs a vCPU until it stops.
    fn run(&mut self, vcpu: VcpuId) -> Exit;

    /// x0 to x17 of a vCPU.
    fn regs(&mut self, vcpu: VcpuId) -> &mut Regs;

    /// What the machine finds a vCPU's registers by, once it has looked for them.
    type Context: Copy;

    /// Looks for a vCPU's registers.
    fn context(&self, vcpu: VcpuId) -> Self::Context;

    /// [`Self::regs`].
    fn regs_in(&mut self, context: Self::Context) -> &mut Regs;

    /// x0 to x7 of a vCPU that this core is about to give up.
    fn last_message(&mut self, context: Self::Context) -> Message;

    /// Runs a vCPU that has no interrupt to be told of, with both virtual lines down, until it stops; whether that was for a
    /// call. If not, [`Self::why_stopped`] is asked next.
    fn enter(&mut self, context: Self::Context) -> bool;

    /// [`Self::enter`] of a vCPU that has just stopped for a call, and got its answer.
    fn enter_again(&mut self, context: Self::Context) -> bool;

    /// Why the vCPU stopped that [`Self::enter`] or [`Self::enter_again`] has just run. It may go on first, where nobody needs to know.
    fn why_stopped(&mut self, vcpu: VcpuId) -> Exit;

    /// [`Self::leave_to_normal_world`] after [`Self::enter`] of this vCPU has stopped for a call.
    fn leave(&mut self, context: Self::Context);

    /// Makes a vCPU ready for its first entry at `entry`, with `x0` as its argument, its index in x4 and all else as at reset.
    fn reset_vcpu(&mut self, vcpu: VcpuId, entry: u64, x0: u64);

    /// Moves whatever of the vCPU's state is still in this core's registers to memory, so that another core can run it.
    fn park(&mut self, vcpu: VcpuId);

    /// Moves all partition state to memory and brings back the normal world's (EL1 registers, FP/SIMD/SVE).
    fn leave_to_normal_world(&mut self);

    /// Sets or clears the virtual IRQ and FIQ lines of a vCPU.
    fn set_virtual_lines(&mut self, vcpu: VcpuId, irq: bool, fiq: bool);

    /// Masks non-secure interrupts while a partition runs that they may not preempt; returns whether they were masked before.
    fn mask_normal_world_interrupts(&mut self, mask: bool) -> bool;

    /// Copies from guest memory.
    ///
    /// # Errors
    /// [`AccessFault`] when the bus refuses; `out` is then undefined.
    fn read(&mut self, from: Address, out: &mut [u8]) -> Result<(), AccessFault>;

    /// Copies to guest memory.
    ///
    /// # Errors
    /// [`AccessFault`] when the bus refuses; part of the data may have been written.
    fn write(&mut self, to: Address, data: &[u8]) -> Result<(), AccessFault>;

    /// Acknowledges the highest-priority secure interrupt and drops its priority; `None` when it was spurious or the SPMC's own.
    fn acknowledge_interrupt(&mut self) -> Option<u32>;

    /// Deactivates a secure interrupt that was acknowledged.
    fn deactivate_interrupt(&mut self, interrupt: u32);

    /// Enables or disables a secure interrupt at the distributor.
    fn enable_interrupt(&mut self, interrupt: u32, enable: bool);

    /// Sends a shared interrupt to a core from now on; `false` for a private one, or a core that does not exist.
    fn route_interrupt(&mut self, interrupt: u32, core: usize) -> bool;

    /// Makes an interrupt secure group 1, or the normal world's.
    fn set_interrupt_security(&mut self, interrupt: u32, secure: bool);

    /// Writes the result of an emulated read: 0 to 30, 31 for none.
    fn set_general(&mut self, vcpu: VcpuId, register: u8, value: u64);

    /// The physical counter.
    fn ticks(&self) -> u64;

    /// Has the SPMC's own timer fire when the counter reaches `deadline`, beside what it does for the time limit; `None`: not.
    fn set_alarm(&mut self, deadline: Option<u64>);

    /// Makes another core stop what it runs for a moment, as by a secure interrupt that is the SPMC's own.
    fn interrupt_core(&mut self, core: usize);

    /// Whether the SPMC's own timer, which ends an initialisation that takes too long, has fired since it was armed.
    fn time_limit_reached(&mut self) -> bool;

    /// The report of a vCPU that ran into the time limit.
    fn time_limit_fault(&mut self, vcpu: VcpuId) -> Fault;

    /// Arms the SPMC's timer to fire after `milliseconds`; `None` stops it.
    fn set_time_limit(&mut self, milliseconds: Option<u32>);

    /// Stops the SPMC's timer; what is left of its time, for [`Self::resume_time_limit`].
    fn stop_time_limit(&mut self) -> u64;

    /// Arms the SPMC's timer with what was left when it was stopped.
    fn resume_time_limit(&mut self, left: u64);

    /// Milliseconds since some fixed time, for the report of what took how long; `None` without a clock.
    fn milliseconds(&self) -> Option<u64> {
        None
    }

    /// Raises the schedule receiver interrupt in the normal world.
    fn raise_schedule_receiver(&mut self);

    /// How a partition sees a page of its own, by its stage 2 and, at S-EL0, its stage 1. Any core may ask.
    fn permissions(&mut self, partition: u8, page: u64) -> Option<Permissions>;

    /// Whether a partition may change its permissions of a page.
    fn may_set_permissions(&mut self, partition: u8, page: u64) -> bool;

    /// Changes an S-EL0 partition's stage-1 permissions of `pages` pages that it owns.
    ///
    /// # Errors
    /// [`memory::OutOfMemory`] when there is no table to split a block.
    fn set_permissions(&mut self, partition: u8, page: u64, pages: u64, permissions: Permissions) -> Result<(), memory::OutOfMemory>;

    /// Prints what a partition did wrong: partition, vCPU, place, syndrome in words, and whose memory it touched.
    fn report_fault(&mut self, vcpu: VcpuId, fault: &Fault);

    /// Takes away a failed partition's access to memory, interrupts and devices, so that nothing of it goes on, also on other
    /// cores. What it has by the page tables need not be found there any more.
    fn quiesce(&mut self, partition: u8);

    /// Prints one line for a partition (`None`: the SPMC itself). The text has no line end.
    fn print(&mut self, partition: Option<u8>, line: &str);
}

use crate::memory;
