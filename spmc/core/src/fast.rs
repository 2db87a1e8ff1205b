//! The fast path: a direct request or FFA_RUN from the normal world to a partition that has nothing else to do than to answer.
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
//! | what waits for it | its virtual interrupts, a bit for this core | anything pending or active, a timer, another vCPU that wants the core |
//! | it runs | the reason why it stopped | anything but a call or, where it is preempted by one, an interrupt |
//! | the answer | x0 whole, x1 whole, x2 (x3) | another function or party than the conversation asks for, reserved bits |
//! | the way back | a bit for this core | interrupts left unhandled, a delayed schedule receiver interrupt |
//!
//! Registers: x0 to x7 (REQ2: x17) go from the caller's to the vCPU's and back, once each. x8 to x17 of other messages, and
//! x18 to x30, PC and PSTATE stay in the vCPU's context, where entry and exit keep them. What else the machine moves, and why
//! that is enough, stands at the head of `spmc/src/context.rs`.

use crate::machine::{Exit, Machine};
use crate::partition::{Methods, NormalWorldInterrupts, Partition, PartitionConfig};
use crate::spmc::{Spmc, answer};
use crate::sync::atomic::Ordering;
use crate::vcpu::{Caller, Model, RunState, VcpuId};
use crate::PartitionIndex;
use bulkhead_ffa::{EndpointId, Regs, Uuid, function};

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

/// Minor number of the version that brought this kind of message.
const fn least_minor(model: Model) -> u32 {
    if matches!(model, Model::Direct2) { 2 } else { 0 }
}

const REQUEST_32: u64 = function::MSG_SEND_DIRECT_REQ_32 as u64;
const REQUEST_64: u64 = function::MSG_SEND_DIRECT_REQ_64 as u64;
const REQUEST2: u64 = function::MSG_SEND_DIRECT_REQ2 as u64;
const RUN: u64 = function::RUN as u64;
const WAIT: u64 = function::MSG_WAIT as u64;
const LOW_HALF: u64 = 0xffff_ffff;

/// Moves x3 to x7 as far as `mask` lets them; x2 is zero.
fn pass(from: &Regs, to: &mut Regs, mask: u64) {
    to.0[2] = 0;
    to.0[3] = from.0[3] & mask;
    to.0[4] = from.0[4] & mask;
    to.0[5] = from.0[5] & mask;
    to.0[6] = from.0[6] & mask;
    to.0[7] = from.0[7] & mask;
}

/// Makes x2 to x7 zero.
fn pass_nothing(to: &mut Regs) {
    let [_, _, x2, x3, x4, x5, x6, x7, ..] = &mut to.0;
    (*x2, *x3, *x4, *x5, *x6, *x7) = (0, 0, 0, 0, 0, 0);
}

/// Moves x2 to x17. One by one: a call of memcpy takes twice as long.
fn pass2(from: &Regs, to: &mut Regs) {
    macro_rules! each {
        ($($n:literal)*) => { $(to.0[$n] = from.0[$n];)* };
    }
    each!(2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17);
}

impl Spmc {
    /// Serves the call of the normal world in `regs`, and puts the answer there; or does nothing and returns `false`.
    #[inline]
    pub(crate) fn fast_path<M: Machine>(&self, machine: &mut M, regs: &mut Regs) -> bool {
        let (model, needed) = match regs.0[0] {
            REQUEST_32 => (Model::Direct32, usual::DIRECT),
            REQUEST_64 => (Model::Direct64, usual::DIRECT),
            REQUEST2 => (Model::Direct2, usual::DIRECT2),
            RUN => return self.fast_run(machine, regs),
            _ => return false,
        };
        // Sender in bits 31..16, of the normal world; receiver in bits 15..0.
        let (ids, sender) = (regs.0[1], (regs.0[1] >> 16) as u16);
        if ids >> 31 != 0 || !self.normal_world.spoken.is_locked_at(least_minor(model)) {
            return false;
        }
        let Some((partition, target)) = self.usual_target(machine, ids as u16, needed) else { return false };
        if model != Model::Direct2 {
            if regs.0[2] != 0 {
                return false;
            }
        } else if !partition.endpoint.spoken.is_locked_at(least_minor(model)) {
            return false;
        } else if regs.0[2] | regs.0[3] != 0 {
            let service = Uuid::from_doublewords(regs.0[2], regs.0[3]);
            if !partition.config().is_some_and(|config| config.services.iter().any(|s| s.uuid == service)) {
                return false;
            }
        }
        let (_, state) = self.vcpu(target);
        if state.claim(RunState::Waiting).is_err() {
            return false;
        }
        state.converse(Caller::NormalWorld(EndpointId(sender)), model, false);
        let message = machine.regs(target);
        message.0[0] = regs.0[0];
        message.0[1] = ids;
        match model {
            Model::Direct2 => pass2(regs, message),
            Model::Direct64 => pass(regs, message, u64::MAX),
            _ => pass(regs, message, LOW_HALF),
        }
        self.fast_conversation(machine, partition, target, regs);
        true
    }

