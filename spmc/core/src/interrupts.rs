//! Secure interrupts of partitions (DEN0077A v1.2 chapter 9) and the paravirtual interrupt calls that OP-TEE makes
//! under an S-EL2 SPMC (the numbers and registers are those of its `hfic` driver).

use crate::chain::{Next, deliver};
use crate::machine::Machine;
use crate::messaging::vcpu_on;
use crate::partition::{MAX_INTERRUPTS, NormalWorldInterrupts, Partition, PartitionConfig};
use crate::spmc::Spmc;
use crate::vcpu::{Caller, Model, RunState, VcpuId};
use bulkhead_ffa::{Regs, function};
use crate::sync::atomic::{AtomicU64, Ordering, fence};

/// Virtual interrupt: a notification is pending (what FFA_FEATURES answers for NPI).
pub(crate) const NOTIFICATION_PENDING: u32 = 5;
/// Virtual interrupt: managed exit.
pub(crate) const MANAGED_EXIT: u32 = 4;
/// SGI of the normal world that schedules receivers of notifications.
pub const SCHEDULE_RECEIVER: u32 = 8;
/// Virtual interrupts below this id belong to the SPMC; ids from here on are physical ones.
const FIRST_PHYSICAL: u32 = 16;

/// Paravirtual calls: identifiers in x0.
mod paravirtual {
    pub const ENABLE: u32 = 0xff03;
    pub const GET: u32 = 0xff04;
    pub const DEACTIVATE: u32 = 0xff08;
    pub const RECONFIGURE: u32 = 0xff09;
    /// ENABLE: raises the FIQ line.
    pub const FIQ: u32 = 1;
    /// RECONFIGURE: enable or disable.
    pub const STATUS: u32 = 2;
    /// GET: nothing is pending.
    pub const NONE: u64 = 0xffff_ffff;
    /// Any call: refused.
    pub const REFUSED: u64 = u64::MAX;
}

/// SMCCC: unknown function.
const SMC_UNKNOWN: u64 = u64::MAX;

/// Interrupts of one vCPU, a bit for each: 0 to 15 are virtual ones, 16 onwards the partition's physical ones in the
/// order of its manifest.
pub struct VirtualInterrupts {
    enabled: AtomicU64,
    pending: AtomicU64,
    /// Those that raise the virtual FIQ line in place of the IRQ line.
    fiq: AtomicU64,
}

impl VirtualInterrupts {
    /// None enabled.
    pub const fn new() -> Self {
        Self { enabled: AtomicU64::new(0), pending: AtomicU64::new(0), fiq: AtomicU64::new(0) }
    }

    /// As a vCPU finds them at reset: what it need not ask for is enabled, the request for a managed exit and the notice of a
    /// notification. What is pending stays so.
    pub fn reset(&self, config: &PartitionConfig) {
        let bit = 1 << MANAGED_EXIT;
        let (enabled, fiq) = match config.normal_world_interrupts {
            NormalWorldInterrupts::ManagedExit { irq } => (bit, if irq { 0 } else { bit }),
            NormalWorldInterrupts::Queued | NormalWorldInterrupts::Signaled => (0, 0),
        };
        self.enabled.store(enabled | u64::from(config.notifications) << NOTIFICATION_PENDING, Ordering::Relaxed);
        self.fiq.store(fiq, Ordering::Relaxed);
    }

    /// Whether the virtual IRQ line is up.
    pub fn irq_line(&self) -> bool {
        self.ready() & !self.fiq.load(Ordering::Relaxed) != 0
    }

    /// Whether the virtual FIQ line is up.
    pub fn fiq_line(&self) -> bool {
        self.ready() & self.fiq.load(Ordering::Relaxed) != 0
    }

    fn ready(&self) -> u64 {
        self.pending.load(Ordering::Acquire) & self.enabled.load(Ordering::Relaxed)
    }

    fn post(&self, slot: u32) {
        self.pending.fetch_or(1 << slot, Ordering::AcqRel);
    }

    fn clear(&self, slot: u32) {
        self.pending.fetch_and(!(1 << slot), Ordering::AcqRel);
    }

    fn take(&self) -> Option<u32> {
        let ready = self.ready();
        // A handler of the IRQ line must not get what the FIQ line is for while both are up.
        let irqs = ready & !self.fiq.load(Ordering::Relaxed);
        let from = if irqs != 0 { irqs } else { ready };
        if from == 0 {
            return None;
        }
        let slot = from.trailing_zeros();
        self.clear(slot);
        Some(slot)
    }

