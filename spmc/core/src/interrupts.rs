//! Interrupts on their way to partitions (DEN0077A v1.2 chapter 9): whose a physical one is, whether its owner runs for it
//! now or sees it later, and managed exit.
//!
//! | the owner's vCPU | at S-EL1 | at S-EL0 |
//! |---|---|---|
//! | waits | entered with FFA_INTERRUPT, which names the interrupt; virtual IRQ | the same, without a line |
//! | runs, here or on another core | virtual IRQ at once | FFA_INTERRUPT when it waits next |
//! | is blocked on the chain that was interrupted | its request returns FFA_INTERRUPT; virtual IRQ. FFA_RUN of the callee goes on | when it waits next |
//! | is blocked or preempted otherwise | virtual IRQ when it runs next | when it waits next |

use crate::chain::{Next, deliver};
use crate::machine::Machine;
use crate::messaging::vcpu_on;
use crate::partition::{NormalWorldInterrupts, PartitionConfig};
use crate::spmc::{Spmc, attention};
use crate::vcpu::{Caller, Model, RunState, VcpuId};
use crate::virtual_interrupts::{FIRST_PHYSICAL, MANAGED_EXIT, VirtualInterrupts, interrupt_in, is_physical, slot_of};
use crate::MAX_CORES;
use bulkhead_ffa::{Regs, function};
use crate::sync::atomic::{AtomicU8, Ordering, fence};

/// SGI of the normal world that schedules receivers of notifications.
pub const SCHEDULE_RECEIVER: u32 = 8;

impl Spmc {
    /// The interrupt controller of a vCPU.
    pub(crate) fn interrupts(&self, vcpu: VcpuId) -> &VirtualInterrupts {
        &self.vcpu(vcpu).1.interrupts
    }

