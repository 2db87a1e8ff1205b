//! Direct messages, FFA_RUN, FFA_YIELD and FFA_MSG_WAIT (DEN0077A v1.2 chapters 7, 8 and 15): who may make them when, and
//! what they do to the chain of vCPUs that they are made in ([`crate::chain`]).

use crate::calls::{Call, From};
use crate::chain::{Next, deliver};
use crate::fault::{Fault, FaultKind};
use crate::machine::Machine;
use crate::lifecycle::framework;
use crate::partition::{Methods, PartitionConfig};
use crate::spmc::{Spmc, UNKNOWN};
use crate::vcpu::{Caller, Model, RunState, Vcpu, VcpuId};
use bulkhead_ffa::{EndpointId, Regs, Status, Uuid, Version, function};

impl Spmc {
    /// FFA_MSG_SEND_DIRECT_REQ and REQ2 from the normal world.
    pub(crate) fn request_from_normal_world<M: Machine>(&self, machine: &mut M, call: &Call) -> Result<Regs, Status> {
        self.has_convention(call)?;
        let (sender, receiver) = call.sender_receiver();
        if sender.is_secure() || sender == receiver {
            return Err(Status::InvalidParameters);
        }
        let caller = Caller::NormalWorld(sender);
        let target = self.accept_request(machine, call, receiver, caller)?;
        self.begin_request(machine, target, caller, call.regs);
        Ok(self.run_chain(machine, target))
    }

    /// REQ2 and RESP2 came with v1.2.
    fn has_convention(&self, call: &Call) -> Result<(), Status> {
        let second = matches!(call.function(), function::MSG_SEND_DIRECT_REQ2 | function::MSG_SEND_DIRECT_RESP2);
        if second && self.version(call.from) < Version::V1_2 { Err(UNKNOWN) } else { Ok(()) }
    }

    /// Everything that a direct request must satisfy whoever sends it; claims the receiver's vCPU.
    fn accept_request<M: Machine>(&self, machine: &M, call: &Call, receiver: EndpointId, caller: Caller) -> Result<VcpuId, Status> {
        let direct2 = call.function() == function::MSG_SEND_DIRECT_REQ2;
        let (index, partition, config) = self.find(receiver).ok_or(Status::InvalidParameters)?;
        if !direct2 && call.regs.w(2) != 0 && !is_wanted_vm_message(call, config) {
            return Err(Status::InvalidParameters);
        }
        // x2 and x3 name a service of the receiver, or none.
        let service = Uuid::from_doublewords(call.regs.0[2], call.regs.0[3]);
        if direct2 && service != Uuid::NIL && !config.services.iter().any(|s| s.uuid == service) {
            return Err(Status::InvalidParameters);
        }
        let method = if direct2 { Methods::DIRECT2_RECEIVE } else { Methods::DIRECT_RECEIVE };
        if !config.methods.has(method) || direct2 && partition.endpoint.spoken.version() < Version::V1_2 {
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
            // It runs for a scheduler and waits for the caller itself: no retry helps (section 8.2, rule 1). One that
            // processes a request is busy with it.
            Err(_) if !self.vcpu(target).1.model().is_direct() && self.closes_circle(target, caller) => Err(Status::Denied),
            Err(_) => Err(Status::Busy),
        }
    }

    /// Hands a request to a claimed vCPU.
    fn begin_request<M: Machine>(&self, machine: &mut M, target: VcpuId, caller: Caller, regs: &Regs) {
        let model = match regs.function() {
            function::MSG_SEND_DIRECT_REQ2 => Model::Direct2,
            function::MSG_SEND_DIRECT_REQ_64 => Model::Direct64,
            _ if regs.w(2) != 0 => Model::VmMessage,
            _ => Model::Direct32,
        };
        self.converse(target, caller, model);
        deliver(machine, target, 0, message(regs));
    }

