//! The fast path: a direct request or FFA_RUN from the normal world to a partition that has nothing else to do than to answer.
//! While it processes a request it may make calls that are answered at once (memory, notifications).
//!
//! It decides nothing that the general path ([`crate::messaging`], [`crate::chain`]) does not decide, and gives the same
//! results; it recognises the usual case by few words and leaves everything else to that path, before it has changed
//! anything or at a point where that path can take over. The feature `no-fast-path` switches it off.
//!
//! | step | what is looked at | what is unusual |
//! |---|---|---|
//! | the call | x0 whole, x1 whole, x2 | another function, a hint or upper halves, a sender of the secure world, reserved bits |
//! | the caller | its one word of version | no version agreed before, REQ2 below 1.2 |
//! | the receiver | [`Partition::fast`], one word | not in the order of the table, interrupts queued, method not offered, failed, REQ2 below 1.2 |
//! | its vCPU | one compare-and-swap | not waiting (for FFA_RUN: nor preempted by itself) |
//! | what waits for it | its virtual interrupts | anything pending or active, a timer |
//! | it runs | the reason why it stopped | anything but a call or, where it is preempted by one, an interrupt |
//! | another call | its function identifier | one that runs somebody else or ends something: what is answered at once gets that, and the vCPU is entered again |
//! | the answer | x0 whole, x1 (whose upper half StMM fills with its sign), x2 (x3) | another function or party than the conversation asks for, reserved bits |
//! | the way back | its pending interrupts; a byte of this core's | interrupts left unhandled, vCPUs that want the core, a delayed schedule receiver interrupt |
//!
//! Registers: x0 to x7 of the caller's are values, in registers of S-EL2 as far as there are any; from there they go to the
//! vCPU's context, and the answer's come from it. x8 to x17 are moved for REQ2 only: those of other callers stay where they
//! were put at the entry from EL3, and those of a vCPU, like its x18 to x30, PC and PSTATE, in its context. What else the
//! machine moves, and why that is enough, stands at the head of `spmc/src/context.rs`.

use crate::machine::{Exit, Machine};
use crate::messaging::vcpu_on;
use crate::partition::{Methods, NormalWorldInterrupts, Partition, PartitionConfig};
use crate::spmc::{Spmc, answer};
use crate::sync::atomic::Ordering;
use crate::vcpu::{Model, RunState, Vcpu, VcpuId};
use crate::{MAX_CORES, PartitionIndex};
use bulkhead_ffa::{EndpointId, Message, Regs, function};

/// Identity of the first partition where they are in the order of the table.
const FIRST_ID: u16 = 0x8001;

/// Bits of [`Partition::fast`]. Zero: nothing about it is usual.
mod usual {
    /// Takes 32-bit and 64-bit direct requests.
    pub const DIRECT: u32 = 1 << 0;
    /// Takes REQ2.
    pub const DIRECT2: u32 = 1 << 1;
    /// Its identity tells its place in the table, and no interrupt waits for it.
    pub const RUN: u32 = 1 << 2;
    /// The normal world's interrupts preempt it without further ado.
    pub const PREEMPTED: u32 = 1 << 3;
    /// It has a vCPU for each core.
    pub const PINNED: u32 = 1 << 4;
}

/// What is usual about a partition, for [`Partition::fast`].
pub(crate) fn usual_about(config: &PartitionConfig, index: PartitionIndex) -> u32 {
    if config.id.0 != FIRST_ID + u16::from(index) || config.normal_world_interrupts == NormalWorldInterrupts::Queued {
        return 0;
    }
    let bit = |is: bool, bit: u32| if is { bit } else { 0 };
    usual::RUN
        | bit(config.methods.has(Methods::DIRECT_RECEIVE), usual::DIRECT)
        | bit(config.methods.has(Methods::DIRECT2_RECEIVE), usual::DIRECT2)
        | bit(config.normal_world_interrupts == NormalWorldInterrupts::Signaled, usual::PREEMPTED)
        | bit(config.vcpus > 1, usual::PINNED)
}

const REQUEST_32: u64 = function::MSG_SEND_DIRECT_REQ_32 as u64;
const REQUEST_64: u64 = function::MSG_SEND_DIRECT_REQ_64 as u64;
const REQUEST2: u64 = function::MSG_SEND_DIRECT_REQ2 as u64;
const RUN: u64 = function::RUN as u64;
const WAIT: u64 = function::MSG_WAIT as u64;
const INTERRUPT: u64 = function::INTERRUPT as u64;
const LOW_HALF: u64 = 0xffff_ffff;
/// Bit of a function identifier: the 64-bit convention.
const WIDE: u64 = 1 << 30;
/// Bit that REQ2 has and the other requests do not.
const EXTENDED: u64 = 1 << 7;

