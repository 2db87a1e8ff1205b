//! Direct messages, FFA_RUN, FFA_YIELD, FFA_MSG_WAIT (DEN0077A v1.2 chapters 7, 8 and 15), and the loop in which
//! partitions run.
//!
//! A *chain* is the list of vCPUs that wait for each other's answers on one core: its head was entered by the normal
//! world (or by the SPMC), its tail runs. Invariant: before a vCPU's state is published, its registers are in memory.

use crate::calls::{Call, From};
use crate::fault::{Fault, FaultKind};
use crate::machine::{Exit, Machine};
use crate::partition::{Methods, NormalWorldInterrupts, PartitionConfig};
use crate::spmc::{Spmc, UNKNOWN, carries_extended_registers};
use crate::vcpu::{Caller, Model, RunState, Vcpu, VcpuId};
use bulkhead_ffa::{EndpointId, Regs, Status, Version, function};

/// What happens after a partition's call was decided.
pub(crate) enum Next {
    /// This vCPU runs on; its registers hold the answer.
    Resume(VcpuId),
    /// The chain has ended: this goes to whoever started it.
    Done(Regs),
}

impl Spmc {
    /// FFA_MSG_SEND_DIRECT_REQ and REQ2 from the normal world.
    pub(crate) fn request_from_normal_world<M: Machine>(&self, machine: &mut M, call: &Call) -> Result<Regs, Status> {
        let (sender, receiver) = call.sender_receiver();
        if sender.is_secure() || sender == receiver {
            return Err(Status::InvalidParameters);
        }
        let target = self.accept_request(machine, call, receiver)?;
        self.begin_request(machine, target, Caller::NormalWorld(sender), &call.regs);
        Ok(self.run_chain(machine, target))
    }

    /// Everything that a direct request must satisfy whoever sends it; claims the receiver's vCPU.
    fn accept_request<M: Machine>(&self, machine: &M, call: &Call, receiver: EndpointId) -> Result<VcpuId, Status> {
        let direct2 = call.function() == function::MSG_SEND_DIRECT_REQ2;
        let (index, partition, config) = self.find(receiver).ok_or(Status::InvalidParameters)?;
        if !direct2 && call.regs.w(2) != 0 {
            return Err(Status::InvalidParameters);
        }
        let method = if direct2 { Methods::DIRECT2_RECEIVE } else { Methods::DIRECT_RECEIVE };
        if !config.methods.has(method) {
            return Err(Status::Denied);
        }
        if partition.has_failed() {
            return Err(Status::Aborted);
        }
        let target = VcpuId { partition: index, index: vcpu_on(config, machine.core()) };
        match self.vcpu(target).1.claim(RunState::Waiting) {
            Ok(()) => Ok(target),
            Err(_) if partition.has_failed() => Err(Status::Aborted),
            // It will never be ready: it has no execution context here, or is not initialised yet.
            Err(RunState::Off) => Err(Status::Denied),
            Err(_) => Err(Status::Busy),
        }
    }

    /// Hands a request to a claimed vCPU.
    fn begin_request<M: Machine>(&self, machine: &mut M, target: VcpuId, caller: Caller, regs: &Regs) {
        let model = match regs.function() {
            function::MSG_SEND_DIRECT_REQ2 => Model::Direct2,
            function::MSG_SEND_DIRECT_REQ_64 => Model::Direct64,
            _ => Model::Direct32,
        };
        self.converse(target, caller, model);
        deliver(machine, target, 0, message(regs));
    }

    /// Starts a conversation on a claimed vCPU. Normal-world interrupts wait for its end where the manifest says so, where
    /// the SPMC itself scheduled it, and where they wait for the one that it is nested in.
    pub(crate) fn converse(&self, vcpu: VcpuId, caller: Caller, model: Model) {
        let (partition, state) = self.vcpu(vcpu);
        let queued = partition.config().is_some_and(|c| c.normal_world_interrupts == NormalWorldInterrupts::Queued);
        let scheduled = matches!(model, Model::Init | Model::SecureInterrupt | Model::Framework);
        let nested = matches!(caller, Caller::Partition(caller) if self.vcpu(caller).1.holds_interrupts());
        state.converse(caller, model, queued || scheduled || nested);
    }