    /// FFA_RUN from the normal world.
    pub(crate) fn run_from_normal_world<M: Machine>(&self, machine: &mut M, call: &Call) -> Result<Regs, Status> {
        let (target, config) = self.run_target(call)?;
        let (partition, state) = self.vcpu(target);
        if is_pinned_elsewhere(config, target, machine.core()) {
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
                if !self.chain_may_run_on(tail, machine.core()) {
                    tail_state.publish(RunState::Preempted);
                    return Err(Status::Denied);
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
        Ok((VcpuId { partition: index, index: vcpu.0 as u8 }, config))
    }

    /// FFA_MSG_WAIT, section 15.1 of the specification.
    pub(crate) fn message_wait<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, call: &Call) -> Result<Next, Status> {
        let (partition, state) = self.vcpu(vcpu);
        // w2 bit 0 (v1.2): keep the RX buffer.
        let retain = self.version(call.from) >= Version::V1_2 && call.regs.w(2) == 1;
        call.zero(1..=1)?;
        if !retain {
            call.zero(2..=2)?;
        }
        call.zero(3..=7)?;
        if state.model().is_direct() || state.model() == Model::Framework || state.callee().is_some() {
            return Err(Status::Denied);
        }
        if !retain {
            partition.endpoint.mailbox.release();
        }
        let caller = state.caller();
        if state.model() == Model::Init {
            partition.initialised.store(true, crate::sync::atomic::Ordering::Release);
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
            Caller::Interrupted(interrupted) => Next::Resume(self.take_back(machine, vcpu, interrupted)),
            Caller::Partition(caller) => {
                let wait = Regs::new(&[u64::from(function::MSG_WAIT)]);
                self.answer_partition(machine, caller, function::RUN, wait)
            }
        })
    }