    /// Enables or disables a slot for a vCPU, and a physical interrupt at the distributor too, towards this core unless it
    /// has a target.
    pub(crate) fn enable_interrupt<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, slot: u32, enable: bool) {
        let (partition, _) = self.vcpu(vcpu);
        let Some(config) = partition.config() else { return };
        self.interrupts(vcpu).enable(slot, enable);
        if !is_physical(slot) {
            return;
        }
        let interrupt = interrupt_in(config, slot);
        if enable && partition.routed.load(Ordering::Relaxed) & 1 << slot == 0 {
            machine.route_interrupt(interrupt, machine.core());
        }
        machine.enable_interrupt(interrupt, enable);
    }

    /// The handler of an interrupt has ended.
    pub(crate) fn deactivate<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, slot: u32) {
        let interrupts = self.interrupts(vcpu);
        let Some(config) = self.config_of(vcpu) else { return };
        if interrupts.deactivate(slot) && is_physical(slot) {
            machine.deactivate_interrupt(interrupt_in(config, slot));
        } else if !is_physical(slot) {
            interrupts.rearm_timer(slot);
            interrupts.expire_timers(machine.ticks());
        }
    }

    /// S-EL0 partitions have no call for it: their interrupts are enabled as soon as they can be told of them.
    pub(crate) fn enable_messages<M: Machine>(&self, machine: &mut M, vcpu: VcpuId) {
        let Some(config) = self.config_of(vcpu).filter(|config| config.s_el0) else { return };
        for n in 0..config.interrupts.len() {
            self.enable_interrupt(machine, vcpu, FIRST_PHYSICAL + n as u32, true);
        }
    }

    /// Which vCPU takes a physical interrupt that arrived on this core: its owner's.
    fn owner_of(&self, interrupt: u32, core: usize) -> Option<(VcpuId, u32)> {
        self.partitions().find_map(|(index, partition, config)| {
            let slot = slot_of(config, interrupt).filter(|slot| is_physical(*slot))?;
            let vcpu = VcpuId { partition: index, index: vcpu_on(config, core) };
            (!partition.has_failed()).then_some((vcpu, slot))
        })
    }

    /// Acknowledges a secure interrupt and posts it to its owner, who is to run for it on this core if it can.
    fn accept_interrupt<M: Machine>(&self, machine: &mut M) {
        let Some(interrupt) = machine.acknowledge_interrupt() else {
            // The SPMC's own: a timer of a partition may be due, or another core asks this one to look.
            return self.expire_timers(machine);
        };
        let core = machine.core();
        if let Some((vcpu, slot)) = self.owner_of(interrupt, core) {
            self.interrupts(vcpu).post(slot);
            self.make_seen(machine, vcpu);
            self.want_core(vcpu, core);
        } else {
            // Nobody's: it must not come back for ever.
            machine.enable_interrupt(interrupt, false);
            machine.deactivate_interrupt(interrupt);
        }
    }

    /// Posts a virtual interrupt to a vCPU; it sees it when it runs next, or at once when it runs.
    pub(crate) fn post_virtual<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, interrupt: u32) {
        self.interrupts(vcpu).post(interrupt);
        self.make_seen(machine, vcpu);
    }

    /// The same, and a vCPU that waits is entered on its own core.
    pub(crate) fn post_and_wake<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, interrupt: u32) {
        self.post_virtual(machine, vcpu, interrupt);
        // A vCPU that waits belongs to the core of its number; a partition's only one to any.
        let core = usize::from(vcpu.index);
        if core != machine.core() && self.vcpu(vcpu).1.state() == RunState::Waiting {
            self.want_core(vcpu, core);
            machine.interrupt_core(core);
        }
    }

    /// Something was posted to `vcpu`: if it runs on another core, that core is made to set its lines anew.
    pub(crate) fn make_seen<M: Machine>(&self, machine: &mut M, vcpu: VcpuId) {
        // With the order in `Vcpu::enter_on`: either that core reads what was posted, or this one sees that it runs there.
        fence(Ordering::SeqCst);
        if let Some(core) = self.vcpu(vcpu).1.runs_on().filter(|core| *core != machine.core())
            && self.interrupts(vcpu).ready() != 0
        {
            // Should it have stopped to run when that core gets to it, it is entered there.
            self.want_core(vcpu, core);
            machine.interrupt_core(core);
        }
    }

    /// What a core has to look after: bits of [`attention`].
    pub(crate) fn attention_of(&self, core: usize) -> &AtomicU8 {
        &self.attention[core % MAX_CORES]
    }

    /// A vCPU has something to handle: it is to run on `core` as soon as it can there.
    pub(crate) fn want_core(&self, vcpu: VcpuId, core: usize) {
        self.vcpu(vcpu).0.wanted_on.fetch_or(1 << core, Ordering::AcqRel);
        self.attention_of(core).fetch_or(attention::WANTED, Ordering::AcqRel);
    }

    /// Takes one vCPU that is to run on this core for what is pending.
    fn next_wanted(&self, core: usize) -> Option<VcpuId> {
        let mine = 1 << core;
        let attention = self.attention_of(core);
        if attention.load(Ordering::Relaxed) & attention::WANTED == 0 {
            return None;
        }
        attention.fetch_and(!attention::WANTED, Ordering::AcqRel);
        let (index, _, config) = self.partitions().find(|(_, partition, _)| partition.wanted_on.fetch_and(!mine, Ordering::AcqRel) & mine != 0)?;
        // There may be others.
        attention.fetch_or(attention::WANTED, Ordering::AcqRel);
        Some(VcpuId { partition: index, index: vcpu_on(config, core) })
    }

    /// A secure interrupt took the core from the normal world (FFA_INTERRUPT from the SPMD).
    pub(crate) fn secure_interrupt_in_normal_world<M: Machine>(&self, machine: &mut M) -> Regs {
        self.accept_interrupt(machine);
        self.serve_wanted(machine);
        machine.leave_to_normal_world();
        Regs::new(&[u64::from(function::NORMAL_WORLD_RESUME)])
    }

    /// Before the core goes to the normal world: enters the waiting vCPUs that are to run for what is pending, each once.
    pub(crate) fn serve_wanted<M: Machine>(&self, machine: &mut M) {
        while let Some(vcpu) = self.next_wanted(machine.core()) {
            if self.enter_for_interrupt(machine, vcpu, Caller::InterruptedNormalWorld) {
                self.run_to_end(machine, vcpu);
            }
        }
    }

    /// A secure interrupt while `current` runs.
    pub(crate) fn secure_interrupt_in_partition<M: Machine>(&self, machine: &mut M, current: VcpuId) -> Next {
        self.accept_interrupt(machine);
        self.continue_or_time_out(machine, current)
    }

    /// Whom the core goes on with, which was to run `current`: with a vCPU that has something to handle, where `current`
    /// lets others' interrupts in (the manifest's `other-s-interrupts-action`).
    pub(crate) fn give_way<M: Machine>(&self, machine: &mut M, current: VcpuId) -> VcpuId {
        if self.attention_of(machine.core()).load(Ordering::Relaxed) & attention::WANTED == 0 || self.config_of(current).is_some_and(|config| config.holds_other_secure) {
            return current;
        }
        while let Some(vcpu) = self.next_wanted(machine.core()) {
            if vcpu == current {
                continue;
            }
            if self.enter_for_interrupt(machine, vcpu, Caller::Interrupted(current)) {
                if self.vcpu(current).1.holds_interrupts() {
                    // Each has its own time.
                    self.vcpu(vcpu).1.leave_time_to_caller(machine.stop_time_limit());
                    machine.set_time_limit(self.time_limit(vcpu));
                }
                return vcpu;
            }
            if self.unblock_for_interrupt(machine, vcpu, current) {
                return vcpu;
            }
        }
        current
    }

    /// Of a vCPU that held the normal world's interrupts back: whether it has had its time.
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
        let Some(config) = partition.config() else { return false };
        if !self.interrupts(vcpu).wants_core() || state.claim(RunState::Waiting).is_err() {
            return false;
        }
        // It may have run on another core meanwhile, and handled everything.
        if !self.interrupts(vcpu).wants_core() {
            state.publish(RunState::Waiting);
            self.note_left_interrupt(machine, vcpu, Model::Run);
            return false;
        }
        self.converse(vcpu, caller, Model::SecureInterrupt);
        self.deliver_interrupt(machine, vcpu, config);
        true
    }

    /// FFA_INTERRUPT, with the interrupt that is pending. An S-EL0 partition takes it by that.
    fn deliver_interrupt<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, config: &PartitionConfig) {
        let interrupts = self.interrupts(vcpu);
        let slot = interrupts.peek(&self.vcpu(vcpu).0.priorities).unwrap_or(0);
        if config.s_el0 {
            interrupts.acknowledge(slot, is_physical(slot));
        }
        deliver(machine, vcpu, 0, Regs::new(&[u64::from(function::INTERRUPT), 0, u64::from(interrupt_in(config, slot))]));
    }

    /// An interrupt of a vCPU that is blocked on the chain whose tail is `current`: its request returns FFA_INTERRUPT, and it
    /// goes on with its callee by FFA_RUN.
    fn unblock_for_interrupt<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, current: VcpuId) -> bool {
        let (partition, state) = self.vcpu(vcpu);
        if !partition.config().is_some_and(|config| !config.s_el0) || !self.interrupts(vcpu).wants_core() || !self.waits_for(vcpu, current) {
            return false;
        }
        let Some(callee) = state.callee() else { return false };
        self.interrupt_request(machine, vcpu, callee, current);
        true
    }

    /// The request that `vcpu` made to `callee` returns FFA_INTERRUPT, and it runs in place of `tail`, which the chain had come to.
    fn interrupt_request<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, callee: VcpuId, tail: VcpuId) {
        machine.park(tail);
        self.vcpu(tail).1.publish(RunState::Preempted);
        let _ = self.vcpu(vcpu).1.claim(RunState::Blocked);
        deliver(machine, vcpu, 0, Regs::new(&[u64::from(function::INTERRUPT), self.target_info(callee)]));
    }

    /// Whether `vcpu` waits for an answer that `current` has a part in.
    fn waits_for(&self, vcpu: VcpuId, current: VcpuId) -> bool {
        let mut at = current;
        for _ in 0..crate::MAX_PARTITIONS {
            match self.vcpu(at).1.caller() {
                Caller::Partition(caller) if caller == vcpu => return true,
                Caller::Partition(caller) => at = caller,
                _ => break,
            }
        }
        false
    }

    /// FFA_MSG_WAIT of an S-EL0 vCPU with an interrupt pending returns at once with FFA_INTERRUPT.
    pub(crate) fn pending_interrupt_message<M: Machine>(&self, machine: &mut M, vcpu: VcpuId) -> Option<Next> {
        let config = self.config_of(vcpu)?;
        if !config.s_el0 || self.vcpu(vcpu).1.model() == Model::Init || !self.interrupts(vcpu).wants_core() {
            return None;
        }
        self.deactivate_forgotten(machine, vcpu);
        self.deliver_interrupt(machine, vcpu, config);
        Some(Next::Resume(vcpu))
    }

    /// Remembers that `vcpu`, which waits as of now, has left an interrupt unhandled: it came while the vCPU had
    /// interrupts masked, or while it ran on another core. Checked after the state is published, and an interrupt is posted
    /// before the state is looked at, so one of the two cores sees it. One chance for each conversation.
    #[inline]
    pub(crate) fn note_left_interrupt<M: Machine>(&self, machine: &M, vcpu: VcpuId, model: Model) {
        if model != Model::SecureInterrupt && self.interrupts(vcpu).wants_core() {
            self.want_core(vcpu, machine.core());
        }
    }

    /// Gives a vCPU that is about to run the virtual interrupt lines as they stand now.
    pub(crate) fn raise_lines<M: Machine>(&self, machine: &mut M, vcpu: VcpuId) {
        let (partition, state) = self.vcpu(vcpu);
        let interrupts = self.interrupts(vcpu);
        state.enter_on(machine.core());
        if interrupts.has_timer() {
            interrupts.expire_timers(machine.ticks());
        }
        machine.set_virtual_lines(vcpu, interrupts.irq_line(&partition.priorities), interrupts.fiq_line());
    }

    /// Whether the conversation is to end soon, by a managed exit.
    pub(crate) fn is_to_exit(&self, vcpu: VcpuId) -> bool {
        let (partition, state) = self.vcpu(vcpu);
        let able = partition.config().is_some_and(|c| matches!(c.normal_world_interrupts, NormalWorldInterrupts::ManagedExit { .. }));
        able && state.holds_interrupts()
    }

    /// A normal-world interrupt while `vcpu` runs, for a request that a partition makes which can be asked for a managed exit:
    /// `vcpu` is preempted, and its caller's request returns FFA_INTERRUPT (section 8.3). Who goes on instead.
    pub(crate) fn request_managed_exit_of_callers<M: Machine>(&self, machine: &mut M, vcpu: VcpuId) -> Option<VcpuId> {
        let mut at = vcpu;
        for _ in 0..crate::MAX_PARTITIONS {
            let Caller::Partition(caller) = self.vcpu(at).1.caller() else { break };
            if self.request_managed_exit(caller) {
                self.interrupt_request(machine, caller, at, vcpu);
                return Some(caller);
            }
            at = caller;
        }
        None
    }

    /// A normal-world interrupt while `vcpu` processes a request: asks it to end the request soon, if it is one that can.
    /// The interrupt waits meanwhile (DEN0077A v1.2 section 9.3.1.3).
    pub(crate) fn request_managed_exit(&self, vcpu: VcpuId) -> bool {
        let (partition, state) = self.vcpu(vcpu);
        let able = partition.config().is_some_and(|c| matches!(c.normal_world_interrupts, NormalWorldInterrupts::ManagedExit { .. }));
        if !able || !state.model().is_direct() {
            return false;
        }
        self.interrupts(vcpu).post(MANAGED_EXIT);
        state.hold_interrupts();
        true
    }

    /// The conversation has ended: a request to end it that the partition has not seen is void.
    pub(crate) fn end_managed_exit(&self, vcpu: VcpuId) {
        self.interrupts(vcpu).clear(MANAGED_EXIT);
    }
}

const _: () = assert!(SCHEDULE_RECEIVER < FIRST_PHYSICAL);