const _: () = assert!(REQUEST_64 == REQUEST_32 | WIDE && (REQUEST_32 | REQUEST_64) & EXTENDED == 0 && REQUEST2 & (WIDE | EXTENDED) == WIDE | EXTENDED);

/// Whether a request or its answer is an extended one: REQ2, RESP2.
const fn is_extended(request: u64) -> bool {
    request & EXTENDED != 0
}

/// The message `x` as the receiver of this request, or of its answer, gets it.
#[inline(always)]
fn passed(request: u64, x: Message) -> Message {
    if request & WIDE == 0 { narrow(x) } else { [x[0], x[1] & LOW_HALF, x[2], x[3], x[4], x[5], x[6], x[7]] }
}

/// Moves x8 to x17. Two by two, as the instructions do: a call of memcpy takes twice as long, as do single registers.
#[inline]
fn pass_extended(from: &Regs, to: &mut Regs) {
    macro_rules! each {
        ($($n:literal)*) => { $((to.0[$n], to.0[$n + 1]) = (from.0[$n], from.0[$n + 1]);)* };
    }
    each!(8 10 12 14 16);
}

/// A 32-bit message: no upper halves.
#[inline]
fn narrow(x: Message) -> Message {
    [x[0], x[1] & LOW_HALF, x[2], x[3] & LOW_HALF, x[4] & LOW_HALF, x[5] & LOW_HALF, x[6] & LOW_HALF, x[7] & LOW_HALF]
}

/// What a call without parameters beside `x0` and `x1` consists of.
const fn bare(x0: u64, x1: u64) -> Message {
    [x0, x1, 0, 0, 0, 0, 0, 0]
}

/// What became of a call that was tried on the fast path.
pub(crate) enum Tried {
    /// Nothing: it is the general path's.
    Unusual,
    /// This is the answer.
    Answered(Message),
    /// The answer is in the registers that came with the call. (Another variant, so that the usual answer need not go through
    /// memory because this one does.)
    Put,
}

/// The vCPU that a call is for, looked up once.
struct Target<'a, C> {
    partition: &'a Partition,
    usual: u32,
    state: &'a Vcpu,
    index: u8,
    context: C,
}

impl Spmc {
    /// Serves the direct request of the normal world `x`, if it is one, whose x8 to x17 are in `regs`, or does nothing.
    #[inline(always)]
    pub(crate) fn fast_request<M: Machine>(&self, machine: &mut M, x: Message, regs: &mut Regs) -> Tried {
        let request = x[0];
        // A direct request of either convention, or REQ2.
        let beyond = request.wrapping_sub(REQUEST_32) & !WIDE;
        if beyond != 0 && (beyond != REQUEST2 - REQUEST_64 || request & WIDE == 0) {
            return Tried::Unusual;
        }
        let extended = is_extended(request);
        // Sender in bits 31..16, of the normal world; receiver in bits 15..0.
        let ids = x[1];
        if ids >> 31 != 0 {
            return Tried::Unusual;
        }
        let Some(target) = self.usual_target(machine, ids as u16) else { return Tried::Unusual };
        let usual = if extended {
            self.may_extend(&target, x[2], x[3])
        } else {
            target.usual & usual::DIRECT != 0 && x[2] == 0 && self.normal_world.spoken.is_locked_at(0)
        };
        if !usual {
            return Tried::Unusual;
        }
        if target.state.claim(RunState::Waiting).is_err() {
            return Tried::Unusual;
        }
        target.state.converse_with_normal_world(ids >> 16, request);
        let message = machine.regs_in(target.context);
        message.set_message(passed(request, x));
        if extended {
            pass_extended(regs, message);
        }
        if !self.run_for_call(machine, &target, ids as u16, request, regs, false) {
            return Tried::Put;
        }
        // Its parties are the request's, the other way round.
        loop {
            let answer = machine.regs_in(target.context);
            if is_answer(answer, request, (ids as u32).rotate_left(16)) {
                if extended {
                    pass_extended(answer, regs);
                }
                break;
            }
            if !self.answer_and_enter(machine, ids as u16, request, regs) {
                return Tried::Put;
            }
        }
        self.fast_leave(machine, &target, ids as u16, regs, |machine| passed(request, machine.last_message(target.context)))
    }

    /// Whether REQ2 for the service in x2 and x3 is usual here.
    #[inline(always)]
    fn may_extend<C>(&self, target: &Target<'_, C>, low: u64, high: u64) -> bool {
        let partition = target.partition;
        let spoken = self.normal_world.spoken.is_locked_at(2) && partition.endpoint.spoken.is_locked_at(2);
        target.usual & usual::DIRECT2 != 0 && spoken && (low | high == 0 || offers(partition, low, high))
    }

