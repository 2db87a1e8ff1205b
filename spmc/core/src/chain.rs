//! The loop in which partitions run, and what binds them to each other (DEN0077A v1.2 chapters 8 and 9).
//!
//! A *chain* is the list of vCPUs that wait for each other's answers on one core: its head was entered by the normal
//! world (or by the SPMC), its tail runs. Invariants: before a vCPU's state is published, its registers are in memory; only
//! the core that has claimed the tail of a chain changes the chain.

use crate::calls::{Call, From};
use crate::fault::{Fault, FaultKind};
use crate::machine::{Exit, Machine};
use crate::messaging::is_pinned_elsewhere;
use crate::partition::NormalWorldInterrupts;
use crate::spmc::{Spmc, carries_extended_registers};
use crate::vcpu::{Caller, Model, RunState, VcpuId};
use bulkhead_ffa::{Regs, Status, function, message};

/// What happens after a partition's call was decided.
// A tag of eight bytes: behind one of one byte the registers are copied together with its padding, from an odd address.
#[repr(u64)]
pub(crate) enum Next {
    /// This vCPU runs on; its registers hold the answer.
    Resume(VcpuId),
    /// The chain has ended: this goes to whoever started it.
    Done(Regs),
}

impl Spmc {
    /// Starts a conversation on a claimed vCPU. Normal-world interrupts wait for its end where the manifest says so, where
    /// the SPMC itself scheduled it, and where they wait for the one that it is nested in.
    pub(crate) fn converse(&self, vcpu: VcpuId, caller: Caller, model: Model) {
        let (partition, state) = self.vcpu(vcpu);
        let queued = partition.config().is_some_and(|c| c.normal_world_interrupts == NormalWorldInterrupts::Queued);
        let scheduled = matches!(model, Model::Init | Model::SecureInterrupt | Model::Framework);
        let nested = matches!(caller, Caller::Partition(caller) if self.vcpu(caller).1.holds_interrupts());
        state.converse(caller, model, queued || scheduled || nested);
    }

    /// Runs `vcpu`, and whatever its calls lead to, until the chain ends. `vcpu` is claimed and its registers are set.
    pub(crate) fn run_chain<M: Machine>(&self, machine: &mut M, vcpu: VcpuId) -> Regs {
        self.go_on(machine, vcpu, None)
    }