    /// FFA_RUN from the normal world.
    pub(crate) fn run_from_normal_world<M: Machine>(&self, machine: &mut M, call: &Call) -> Result<Regs, Status> {
        let (target, config) = self.run_target(call)?;
        let (partition, state) = self.vcpu(target);
        // A partition with a vCPU for each core has them pinned.
        if config.vcpus > 1 && usize::from(target.index) != machine.core() {
            return Err(Status::InvalidParameters);
        }
        let ours = |state: &Vcpu| matches!(state.caller(), Caller::NormalWorld(_));
        match state.state() {
            RunState::Waiting | RunState::Off if partition.has_failed() => Err(Status::Aborted),
            RunState::Waiting => {
                state.claim(RunState::Waiting).map_err(|_| Status::Busy)?;
                self.converse(target, Caller::NormalWorld(EndpointId::HYPERVISOR), Model::Run);
                deliver(machine, target, 0, Regs::new(&[u64::from(function::RUN), u64::from(call.regs.w(1))]));
                Ok(self.run_chain(machine, target))
            }
            RunState::Preempted | RunState::Blocked | RunState::Yielded if !ours(state) => Err(Status::Denied),
            // Also when the partition has failed meanwhile: the chain below it must end.
            RunState::Preempted | RunState::Blocked => {
                let tail = self.tail_of_chain(target);
                let (_, tail_state) = self.vcpu(tail);
                tail_state.claim(RunState::Preempted).map_err(|_| Status::Busy)?;
                // Whoever claimed the tail holds the whole chain: only now it is certain whose tail it is.
                if self.head_of_chain(tail) != target || !ours(state) {
                    tail_state.publish(RunState::Preempted);
                    return Err(Status::Busy);
                }
                Ok(self.run_chain(machine, tail))
            }
            RunState::Yielded => {
                state.claim(RunState::Yielded).map_err(|_| Status::Busy)?;
                if !ours(state) {
                    state.publish(RunState::Yielded);
                    return Err(Status::Denied);
                }
                deliver(machine, target, function::YIELD, Regs::success(&[]));
                Ok(self.run_chain(machine, target))
            }
            RunState::Running => Err(Status::Busy),
            RunState::Off => Err(Status::Denied),
        }
    }

    fn run_target(&self, call: &Call) -> Result<(VcpuId, &PartitionConfig), Status> {
        let (id, vcpu) = call.sender_receiver();
        let (index, _, config) = self.find(id).ok_or(Status::InvalidParameters)?;
        if vcpu.0 >= u16::from(config.vcpus) {
            return Err(Status::InvalidParameters);
        }
        call.zero(2..=7)?;
        Ok((VcpuId { partition: index, index: vcpu.0 as u8 }, config))
    }

    /// Follows callees from `head`; at most one step for each partition, as no partition occurs twice in a chain.
    fn tail_of_chain(&self, head: VcpuId) -> VcpuId {
        let mut at = head;
        for _ in 0..crate::MAX_PARTITIONS {
            match self.vcpu(at).1.callee() {
                Some(callee) if self.vcpu(at).1.state() == RunState::Blocked => at = callee,
                _ => break,
            }
        }
        at
    }

    /// Runs `vcpu`, and whatever its calls lead to, until the chain ends. `vcpu` is claimed and its registers are set.
    pub(crate) fn run_chain<M: Machine>(&self, machine: &mut M, vcpu: VcpuId) -> Regs {
        let reply = self.run_to_end(machine, vcpu);
        self.serve_left_interrupts(machine);
        self.raise_delayed_schedule_receiver(machine);
        machine.leave_to_normal_world();
        reply
    }

    /// The loop of [`Self::run_chain`]; partition state may be left in this core's registers.
    pub(crate) fn run_to_end<M: Machine>(&self, machine: &mut M, vcpu: VcpuId) -> Regs {
        let mut current = vcpu;
        let mut held = false;
        loop {
            let next = if self.vcpu(current).0.has_failed() {
                // Another core ended the partition while this vCPU was in a chain.
                self.end_chain_of_failed(machine, current)
            } else {
                self.raise_lines(machine, current);
                let hold = self.vcpu(current).1.holds_interrupts();
                if hold != held {
                    machine.mask_normal_world_interrupts(hold);
                    held = hold;
                }
                match machine.run(current) {
                    Exit::Call => self.partition_call(machine, current),
                    Exit::NormalWorldInterrupt => self.preempt(machine, current),
                    Exit::SecureInterrupt => self.secure_interrupt_in_partition(machine, current),
                    Exit::Fault(fault) => self.fail(machine, current, &fault),
                }
            };
            match next {
                Next::Resume(vcpu) => current = vcpu,
                Next::Done(reply) => {
                    if held {
                        machine.mask_normal_world_interrupts(false);
                    }
                    return reply;
                }
            }
        }
    }