    /// FFA_RUN of a vCPU that waits, or that an interrupt of the normal world has taken from the core while it served it.
    fn fast_run<M: Machine>(&self, machine: &mut M, regs: &mut Regs) -> bool {
        let target_info = regs.0[1];
        if target_info >> 32 != 0 || !self.normal_world.spoken.is_locked_at(0) {
            return false;
        }
        let Some((partition, target)) = self.usual_target(machine, (target_info >> 16) as u16, usual::RUN) else { return false };
        if target_info as u16 != u16::from(target.index) {
            return false;
        }
        let (_, state) = self.vcpu(target);
        match state.claim(RunState::Waiting) {
            Ok(()) => {
                state.converse(Caller::NormalWorld(EndpointId::HYPERVISOR), Model::Run, false);
                let message = machine.regs(target);
                message.0[0] = RUN;
                message.0[1] = target_info;
                pass_nothing(message);
            }
            Err(RunState::Preempted) if state.claim(RunState::Preempted).is_ok() => {
                // Now nobody else changes these.
                if !state.is_alone_with_normal_world() {
                    state.publish(RunState::Preempted);
                    return false;
                }
            }
            Err(_) => return false,
        }
        self.fast_conversation(machine, partition, target, regs);
        true
    }

    /// The partition with this identity and its vCPU for this core, if `needed` is usual about it.
    #[inline]
    fn usual_target<M: Machine>(&self, machine: &M, id: u16, needed: u32) -> Option<(&Partition, VcpuId)> {
        let index = id.wrapping_sub(FIRST_ID);
        let partition = self.place(index)?;
        let usual = partition.fast.load(Ordering::Relaxed);
        let vcpu = if usual & usual::PINNED != 0 { machine.core() as u8 } else { 0 };
        (usual & needed != 0).then_some((partition, VcpuId { partition: index as u8, index: vcpu }))
    }

    /// Runs a claimed vCPU whose registers are set, until the chain that begins with it ends.
    #[inline]
    fn fast_conversation<M: Machine>(&self, machine: &mut M, partition: &Partition, vcpu: VcpuId, regs: &mut Regs) {
        let stopped = if self.enter_without_interrupts(machine, vcpu) && !partition.has_failed() { Some(machine.run(vcpu)) } else { None };
        let ended = match stopped {
            Some(Exit::Call) => self.fast_answer(machine, partition, vcpu, regs),
            Some(Exit::NormalWorldInterrupt) if partition.fast.load(Ordering::Relaxed) & usual::PREEMPTED != 0 => {
                machine.leave_to_normal_world();
                self.vcpu(vcpu).1.publish(RunState::Preempted);
                regs.0[0] = u64::from(function::INTERRUPT);
                regs.0[1] = u64::from(FIRST_ID + u16::from(vcpu.partition)) << 16 | u64::from(vcpu.index);
                pass_nothing(regs);
                true
            }
            _ => false,
        };
        if !ended {
            let reply = self.go_on(machine, vcpu, stopped);
            return answer(regs, &reply);
        }
        let mine = 1u8.wrapping_shl(machine.core() as u32);
        if (self.wanted_cores.load(Ordering::Relaxed) | self.delayed_schedule_receiver.load(Ordering::Relaxed)) & mine != 0 {
            self.before_leaving(machine);
            machine.leave_to_normal_world();
        }
    }

    /// Takes the vCPU's call as the answer to the normal world, if it is the one that its conversation asks for.
    #[inline]
    fn fast_answer<M: Machine>(&self, machine: &mut M, partition: &Partition, vcpu: VcpuId, regs: &mut Regs) -> bool {
        let (_, state) = self.vcpu(vcpu);
        let model = state.model();
        let Some(requester) = state.normal_world_caller() else { return false };
        if !partition.endpoint.spoken.is_locked_at(least_minor(model)) {
            return false;
        }
        let message = machine.regs(vcpu);
        let expected = match model {
            Model::Direct32 => function::MSG_SEND_DIRECT_RESP_32,
            Model::Direct64 => function::MSG_SEND_DIRECT_RESP_64,
            Model::Direct2 => function::MSG_SEND_DIRECT_RESP2,
            Model::Run => function::MSG_WAIT,
            _ => return false,
        };
        if message.0[0] != u64::from(expected) {
            return false;
        }
        if model == Model::Run {
            if message.0[1] | message.0[2] | message.0[3] | message.0[4] | message.0[5] | message.0[6] | message.0[7] != 0 {
                return false;
            }
            // With the wait the RX buffer is given back.
            partition.endpoint.mailbox.lock().release();
            regs.0[0] = WAIT;
            regs.0[1] = 0;
            pass_nothing(regs);
        } else {
            let ids = u64::from(FIRST_ID + u16::from(vcpu.partition)) << 16 | u64::from(requester.0);
            let reserved = if model == Model::Direct2 { message.0[2] | message.0[3] } else { message.0[2] };
            if message.0[1] != ids || reserved != 0 {
                return false;
            }
            regs.0[0] = u64::from(expected);
            regs.0[1] = ids;
            match model {
                Model::Direct2 => pass2(message, regs),
                Model::Direct64 => pass(message, regs, u64::MAX),
                _ => pass(message, regs, LOW_HALF),
            }
        }
        machine.leave_to_normal_world();
        state.publish(RunState::Waiting);
        self.note_left_interrupt(machine, vcpu, model);
        true
    }
}