    /// [`Self::run_chain`] of a vCPU that has run already, and `stopped` for this reason.
    pub(crate) fn go_on<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, stopped: Option<Exit>) -> Regs {
        let reply = self.run_from(machine, vcpu, stopped);
        self.before_leaving(machine);
        machine.leave_to_normal_world();
        reply
    }

    /// What is left to do when a chain has ended.
    pub(crate) fn before_leaving<M: Machine>(&self, machine: &mut M) {
        self.serve_wanted(machine);
        self.raise_delayed_schedule_receiver(machine);
    }

    /// The loop of [`Self::run_chain`]; partition state may be left in this core's registers.
    pub(crate) fn run_to_end<M: Machine>(&self, machine: &mut M, vcpu: VcpuId) -> Regs {
        self.run_from(machine, vcpu, None)
    }

    fn run_from<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, mut stopped: Option<Exit>) -> Regs {
        let mut current = vcpu;
        let mut held = false;
        loop {
            let next = if let Some(exit) = stopped.take() {
                self.decide(machine, current, exit)
            } else if self.vcpu(current).0.has_failed() {
                // Another core ended the partition while this vCPU was in a chain.
                self.end_chain_of_failed(machine, current)
            } else {
                current = self.give_way(machine, current);
                self.raise_lines(machine, current);
                let hold = self.vcpu(current).1.holds_interrupts();
                if hold != held {
                    machine.mask_normal_world_interrupts(hold);
                    // Nobody else takes the core back from it then.
                    machine.set_time_limit(hold.then(|| self.time_limit(current)).flatten());
                    held = hold;
                }
                let exit = machine.run(current);
                self.decide(machine, current, exit)
            };
            match next {
                Next::Resume(vcpu) => current = vcpu,
                Next::Done(reply) => {
                    if held {
                        machine.mask_normal_world_interrupts(false);
                        machine.set_time_limit(None);
                    }
                    return reply;
                }
            }
        }
    }

    /// What follows from the reason why a vCPU stopped.
    #[inline]
    fn decide<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, exit: Exit) -> Next {
        match exit {
            Exit::Call => self.partition_call(machine, vcpu),
            Exit::NormalWorldInterrupt => self.preempt(machine, vcpu),
            Exit::SecureInterrupt => self.secure_interrupt_in_partition(machine, vcpu),
            Exit::Register(access) => self.register_access(machine, vcpu, access),
            Exit::Fault(fault) => self.fail(machine, vcpu, &fault),
        }
    }

    /// The call that a partition has just made, if it is one that neither runs anybody else nor ends anything: puts its answer
    /// where it asked. Otherwise `false`, and nothing is done.
    pub(crate) fn answer_at_once<M: Machine>(&self, machine: &mut M, vcpu: VcpuId) -> bool {
        if !is_answered_at_once(machine.regs(vcpu).function()) {
            return false;
        }
        let regs = *machine.regs(vcpu);
        let call = Call { from: From::Partition(vcpu), regs: &regs };
        self.endpoint(call.from).spoken.lock();
        let answer = self.common_call(machine, &call);
        machine.regs(vcpu).set_message(answer.unwrap_or_else(message::error));
        true
    }

    /// One call of a partition.
    fn partition_call<M: Machine>(&self, machine: &mut M, vcpu: VcpuId) -> Next {
        let regs = *machine.regs(vcpu);
        let call = Call { from: From::Partition(vcpu), regs: &regs };
        let function = call.function();
        if !function::is_ffa(function) {
            let answer = self.paravirtual_call(machine, vcpu, call.regs);
            let regs = machine.regs(vcpu);
            // Everything but x0 to x3 stays (SMCCC 1.1); an unknown call answers -1 (SMCCC table 6.1).
            regs.0[0] = answer;
            regs.0[1..4].fill(0);
            return Next::Resume(vcpu);
        }
        if function != function::VERSION {
            self.endpoint(call.from).spoken.lock();
        }
        let flow = match function {
            function::MSG_WAIT => self.message_wait(machine, vcpu, &call),
            function::MSG_SEND_DIRECT_RESP_32 | function::MSG_SEND_DIRECT_RESP_64 | function::MSG_SEND_DIRECT_RESP2 => self.respond(machine, vcpu, &call),
            function::MSG_SEND_DIRECT_REQ_32 | function::MSG_SEND_DIRECT_REQ_64 | function::MSG_SEND_DIRECT_REQ2 => {
                self.request_from_partition(machine, vcpu, &call)
            }
            function::RUN => self.run_from_partition(machine, vcpu, &call),
            function::YIELD => self.yield_cycles(machine, vcpu, &call),
            function::ERROR | function::ERROR_64 => self.error_from_partition(machine, vcpu, &call),
            function::ABORT_32 | function::ABORT_64 => {
                let fault = Fault { kind: FaultKind::Abort, pc: 0, esr: 0, address: None };
                Ok(self.fail(machine, vcpu, &fault))
            }
            function::PARTITION_INFO_GET_REGS => self.partition_info_get_regs(&call).map(|reply| {
                deliver(machine, vcpu, function, reply);
                Next::Resume(vcpu)
            }),
            _ => self.common_call(machine, &call).map(|reply| {
                machine.regs(vcpu).set_message(reply);
                Next::Resume(vcpu)
            }),
        };
        flow.unwrap_or_else(|status| {
            deliver(machine, vcpu, function, Regs::error(status));
            Next::Resume(vcpu)
        })
    }

    /// The vCPU's conversation has ended: it waits for the next one.
    pub(crate) fn rest<M: Machine>(&self, machine: &mut M, vcpu: VcpuId) {
        let (_, state) = self.vcpu(vcpu);
        let model = state.model();
        self.deactivate_forgotten(machine, vcpu);
        machine.park(vcpu);
        state.publish(RunState::Waiting);
        self.note_left_interrupt(machine, vcpu, model);
    }

    /// Ends a conversation with `reply`: the vCPU waits again, its caller goes on.
    pub(crate) fn finish<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, reply: Regs) -> Next {
        let (_, state) = self.vcpu(vcpu);
        let caller = state.caller();
        self.end_managed_exit(vcpu);
        self.rest(machine, vcpu);
        match caller {
            Caller::Partition(caller) => self.answer_partition(machine, caller, 0, reply),
            // Its requester has failed; the normal world only resumed it.
            Caller::NormalWorld(requester) if requester.is_secure() => Next::Done(Regs::error(Status::Aborted)),
            _ => Next::Done(reply),
        }
    }

    /// Gives `reply` to a partition that is blocked on an answer.
    pub(crate) fn answer_partition<M: Machine>(&self, machine: &mut M, caller: VcpuId, call: u32, reply: Regs) -> Next {
        let (_, state) = self.vcpu(caller);
        state.set_callee(None);
        let _ = state.claim(RunState::Blocked);
        deliver(machine, caller, call, reply);
        Next::Resume(caller)
    }

    /// A vCPU that this core took off for something else, and now goes on with.
    /// `handler` is what it was taken off for: its own time goes on from where that began.
    pub(crate) fn take_back<M: Machine>(&self, machine: &mut M, handler: VcpuId, vcpu: VcpuId) -> VcpuId {
        if self.vcpu(vcpu).1.holds_interrupts() {
            machine.resume_time_limit(self.vcpu(handler).1.time_left_to_caller());
        }
        // Nobody else claims it: it was published as preempted with a caller that FFA_RUN refuses, or stayed claimed.
        let _ = self.vcpu(vcpu).1.claim(RunState::Preempted);
        vcpu
    }

    /// A non-secure interrupt while a partition runs: the whole chain stops and the normal world gets the core, unless the
    /// partition, or one that waits for its answer, is first asked to end its request.
    fn preempt<M: Machine>(&self, machine: &mut M, vcpu: VcpuId) -> Next {
        let (_, state) = self.vcpu(vcpu);
        // Where they are held, this one got in before the mask did.
        if state.holds_interrupts() || self.request_managed_exit(vcpu) {
            return Next::Resume(vcpu);
        }
        if let Some(caller) = self.request_managed_exit_of_callers(machine, vcpu) {
            return Next::Resume(caller);
        }
        let head = self.head_of_chain(vcpu);
        machine.leave_to_normal_world();
        state.publish(RunState::Preempted);
        Next::Done(Regs::new(&[u64::from(function::INTERRUPT), self.target_info(head)]))
    }

    /// Follows callees from `head`; at most one step for each partition, as no partition occurs twice in a chain.
    pub(crate) fn tail_of_chain(&self, head: VcpuId) -> VcpuId {
        let mut at = head;
        for _ in 0..crate::MAX_PARTITIONS {
            match self.vcpu(at).1.callee() {
                Some(callee) if self.vcpu(at).1.state() == RunState::Blocked => at = callee,
                _ => break,
            }
        }
        at
    }

    /// The vCPUs of a chain from `tail` to its head: nobody occurs twice, so they end within the number of partitions.
    fn chain_up_from(&self, tail: VcpuId) -> impl Iterator<Item = VcpuId> {
        let above = |at: &VcpuId| match self.vcpu(*at).1.caller() {
            Caller::Partition(caller) | Caller::Interrupted(caller) => Some(caller),
            _ => None,
        };
        core::iter::successors(Some(tail), above).take(crate::MAX_PARTITIONS + 1)
    }

    pub(crate) fn head_of_chain(&self, vcpu: VcpuId) -> VcpuId {
        self.chain_up_from(vcpu).last().unwrap_or(vcpu)
    }

    /// Whether all vCPUs of the chain may run on `core`.
    pub(crate) fn chain_may_run_on(&self, tail: VcpuId, core: usize) -> bool {
        self.chain_up_from(tail).all(|at| !self.config_of(at).is_some_and(|config| is_pinned_elsewhere(config, at, core)))
    }

    /// Whether a request of `caller` to `vcpu` would close a circle: `vcpu` goes on only when `caller` has.
    pub(crate) fn closes_circle(&self, vcpu: VcpuId, caller: Caller) -> bool {
        match caller {
            Caller::Partition(caller) | Caller::Interrupted(caller) => self.chain_up_from(caller).any(|at| at == vcpu),
            _ => false,
        }
    }

    /// Ends a partition and answers those who wait for it.
    pub(crate) fn fail<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, fault: &Fault) -> Next {
        let (partition, _) = self.vcpu(vcpu);
        if partition.fail() {
            machine.report_fault(vcpu, fault);
            self.clean_up_after(machine, vcpu.partition);
        }
        self.end_chain_of_failed(machine, vcpu)
    }

    /// Unwinds one link: the failed vCPU's caller gets ABORTED.
    fn end_chain_of_failed<M: Machine>(&self, machine: &mut M, vcpu: VcpuId) -> Next {
        let (_, state) = self.vcpu(vcpu);
        machine.park(vcpu);
        state.publish(RunState::Off);
        match state.caller() {
            Caller::Partition(caller) => self.answer_partition(machine, caller, 0, Regs::error(Status::Aborted)),
            Caller::Interrupted(interrupted) => Next::Resume(self.take_back(machine, vcpu, interrupted)),
            Caller::InterruptedNormalWorld => Next::Done(Regs::new(&[u64::from(function::NORMAL_WORLD_RESUME)])),
            _ => Next::Done(Regs::error(Status::Aborted)),
        }
    }
}

/// Calls of partitions that [`Spmc::common_call`] answers, of those that are frequent while a request is processed.
const fn is_answered_at_once(function: u32) -> bool {
    matches!(
        function,
        function::FEATURES
            | function::ID_GET
            | function::RX_RELEASE
            | function::MSG_SEND2
            | function::MEM_SHARE_32
            | function::MEM_SHARE_64
            | function::MEM_RETRIEVE_REQ_32
            | function::MEM_RETRIEVE_REQ_64
            | function::MEM_RELINQUISH
            | function::MEM_RECLAIM
            | function::NOTIFICATION_SET
            | function::NOTIFICATION_GET
            | function::CONSOLE_LOG_32
            | function::CONSOLE_LOG_64
    )
}

/// Writes an answer or a message into a claimed vCPU's registers; `call` is the call that it answers.
pub(crate) fn deliver<M: Machine>(machine: &mut M, vcpu: VcpuId, call: u32, reply: Regs) {
    let extended = carries_extended_registers(call, reply.function());
    let regs = machine.regs(vcpu);
    regs.0[..8].copy_from_slice(&reply.0[..8]);
    if extended {
        regs.0[8..].copy_from_slice(&reply.0[8..]);
    }
}