    /// Serves FFA_RUN `x` of a vCPU that waits, or that an interrupt of the normal world has taken from the core while it served
    /// it, or does nothing.
    #[inline(always)]
    pub(crate) fn fast_run<M: Machine>(&self, machine: &mut M, x: Message, regs: &mut Regs) -> Tried {
        let target_info = x[1];
        if !self.normal_world.spoken.is_locked_at(0) {
            return Tried::Unusual;
        }
        let id = (target_info >> 16) as u16;
        let Some(target) = self.usual_target(machine, id) else { return Tried::Unusual };
        if target.usual & usual::RUN == 0 || target_info != u64::from(id) << 16 | u64::from(target.index) {
            return Tried::Unusual;
        }
        let state = target.state;
        match state.claim(RunState::Waiting) {
            Ok(()) => {
                state.converse_with_normal_world(u64::from(EndpointId::HYPERVISOR.0), RUN);
                machine.regs_in(target.context).set_message(bare(RUN, target_info));
            }
            Err(RunState::Preempted) if state.claim(RunState::Preempted).is_ok() => {
                // Now nobody else changes these.
                if !state.is_alone_with_normal_world() {
                    state.publish(RunState::Preempted);
                    return Tried::Unusual;
                }
            }
            Err(_) => return Tried::Unusual,
        }
        if !self.run_for_call(machine, &target, id, RUN, regs, false) {
            return Tried::Put;
        }
        let answer = machine.regs_in(target.context);
        let request = state.call();
        if request == RUN {
            // FFA_MSG_WAIT without parameters goes back as it came.
            let rest = answer.0[1] | answer.0[2] | answer.0[3] | answer.0[4] | answer.0[5] | answer.0[6] | answer.0[7];
            if answer.0[0] != WAIT || rest != 0 {
                self.take_over(machine, id, Some(Exit::Call), RUN, regs);
                return Tried::Put;
            }
            // With the wait the RX buffer is given back.
            target.partition.endpoint.mailbox.release();
            return self.fast_leave(machine, &target, id, regs, |machine| machine.last_message(target.context));
        }
        if !self.fast_resumed(&target, id, request, answer, regs) {
            self.take_over(machine, id, Some(Exit::Call), RUN, regs);
            return Tried::Put;
        }
        self.fast_leave(machine, &target, id, regs, |machine| passed(request, machine.last_message(target.context)))
    }

    /// Whether a vCPU that was preempted and goes on answers the direct `request` that it was entered with.
    #[inline(never)]
    fn fast_resumed<C>(&self, target: &Target<'_, C>, id: u16, request: u64, answer: &Regs, regs: &mut Regs) -> bool {
        let direct = request & !WIDE == REQUEST_32 || request == REQUEST2;
        let ids = |requester: EndpointId| u32::from(id) << 16 | u32::from(requester.0);
        let answers = direct && target.state.normal_world_caller().is_some_and(|requester| is_answer(answer, request, ids(requester)));
        if answers && is_extended(request) {
            pass_extended(answer, regs);
        }
        answers
    }