    fn choose_line(&self, slot: u32, fiq: bool) {
        if fiq {
            self.fiq.fetch_or(1 << slot, Ordering::AcqRel);
        } else {
            self.fiq.fetch_and(!(1 << slot), Ordering::AcqRel);
        }
    }

    fn enable(&self, slot: u32, enable: bool) {
        if enable {
            self.enabled.fetch_or(1 << slot, Ordering::AcqRel);
        } else {
            self.enabled.fetch_and(!(1 << slot), Ordering::AcqRel);
        }
    }
}

const _: () = assert!(FIRST_PHYSICAL as usize + MAX_INTERRUPTS <= 64);

fn slot_of(config: &PartitionConfig, interrupt: u32) -> Option<u32> {
    if interrupt < FIRST_PHYSICAL {
        return Some(interrupt);
    }
    config.interrupts.iter().position(|i| *i == interrupt).map(|n| FIRST_PHYSICAL + n as u32)
}

fn interrupt_in(config: &PartitionConfig, slot: u32) -> u32 {
    if slot < FIRST_PHYSICAL { slot } else { config.interrupts.get((slot - FIRST_PHYSICAL) as usize).copied().unwrap_or(slot) }
}

impl Spmc {
    /// A call of a partition that is not FF-A's: returns x0.
    pub(crate) fn paravirtual_call<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, regs: &Regs) -> u64 {
        let Some(config) = self.config_of(vcpu) else { return SMC_UNKNOWN };
        if config.s_el0 {
            return SMC_UNKNOWN;
        }
        let interrupts = &self.vcpu(vcpu).0.interrupts[usize::from(vcpu.index)];
        let slot = slot_of(config, regs.w(1));
        match (regs.w(0), slot) {
            (paravirtual::ENABLE, Some(slot)) => {
                // How a managed exit is signalled, the manifest says.
                if slot != MANAGED_EXIT {
                    interrupts.choose_line(slot, regs.w(3) == paravirtual::FIQ);
                }
                self.enable(machine, interrupts, config, slot, regs.w(2) != 0);
                0
            }
            (paravirtual::RECONFIGURE, Some(slot)) if regs.w(2) == paravirtual::STATUS => {
                self.enable(machine, interrupts, config, slot, regs.w(3) != 0);
                0
            }
            (paravirtual::GET, _) => interrupts.take().map_or(paravirtual::NONE, |slot| u64::from(interrupt_in(config, slot))),
            (paravirtual::DEACTIVATE, Some(slot)) => {
                if slot >= FIRST_PHYSICAL {
                    machine.deactivate_interrupt(regs.w(1));
                }
                0
            }
            (paravirtual::ENABLE | paravirtual::RECONFIGURE | paravirtual::DEACTIVATE, _) => paravirtual::REFUSED,
            _ => SMC_UNKNOWN,
        }
    }

    fn enable<M: Machine>(&self, machine: &mut M, interrupts: &VirtualInterrupts, config: &PartitionConfig, slot: u32, enable: bool) {
        interrupts.enable(slot, enable);
        if slot >= FIRST_PHYSICAL {
            machine.enable_interrupt(interrupt_in(config, slot), enable);
        }
    }

    /// Which vCPU takes a physical interrupt that arrived on this core: its owner's.
    fn owner_of(&self, interrupt: u32, core: usize) -> Option<(VcpuId, u32)> {
        self.partitions().find_map(|(index, partition, config)| {
            let slot = slot_of(config, interrupt).filter(|s| *s >= FIRST_PHYSICAL)?;
            let vcpu = VcpuId { partition: index, index: vcpu_on(config, core) };
            (!partition.has_failed()).then_some((vcpu, slot))
        })
    }

    /// Acknowledges a secure interrupt and posts it to its owner; returns the owner.
    fn accept_interrupt<M: Machine>(&self, machine: &mut M) -> Option<VcpuId> {
        let interrupt = machine.acknowledge_interrupt()?;
        let Some((vcpu, slot)) = self.owner_of(interrupt, machine.core()) else {
            // Nobody's: it must not come back for ever.
            machine.enable_interrupt(interrupt, false);
            machine.deactivate_interrupt(interrupt);
            return None;
        };
        self.vcpu(vcpu).0.interrupts[usize::from(vcpu.index)].post(slot);
        Some(vcpu)
    }

    /// Posts a virtual interrupt to a vCPU; it sees it when it runs next, or at once when it runs.
    pub(crate) fn post_virtual<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, interrupt: u32) {
        self.vcpu(vcpu).0.interrupts[usize::from(vcpu.index)].post(interrupt);
        self.make_seen(machine, vcpu);
    }

    /// Something was posted to `vcpu`: if it runs on another core, that core is made to set its lines anew.
    fn make_seen<M: Machine>(&self, machine: &mut M, vcpu: VcpuId) {
        // With the fence in `raise_lines`: either that core reads what was posted, or this one sees that it runs there.
        fence(Ordering::SeqCst);
        let (partition, state) = self.vcpu(vcpu);
        if let Some(core) = state.runs_on().filter(|core| *core != machine.core())
            && partition.interrupts[usize::from(vcpu.index)].ready() != 0
        {
            machine.interrupt_core(core);
        }
    }

    /// A secure interrupt took the core from the normal world (FFA_INTERRUPT from the SPMD).
    pub(crate) fn secure_interrupt_in_normal_world<M: Machine>(&self, machine: &mut M) -> Regs {
        let resume = Regs::new(&[u64::from(function::NORMAL_WORLD_RESUME)]);
        let Some(vcpu) = self.accept_interrupt(machine) else { return resume };
        if !self.enter_for_interrupt(machine, vcpu, Caller::InterruptedNormalWorld) {
            // Busy: it sees the interrupt when it runs next.
            self.make_seen(machine, vcpu);
            return resume;
        }
        self.run_chain(machine, vcpu);
        resume
    }

    /// A secure interrupt while `current` runs.
    pub(crate) fn secure_interrupt_in_partition<M: Machine>(&self, machine: &mut M, current: VcpuId) -> Next {
        let Some(vcpu) = self.accept_interrupt(machine) else { return self.continue_or_time_out(machine, current) };
        if vcpu != current && self.enter_for_interrupt(machine, vcpu, Caller::Interrupted(current)) {
            return Next::Resume(vcpu);
        }
        if vcpu != current {
            self.make_seen(machine, vcpu);
        }
        Next::Resume(current)
    }

    /// What was acknowledged was the SPMC's own timer, or nothing.
    fn continue_or_time_out<M: Machine>(&self, machine: &mut M, current: VcpuId) -> Next {
        if !self.vcpu(current).1.holds_interrupts() || !machine.time_limit_reached() {
            return Next::Resume(current);
        }
        // Whoever goes on with the chain still has to end by itself.
        machine.set_time_limit(self.time_limit(self.head_of_chain(current)));
        let fault = machine.time_limit_fault(current);
        self.fail(machine, current, &fault)
    }

    /// Milliseconds that a vCPU may keep the normal world's interrupts from the core.
    pub(crate) fn time_limit(&self, vcpu: VcpuId) -> Option<u32> {
        self.config_of(vcpu).map(|config| config.init_time_limit_ms).filter(|limit| *limit != 0)
    }

    /// Enters a waiting vCPU so that it handles what is pending; `false` when it is not waiting.
    fn enter_for_interrupt<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, caller: Caller) -> bool {
        let (partition, state) = self.vcpu(vcpu);
        let interrupts = &partition.interrupts[usize::from(vcpu.index)];
        let Some(config) = partition.config() else { return false };
        if !(interrupts.ready() != 0 || config.s_el0) || state.claim(RunState::Waiting).is_err() {
            return false;
        }
        self.converse(vcpu, caller, Model::SecureInterrupt);
        let id = if config.s_el0 { self.take_message(machine, vcpu) } else { 0 };
        deliver(machine, vcpu, 0, Regs::new(&[u64::from(function::INTERRUPT), 0, u64::from(id)]));
        true
    }

    /// For S-EL0: takes one pending physical interrupt, which its FFA_INTERRUPT names, and ends its active state.
    fn take_message<M: Machine>(&self, machine: &mut M, vcpu: VcpuId) -> u32 {
        let (partition, _) = self.vcpu(vcpu);
        let interrupts = &partition.interrupts[usize::from(vcpu.index)];
        let (Some(config), pending) = (partition.config(), interrupts.pending.load(Ordering::Acquire) >> FIRST_PHYSICAL) else { return 0 };
        if pending == 0 {
            return 0;
        }
        let slot = pending.trailing_zeros() + FIRST_PHYSICAL;
        interrupts.clear(slot);
        let id = interrupt_in(config, slot);
        machine.deactivate_interrupt(id);
        id
    }

    /// FFA_MSG_WAIT of an S-EL0 vCPU with an interrupt pending returns at once with FFA_INTERRUPT.
    pub(crate) fn pending_interrupt_message<M: Machine>(&self, machine: &mut M, vcpu: VcpuId) -> Option<Next> {
        let config = self.config_of(vcpu)?;
        let (partition, state) = self.vcpu(vcpu);
        if !config.s_el0 || state.model() == Model::Init {
            return None;
        }
        let pending = partition.interrupts[usize::from(vcpu.index)].pending.load(Ordering::Acquire) >> FIRST_PHYSICAL;
        if pending == 0 {
            return None;
        }
        let id = self.take_message(machine, vcpu);
        deliver(machine, vcpu, 0, Regs::new(&[u64::from(function::INTERRUPT), 0, u64::from(id)]));
        Some(Next::Resume(vcpu))
    }

    /// Remembers that `vcpu`, which waits as of now, has left a physical interrupt unhandled: it came while the vCPU had
    /// interrupts masked, or while it ran on another core. Checked after the state is published, and an interrupt is posted
    /// before the state is looked at, so one of the two cores sees it. One chance for each conversation.
    pub(crate) fn note_left_interrupt<M: Machine>(&self, machine: &M, vcpu: VcpuId, model: Model) {
        let (partition, _) = self.vcpu(vcpu);
        if model != Model::SecureInterrupt && self.has_physical(partition, vcpu.index) {
            self.left_interrupts.fetch_or(1 << machine.core(), Ordering::Relaxed);
        }
    }

    fn has_physical(&self, partition: &Partition, index: u8) -> bool {
        let interrupts = &partition.interrupts[usize::from(index)];
        let s_el0 = partition.config().is_some_and(|config| config.s_el0);
        let ready = if s_el0 { interrupts.pending.load(Ordering::Acquire) } else { interrupts.ready() };
        ready >> FIRST_PHYSICAL != 0
    }

    /// Before the core goes to the normal world: enters waiting vCPUs that have left interrupts unhandled, each once.
    pub(crate) fn serve_left_interrupts<M: Machine>(&self, machine: &mut M) {
        let mine = 1 << machine.core();
        if self.left_interrupts.load(Ordering::Relaxed) & mine == 0 {
            return;
        }
        for (index, partition, config) in self.partitions() {
            let vcpu = VcpuId { partition: index, index: vcpu_on(config, machine.core()) };
            if self.has_physical(partition, vcpu.index) && self.enter_for_interrupt(machine, vcpu, Caller::InterruptedNormalWorld) {
                self.run_to_end(machine, vcpu);
            }
        }
        // Only now: what was left while they were served had its chance.
        self.left_interrupts.fetch_and(!mine, Ordering::Relaxed);
    }

    /// Posts NPI to a vCPU of a partition that has notifications.
    pub(crate) fn raise_notification_pending<M: Machine>(&self, machine: &mut M, vcpu: VcpuId) {
        if !self.config_of(vcpu).is_some_and(|c| c.s_el0) {
            self.post_virtual(machine, vcpu, NOTIFICATION_PENDING);
        }
    }

    /// Gives a vCPU that is about to run the virtual interrupt lines as they stand now.
    pub(crate) fn raise_lines<M: Machine>(&self, machine: &mut M, vcpu: VcpuId) {
        let (partition, state) = self.vcpu(vcpu);
        let interrupts = &partition.interrupts[usize::from(vcpu.index)];
        state.enter_on(machine.core());
        // Orders the claim and the core before the reads of what is pending, see `make_seen`.
        fence(Ordering::SeqCst);
        machine.set_virtual_irq(vcpu, interrupts.irq_line());
        machine.set_virtual_fiq(vcpu, interrupts.fiq_line());
    }

    /// A normal-world interrupt while `vcpu` processes a request: asks it to end the request soon, if it is one that can.
    /// The interrupt waits meanwhile (DEN0077A v1.2 section 9.3.1.3).
    pub(crate) fn request_managed_exit(&self, vcpu: VcpuId) -> bool {
        let (partition, state) = self.vcpu(vcpu);
        let able = partition.config().is_some_and(|c| matches!(c.normal_world_interrupts, NormalWorldInterrupts::ManagedExit { .. }));
        if !able || !state.model().is_direct() {
            return false;
        }
        partition.interrupts[usize::from(vcpu.index)].post(MANAGED_EXIT);
        state.hold_interrupts();
        true
    }

    /// The conversation has ended: a request to end it that the partition has not seen is void.
    pub(crate) fn end_managed_exit(&self, vcpu: VcpuId) {
        self.vcpu(vcpu).0.interrupts[usize::from(vcpu.index)].clear(MANAGED_EXIT);
    }
}