    /// FFA_MSG_SEND_DIRECT_RESP and RESP2.
    pub(crate) fn respond<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, call: &Call) -> Result<Next, Status> {
        self.has_convention(call)?;
        let (_, state) = self.vcpu(vcpu);
        let (sender, receiver) = call.sender_receiver();
        let own = self.id(call.from);
        let model = state.model();
        let expected = match call.function() {
            function::MSG_SEND_DIRECT_RESP2 => Model::Direct2,
            function::MSG_SEND_DIRECT_RESP_64 => Model::Direct64,
            _ if model == Model::VmMessage => model,
            _ => Model::Direct32,
        };
        if model == Model::Init {
            let fault = Fault { kind: FaultKind::BadInitEnd(call.function()), pc: 0, esr: 0, address: None };
            return Ok(self.fail(machine, vcpu, &fault));
        }
        let framework = model == Model::Framework;
        // It has to go on with a callee that its interrupt took the core from, but not to make a managed exit.
        let leaves = state.callee().filter(|_| self.is_to_exit(vcpu) && state.left().is_none());
        if !(model.is_direct() || framework) || state.callee() != leaves {
            return Err(Status::Denied);
        }
        let requester = match state.caller() {
            Caller::NormalWorld(id) => id,
            Caller::Partition(caller) => self.id(From::Partition(caller)),
            _ => EndpointId::SPMC,
        };
        if sender != own || receiver == own {
            return Err(Status::InvalidParameters);
        }
        // Only who allocated the cycles gets an answer (section 8.2, rule 3).
        if receiver != requester {
            return Err(Status::Denied);
        }
        if framework {
            // Only a framework message answers one. What it says is the lifecycle module's to judge.
            if call.regs.w(2) & framework::MESSAGE == 0 {
                return Err(Status::Denied);
            }
            let reply = message(call.regs);
            self.rest(machine, vcpu);
            return Ok(Next::Done(reply));
        }
        if expected != model {
            return Err(Status::Denied);
        }
        let w2 = call.regs.w(2);
        if model == Model::VmMessage && w2 & framework::MESSAGE == 0 {
            return Err(Status::Denied);
        }
        let reserved = match model {
            Model::Direct2 => call.regs.0[2] | call.regs.0[3],
            // What it answers is for the hypervisor to understand.
            Model::VmMessage => 0,
            _ => u64::from(w2),
        };
        if reserved != 0 {
            return Err(Status::InvalidParameters);
        }
        if leaves.is_some() {
            // FFA_RUN goes on with it, in a later conversation.
            state.set_left(leaves);
            state.set_callee(None);
        }
        Ok(self.finish(machine, vcpu, message(call.regs)))
    }

    /// FFA_ERROR from a partition: its answer to a request it could not serve, or the end of its initialisation.
    pub(crate) fn error_from_partition<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, call: &Call) -> Result<Next, Status> {
        let (_, state) = self.vcpu(vcpu);
        match state.model() {
            Model::Init => {
                let fault = Fault { kind: FaultKind::InitError(call.regs.w(2) as i32), pc: 0, esr: 0, address: None };
                Ok(self.fail(machine, vcpu, &fault))
            }
            model if model.is_direct() && state.callee().is_none() => {
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
    pub(crate) fn request_from_partition<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, call: &Call) -> Result<Next, Status> {
        self.has_convention(call)?;
        let (sender, receiver) = call.sender_receiver();
        let config = self.config_of(vcpu).ok_or(UNKNOWN)?;
        if sender != config.id || receiver == sender {
            return Err(Status::InvalidParameters);
        }
        // Secure partitions send no framework messages, and do not request from the normal world (section 7.4): none of its
        // endpoints is a receiver for them.
        if call.function() != function::MSG_SEND_DIRECT_REQ2 && call.regs.w(2) != 0 {
            return Err(Status::InvalidParameters);
        }
        if !receiver.is_secure() {
            return Err(Status::InvalidParameters);
        }
        let method = if call.function() == function::MSG_SEND_DIRECT_REQ2 { Methods::DIRECT2_SEND } else { Methods::DIRECT_SEND };
        if !config.methods.has(method) {
            return Err(Status::Denied);
        }
        let (_, state) = self.vcpu(vcpu);
        if state.model() == Model::Framework || state.callee().is_some() {
            return Err(Status::Denied);
        }
        let target = self.accept_request(machine, call, receiver, Caller::Partition(vcpu))?;
        state.set_callee(Some(target));
        self.begin_request(machine, target, Caller::Partition(vcpu), call.regs);
        state.publish_blocked();
        Ok(Next::Resume(target))
    }

    /// The vCPU of `vcpu`'s partition that left `target` behind at its managed exit: a thread of a Secure OS goes on wherever the
    /// normal world resumes it, and its callee with it.
    fn leaver(&self, vcpu: VcpuId, target: VcpuId) -> Option<&Vcpu> {
        let Caller::Partition(caller) = self.vcpu(target).1.caller() else { return None };
        let (_, state) = self.vcpu(caller);
        (caller.partition == vcpu.partition && state.left() == Some(target)).then_some(state)
    }

    /// FFA_RUN from a partition: for a callee that yielded to it, or that an interrupt took the core from in its favour.
    pub(crate) fn run_from_partition<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, call: &Call) -> Result<Next, Status> {
        // Whoever schedules the normal world's endpoints, a partition does not.
        if !call.sender_receiver().0.is_secure() {
            return Err(Status::Denied);
        }
        let (target, config) = self.run_target(call)?;
        let (partition, state) = self.vcpu(target);
        let (_, own) = self.vcpu(vcpu);
        let interrupted = own.callee() == Some(target);
        let leaver = self.leaver(vcpu, target);
        if partition.has_failed() {
            match leaver {
                Some(leaver) => leaver.set_left(None),
                None if interrupted => own.set_callee(None),
                None => {}
            }
            return Err(Status::Aborted);
        }
        if is_pinned_elsewhere(config, target, machine.core()) {
            return Err(Status::InvalidParameters);
        }
        let ours = || state.caller() == Caller::Partition(vcpu);
        let (tail, from) = match interrupted || leaver.is_some() {
            true => (self.tail_of_chain(target), RunState::Preempted),
            false => (target, RunState::Yielded),
        };
        let (_, tail_state) = self.vcpu(tail);
        if !(ours() || leaver.is_some()) || tail_state.claim(from).is_err() {
            return Err(Status::Denied);
        }
        // Whoever claimed the tail holds the whole chain: only now it is certain whose it is.
        let leaver = self.leaver(vcpu, target);
        let (caller, ours) = (state.caller(), ours() || leaver.is_some());
        if ours {
            state.adopt(Caller::Partition(vcpu));
        }
        if !ours || !self.chain_may_run_on(tail, machine.core()) {
            state.adopt(caller);
            tail_state.publish(from);
            return Err(Status::Denied);
        }
        if from == RunState::Yielded {
            deliver(machine, target, function::YIELD, Regs::success(&[]));
        }
        if let Some(leaver) = leaver {
            leaver.set_left(None);
        }
        own.set_callee(Some(target));
        own.publish_blocked();
        Ok(Next::Resume(tail))
    }

    /// FFA_YIELD. w2 and w3 hint at when the caller wants to go on: who gets the cycles is told.
    pub(crate) fn yield_cycles<M: Machine>(&self, machine: &mut M, vcpu: VcpuId, call: &Call) -> Result<Next, Status> {
        call.zero(4..=7)?;
        let (_, state) = self.vcpu(vcpu);
        if state.model() == Model::SecureInterrupt {
            // It got its cycles from the SPMC, which has nothing else to do with them.
            deliver(machine, vcpu, function::YIELD, Regs::success(&[]));
            return Ok(Next::Resume(vcpu));
        }
        let timeout = [2, 3].map(|n| u64::from(call.regs.w(n)));
        let reply = Regs::new(&[u64::from(function::YIELD), self.target_info(vcpu), timeout[0], timeout[1]]);
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

    /// w1 of FFA_INTERRUPT, FFA_YIELD and FFA_RUN: endpoint in the upper half, vCPU in the lower.
    pub(crate) fn target_info(&self, vcpu: VcpuId) -> u64 {
        u64::from(self.id(From::Partition(vcpu)).0) << 16 | u64::from(vcpu.index)
    }
}

/// Whether a direct request is a message of the normal world's hypervisor about one of its virtual machines, and its
/// receiver has asked for such ones (section 18.3).
fn is_wanted_vm_message(call: &Call, config: &PartitionConfig) -> bool {
    let from_hypervisor = matches!(call.from, From::NormalWorld) && call.function() == function::MSG_SEND_DIRECT_REQ_32;
    from_hypervisor
        && match call.regs.w(2) ^ framework::MESSAGE {
            framework::VM_CREATED => config.vm_messages.created,
            framework::VM_DESTROYED => config.vm_messages.destroyed,
            _ => false,
        }
}

/// The execution context that serves core `core`: pinned for multiprocessor partitions, the only one otherwise.
pub(crate) fn vcpu_on(config: &PartitionConfig, core: usize) -> u8 {
    if config.vcpus > 1 { core as u8 } else { 0 }
}

/// Whether a vCPU runs only on another core than `core`: a partition with a vCPU for each core has them pinned.
pub(crate) fn is_pinned_elsewhere(config: &PartitionConfig, vcpu: VcpuId, core: usize) -> bool {
    config.vcpus > 1 && usize::from(vcpu.index) != core
}

/// A message as its receiver sees it: the identities have no upper half, a 32-bit one has none at all, and only REQ2 and RESP2
/// have x8 to x17.
fn message(regs: &Regs) -> Regs {
    let function = regs.function();
    let mut out = *regs;
    out.0[0] = u64::from(function);
    out.0[1] &= 0xffff_ffff;
    if matches!(function, function::MSG_SEND_DIRECT_REQ2 | function::MSG_SEND_DIRECT_RESP2) {
        return out;
    }
    out.0[2] &= 0xffff_ffff;
    if !function::is_64_bit(function) {
        for x in &mut out.0[3..8] {
            *x &= 0xffff_ffff;
        }
    }
    out.0[8..].fill(0);
    out
}