    /// The partition with this identity, if they are in order, and its vCPU for this core. Nothing is known of them yet.
    #[inline(always)]
    fn usual_target<M: Machine>(&self, machine: &M, id: u16) -> Option<Target<'_, M::Context>> {
        let place = u64::from(id).wrapping_sub(u64::from(FIRST_ID));
        let partition = self.place(place)?;
        let usual = partition.fast.load(Ordering::Relaxed);
        let index = if usual & usual::PINNED != 0 { machine.core() as u8 } else { 0 };
        let state = &partition.vcpus[usize::from(index) % MAX_CORES];
        Some(Target { partition, usual, state, index, context: machine.context(VcpuId { partition: place as u8, index }) })
    }

    /// What [`Self::usual_target`] has found and this core has claimed.
    fn usual_vcpu<M: Machine>(&self, machine: &M, id: u16) -> VcpuId {
        let partition = id.wrapping_sub(FIRST_ID) as u8;
        let index = self.partition(partition).map_or(0, |(_, config)| vcpu_on(config, machine.core()));
        VcpuId { partition, index }
    }

    /// Runs a claimed vCPU whose registers are set, perhaps `again`, if it has no interrupt to handle. (One of another
    /// partition's that came for this core from elsewhere takes the core from it by itself, as a secure interrupt.) Whether it
    /// has stopped for a call; if not, the answer to `call` is in `regs`.
    #[inline(always)]
    fn run_for_call<M: Machine>(
        &self,
        machine: &mut M,
        target: &Target<'_, M::Context>,
        id: u16,
        call: u64,
        regs: &mut Regs,
        again: bool,
    ) -> bool {
        target.state.enter_on(machine.core());
        // A partition that has failed meanwhile has nothing usual about it any more.
        if !target.state.interrupts.are_quiet() || target.partition.fast.load(Ordering::Relaxed) == 0 {
            self.take_over(machine, id, None, call, regs);
            return false;
        }
        let called = if again { machine.enter_again(target.context) } else { machine.enter(target.context) };
        if !called {
            self.fast_interrupted(machine, id, call, regs);
        }
        called
    }

    /// The conversation has ended with `answer`: the core goes back to the normal world.
    #[inline(always)]
    fn fast_leave<M: Machine>(
        &self,
        machine: &mut M,
        target: &Target<'_, M::Context>,
        id: u16,
        regs: &mut Regs,
        answer: impl FnOnce(&mut M) -> Message,
    ) -> Tried {
        machine.leave(target.context);
        // Before another core can claim the vCPU.
        let answer = answer(machine);
        target.state.publish(RunState::Waiting);
        if target.state.interrupts.any_pending() || self.attention_of(machine.core()).load(Ordering::Relaxed) != 0 {
            regs.set_message(answer);
            self.look_after(machine, Some(id));
            return Tried::Put;
        }
        Tried::Answered(answer)
    }

    /// Something is to be done on this core before the normal world gets it: perhaps for a vCPU that has left an interrupt.
    #[cold]
    fn look_after<M: Machine>(&self, machine: &mut M, id: Option<u16>) {
        if let Some(id) = id {
            self.note_left_interrupt(machine, self.usual_vcpu(machine, id), Model::Run);
        }
        if self.attention_of(machine.core()).load(Ordering::Relaxed) != 0 {
            self.before_leaving(machine);
            machine.leave_to_normal_world();
        }
    }

    /// The vCPU that was just entered for `call` has made a call that is not the answer: if it is one that is answered at once,
    /// gets that and is entered again. Whether it has stopped for a call then; if not, the answer for the normal world is in
    /// `regs`.
    #[cold]
    #[inline(never)]
    fn answer_and_enter<M: Machine>(&self, machine: &mut M, id: u16, call: u64, regs: &mut Regs) -> bool {
        let vcpu = self.usual_vcpu(machine, id);
        if !self.answer_at_once(machine, vcpu) {
            self.take_over(machine, id, Some(Exit::Call), call, regs);
            return false;
        }
        let (partition, state) = self.vcpu(vcpu);
        let target = Target { partition, usual: 0, state, index: vcpu.index, context: machine.context(vcpu) };
        self.run_for_call(machine, &target, id, call, regs, true)
    }

    /// The vCPU that was just entered for `call` has stopped, not for a call of its own: what the normal world gets of it in
    /// the end.
    #[cold]
    #[inline(never)]
    fn fast_interrupted<M: Machine>(&self, machine: &mut M, id: u16, call: u64, regs: &mut Regs) {
        let vcpu = self.usual_vcpu(machine, id);
        let exit = machine.why_stopped(vcpu);
        let (partition, state) = self.vcpu(vcpu);
        if exit != Exit::NormalWorldInterrupt || partition.fast.load(Ordering::Relaxed) & usual::PREEMPTED == 0 {
            return self.take_over(machine, id, Some(exit), call, regs);
        }
        machine.leave_to_normal_world();
        state.publish(RunState::Preempted);
        self.look_after(machine, None);
        regs.set_message(bare(INTERRUPT, u64::from(id) << 16 | u64::from(vcpu.index)));
    }

    /// The general path goes on with a claimed vCPU that has not run yet, or `stopped`. `call` is x0 of what the normal world
    /// called.
    #[cold]
    #[inline(never)]
    fn take_over<M: Machine>(&self, machine: &mut M, id: u16, stopped: Option<Exit>, call: u64, regs: &mut Regs) {
        let reply = self.go_on(machine, self.usual_vcpu(machine, id), stopped);
        // How much of it is for the caller to see depends on that.
        regs.0[0] = call;
        answer(regs, &reply);
    }
}

/// Whether a message is the answer to a direct request, between these parties.
#[inline(always)]
fn is_answer(message: &Regs, request: u64, ids: u32) -> bool {
    // The answer's function identifier follows its request's. x2 is reserved, and x3 in an extended one.
    let [x0, x1, x2, x3, ..] = message.0;
    x0 == request.wrapping_add(1) && x1 as u32 == ids && if is_extended(request) { x2 == 0 && x3 == 0 } else { x2 == 0 }
}

/// Whether one of the partition's services has this identity, given as in the registers of REQ2.
#[inline(always)]
fn offers(partition: &Partition, low: u64, high: u64) -> bool {
    partition.config().is_some_and(|config| config.services.iter().any(|service| service.uuid.doublewords() == [low, high]))
}