    /// One call of a partition.
    fn partition_call<M: Machine>(&self, machine: &mut M, vcpu: VcpuId) -> Next {
        let call = Call { from: From::Partition(vcpu), regs: *machine.regs(vcpu) };
        let function = call.function();
        if !function::is_ffa(function) {
            let answer = self.paravirtual_call(machine, vcpu, &call.regs);
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
            function::YIELD => self.yield_cycles(machine, vcpu),
            function::ERROR | function::ERROR_64 => self.error_from_partition(machine, vcpu, &call),
            function::ABORT_32 | function::ABORT_64 => {
                let fault = Fault { kind: FaultKind::Abort, pc: 0, esr: 0, address: None };
                Ok(self.fail(machine, vcpu, &fault))
            }
            _ => {
                let reply = self.common_call(machine, &call);
                reply.map(|reply| {
                    deliver(machine, vcpu, function, reply);
                    Next::Resume(vcpu)
                })
            }
        };
        flow.unwrap_or_else(|status| {
            deliver(machine, vcpu, function, Regs::error(status));
            Next::Resume(vcpu)
        })
    }

    /// FFA_MSG_WAIT, section 15.1 of the specification.
    fn message_wait<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, call: &Call) -> Result<Next, Status> {
        let (partition, state) = self.vcpu(vcpu);
        // w2 bit 0 (v1.2): keep the RX buffer.
        let retain = self.version(call.from) >= Version::V1_2 && call.regs.w(2) == 1;
        call.zero(1..=1)?;
        if !retain {
            call.zero(2..=2)?;
        }
        call.zero(3..=7)?;
        if state.model().is_direct() || state.model() == Model::Framework {
            return Err(Status::Denied);
        }
        if !retain {
            partition.endpoint.mailbox.lock().release();
        }
        let caller = state.caller();
        if state.model() == Model::Init {
            partition.initialised.store(true, core::sync::atomic::Ordering::Release);
        }
        // S-EL0 partitions have no interrupt line: what is pending takes the place of the wait.
        if let Some(next) = self.pending_interrupt_message(machine, vcpu) {
            return Ok(next);
        }
        self.rest(machine, vcpu);
        Ok(match caller {
            Caller::Boot | Caller::Framework => Next::Done(Regs::success(&[])),
            Caller::NormalWorld(_) => Next::Done(Regs::new(&[u64::from(function::MSG_WAIT), 0])),
            Caller::InterruptedNormalWorld => Next::Done(Regs::new(&[u64::from(function::NORMAL_WORLD_RESUME)])),
            Caller::Interrupted(vcpu) => Next::Resume(self.take_back(vcpu)),
            Caller::Partition(caller) => {
                let wait = Regs::new(&[u64::from(function::MSG_WAIT)]);
                self.answer_partition(machine, caller, function::RUN, wait)
            }
        })
    }

    /// The vCPU's conversation has ended: it waits for the next one.
    fn rest<M: Machine>(&self, machine: &mut M, vcpu: VcpuId) {
        let (_, state) = self.vcpu(vcpu);
        let model = state.model();
        machine.park(vcpu);
        state.publish(RunState::Waiting);
        self.note_left_interrupt(machine, vcpu, model);
    }

    /// A vCPU that this core took off for something else, and now goes on with.
    fn take_back(&self, vcpu: VcpuId) -> VcpuId {
        // Nobody else claims it: it was published as preempted with a caller that FFA_RUN refuses, or stayed claimed.
        let _ = self.vcpu(vcpu).1.claim(RunState::Preempted);
        vcpu
    }

    /// Gives `reply` to a partition that is blocked on an answer.
    fn answer_partition<M: Machine>(&self, machine: &mut M, caller: VcpuId, call: u32, reply: Regs) -> Next {
        let (_, state) = self.vcpu(caller);
        state.set_callee(None);
        let _ = state.claim(RunState::Blocked);
        deliver(machine, caller, call, reply);
        Next::Resume(caller)
    }

    /// FFA_MSG_SEND_DIRECT_RESP and RESP2.
    fn respond<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, call: &Call) -> Result<Next, Status> {
        let (_, state) = self.vcpu(vcpu);
        let (sender, receiver) = call.sender_receiver();
        let own = self.id(call.from);
        let model = state.model();
        let expected = match call.function() {
            function::MSG_SEND_DIRECT_RESP2 => Model::Direct2,
            function::MSG_SEND_DIRECT_RESP_64 => Model::Direct64,
            _ => Model::Direct32,
        };
        if model == Model::Init {
            let fault = Fault { kind: FaultKind::BadInitEnd(call.function()), pc: 0, esr: 0, address: None };
            return Ok(self.fail(machine, vcpu, &fault));
        }
        let framework = model == Model::Framework;
        if !(model.is_direct() || framework) {
            return Err(Status::Denied);
        }
        let requester = match state.caller() {
            Caller::NormalWorld(id) => id,
            Caller::Partition(caller) => self.id(From::Partition(caller)),
            _ => EndpointId::SPMC,
        };
        if sender != own || receiver != requester {
            return Err(Status::InvalidParameters);
        }
        if framework {
            // The response's content is the lifecycle module's to judge.
            let reply = message(&call.regs);
            self.rest(machine, vcpu);
            return Ok(Next::Done(reply));
        }
        if expected != model {
            return Err(Status::Denied);
        }
        let reserved = if model == Model::Direct2 { call.regs.0[2] | call.regs.0[3] } else { u64::from(call.regs.w(2)) };
        if reserved != 0 {
            return Err(Status::InvalidParameters);
        }
        Ok(self.finish(machine, vcpu, message(&call.regs)))
    }

    /// Ends a conversation with `reply`: the vCPU waits again, its caller goes on.
    fn finish<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, reply: Regs) -> Next {
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

    /// FFA_ERROR from a partition: its answer to a request it could not serve, or the end of its initialisation.
    fn error_from_partition<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, call: &Call) -> Result<Next, Status> {
        let (_, state) = self.vcpu(vcpu);
        match state.model() {
            Model::Init => {
                let fault = Fault { kind: FaultKind::InitError(call.regs.w(2) as i32), pc: 0, esr: 0, address: None };
                Ok(self.fail(machine, vcpu, &fault))
            }
            model if model.is_direct() => {
                let reply = Regs::new(&[u64::from(function::ERROR), 0, u64::from(call.regs.w(2))]);
                Ok(self.finish(machine, vcpu, reply))
            }
            Model::Framework => {
                self.rest(machine, vcpu);
                Ok(Next::Done(Regs::error(Status::Denied)))
            }
            _ => Err(Status::Denied),
        }
    }

    /// FFA_MSG_SEND_DIRECT_REQ and REQ2 from a partition to another.
    fn request_from_partition<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, call: &Call) -> Result<Next, Status> {
        let (sender, receiver) = call.sender_receiver();
        let config = self.config_of(vcpu).ok_or(UNKNOWN)?;
        if sender != config.id || receiver == sender {
            return Err(Status::InvalidParameters);
        }
        // Secure partitions do not request from the normal world (section 7.4).
        if !receiver.is_secure() {
            return Err(Status::Denied);
        }
        let method = if call.function() == function::MSG_SEND_DIRECT_REQ2 { Methods::DIRECT2_SEND } else { Methods::DIRECT_SEND };
        if !config.methods.has(method) {
            return Err(Status::Denied);
        }
        let (_, state) = self.vcpu(vcpu);
        if matches!(state.model(), Model::SecureInterrupt | Model::Framework) {
            return Err(Status::Denied);
        }
        let target = self.accept_request(machine, call, receiver)?;
        state.set_callee(Some(target));
        self.begin_request(machine, target, Caller::Partition(vcpu), &call.regs);
        state.publish_blocked();
        Ok(Next::Resume(target))
    }

    /// FFA_RUN from a partition: only for a callee that yielded to it.
    fn run_from_partition<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, call: &Call) -> Result<Next, Status> {
        let (target, _) = self.run_target(call)?;
        let (partition, state) = self.vcpu(target);
        if partition.has_failed() {
            return Err(Status::Aborted);
        }
        let ours = || state.caller() == Caller::Partition(vcpu);
        if !ours() || state.claim(RunState::Yielded).is_err() {
            return Err(Status::Denied);
        }
        if !ours() {
            state.publish(RunState::Yielded);
            return Err(Status::Denied);
        }
        deliver(machine, target, function::YIELD, Regs::success(&[]));
        let (_, own) = self.vcpu(vcpu);
        own.set_callee(Some(target));
        own.publish_blocked();
        Ok(Next::Resume(target))
    }

    /// FFA_YIELD.
    fn yield_cycles<M: Machine>(&self, machine: &mut M, vcpu: VcpuId) -> Result<Next, Status> {
        let (_, state) = self.vcpu(vcpu);
        let target_info = self.target_info(vcpu);
        let reply = Regs::new(&[u64::from(function::YIELD), target_info]);
        match state.caller() {
            Caller::NormalWorld(_) => {
                machine.leave_to_normal_world();
                state.publish(RunState::Yielded);
                Ok(Next::Done(reply))
            }
            Caller::Partition(caller) => {
                machine.park(vcpu);
                state.publish(RunState::Yielded);
                Ok(self.answer_partition(machine, caller, 0, reply))
            }
            _ => Err(Status::Denied),
        }
    }

    /// A non-secure interrupt while a partition runs: the whole chain stops and the normal world gets the core, unless the
    /// partition is first asked to end its request.
    fn preempt<M: Machine>(&self, machine: &mut M, vcpu: VcpuId) -> Next {
        let (_, state) = self.vcpu(vcpu);
        // Where they are held, this one got in before the mask did.
        if state.holds_interrupts() || self.request_managed_exit(vcpu) {
            return Next::Resume(vcpu);
        }
        let head = self.head_of_chain(vcpu);
        machine.leave_to_normal_world();
        state.publish(RunState::Preempted);
        Next::Done(Regs::new(&[u64::from(function::INTERRUPT), self.target_info(head)]))
    }

    pub(crate) fn head_of_chain(&self, vcpu: VcpuId) -> VcpuId {
        let mut at = vcpu;
        for _ in 0..=crate::MAX_PARTITIONS {
            match self.vcpu(at).1.caller() {
                Caller::Partition(caller) | Caller::Interrupted(caller) => at = caller,
                _ => break,
            }
        }
        at
    }

    /// w1 of FFA_INTERRUPT, FFA_YIELD and FFA_RUN: endpoint in the upper half, vCPU in the lower.
    pub(crate) fn target_info(&self, vcpu: VcpuId) -> u64 {
        u64::from(self.id(From::Partition(vcpu)).0) << 16 | u64::from(vcpu.index)
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
            Caller::Interrupted(vcpu) => Next::Resume(self.take_back(vcpu)),
            Caller::InterruptedNormalWorld => Next::Done(Regs::new(&[u64::from(function::NORMAL_WORLD_RESUME)])),
            _ => Next::Done(Regs::error(Status::Aborted)),
        }
    }
}

/// The execution context that serves core `core`: pinned for multiprocessor partitions, the only one otherwise.
pub(crate) fn vcpu_on(config: &PartitionConfig, core: usize) -> u8 {
    if config.vcpus > 1 { core as u8 } else { 0 }
}

/// A message as its receiver sees it: a 32-bit one has no upper halves, and only REQ2 and RESP2 have x8 to x17.
fn message(regs: &Regs) -> Regs {
    let function = regs.function();
    let mut out = *regs;
    out.0[0] = u64::from(function);
    if matches!(function, function::MSG_SEND_DIRECT_REQ2 | function::MSG_SEND_DIRECT_RESP2) {
        return out;
    }
    out.0[1] &= 0xffff_ffff;
    out.0[2] &= 0xffff_ffff;
    if !function::is_64_bit(function) {
        for x in &mut out.0[3..8] {
            *x &= 0xffff_ffff;
        }
    }
    out.0[8..].fill(0);
    out
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
