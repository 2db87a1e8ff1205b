//! Run states of virtual CPUs and the conversations that they are in (DEN0077A v1.2, chapter 8).
//!
//! Invariant: a vCPU's registers and conversation are touched only by the core that moved it to [`RunState::Running`]
//! with [`Vcpu::claim`], until that core publishes another state. Every state change is a method that checks the
//! previous state; the release store in [`Vcpu::publish`] makes the saved context visible to the next core.

use bulkhead_ffa::EndpointId;
use crate::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

/// One virtual CPU: which partition, which execution context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VcpuId {
    /// Index of the partition in the table.
    pub partition: u8,
    /// Index of the execution context.
    pub index: u8,
}

/// What a vCPU is doing, as other cores may see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RunState {
    /// Never started, or its core went off.
    Off = 0,
    /// In FFA_MSG_WAIT: ready for a message.
    Waiting = 1,
    /// On some core.
    Running = 2,
    /// Made a request and waits for its callee.
    Blocked = 3,
    /// Taken off by a normal-world interrupt.
    Preempted = 4,
    /// Gave up its cycles with FFA_YIELD.
    Yielded = 5,
}

/// Who gets the vCPU's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Nobody: initialisation.
    Boot,
    /// An endpoint of the normal world, through the SPMD. The identity is a failed partition's where the normal world resumes
    /// what that one had called.
    NormalWorld(EndpointId),
    /// Another partition's vCPU, which is blocked meanwhile.
    Partition(VcpuId),
    /// The SPMC, on behalf of the SPMD (power management messages).
    Framework,
    /// The SPMC took the core from this vCPU to deliver a secure interrupt; it goes on afterwards.
    Interrupted(VcpuId),
    /// The SPMC took the core from the normal world to deliver a secure interrupt.
    InterruptedNormalWorld,
}

/// The partition runtime model (DEN0077A v1.2 section 8.3 and following), with what the answer must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Model {
    /// Partition initialisation.
    Init = 0,
    /// Entered by FFA_RUN without a message.
    Run = 1,
    /// Processing a 32-bit direct request.
    Direct32 = 2,
    /// Processing a 64-bit direct request.
    Direct64 = 3,
    /// Processing FFA_MSG_SEND_DIRECT_REQ2.
    Direct2 = 4,
    /// Handling a secure interrupt.
    SecureInterrupt = 5,
    /// Processing a power management message.
    Framework = 6,
    /// Processing a message about a virtual machine, which came as a 32-bit direct request.
    VmMessage = 7,
}

impl Model {
    /// Whether a direct request is being processed.
    #[must_use]
    pub const fn is_direct(self) -> bool {
        matches!(self, Self::Direct32 | Self::Direct64 | Self::Direct2 | Self::VmMessage)
    }
}

/// Shared state of one vCPU.
pub struct Vcpu {
    state: AtomicU8,
    model: AtomicU8,
    callee: AtomicU64,
    left: AtomicU64,
    caller: AtomicU64,
    /// Normal-world interrupts wait while this vCPU runs.
    holds_interrupts: AtomicBool,
    /// The core that it runs on, or ran on last.
    core: AtomicU8,
    /// What was left of the time of the vCPU that it took the core from.
    time_left: AtomicU64,
}

/// No callee. Zero, as all that a fresh [`crate::Spmc`] holds is, so that it takes no room in the image.
const NOBODY: u64 = 0;
/// Marks a callee.
const SOMEBODY: u64 = 1 << 16;

impl Vcpu {
    /// A vCPU that never ran.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            state: AtomicU8::new(RunState::Off as u8),
            model: AtomicU8::new(Model::Init as u8),
            callee: AtomicU64::new(NOBODY),
            left: AtomicU64::new(NOBODY),
            caller: AtomicU64::new(0),
            holds_interrupts: AtomicBool::new(false),
            core: AtomicU8::new(0),
            time_left: AtomicU64::new(0),
        }
    }

    /// The state now. Another core may change it at once, unless this core has claimed the vCPU.
    pub fn state(&self) -> RunState {
        match self.state.load(Ordering::Acquire) {
            0 => RunState::Off,
            1 => RunState::Waiting,
            3 => RunState::Blocked,
            4 => RunState::Preempted,
            5 => RunState::Yielded,
            _ => RunState::Running,
        }
    }

    /// Takes the vCPU from `from` to running, if no other core was faster. Acquire: what the last core saved is seen.
    ///
    /// # Errors
    /// The state found instead.
    pub fn claim(&self, from: RunState) -> Result<(), RunState> {
        self.state
            .compare_exchange(from as u8, RunState::Running as u8, Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
            .map_err(|_| self.state())
    }

    /// Gives the vCPU up. Only the core that claimed it calls this, after its context is saved.
    pub fn publish(&self, state: RunState) {
        debug_assert_ne!(state, RunState::Running);
        self.state.store(state as u8, Ordering::Release);
    }

    /// The vCPU made a request: it stays bound to this core's chain, so its context need not be in memory yet. It is parked
    /// with the rest of the chain when the normal world gets the core.
    pub fn publish_blocked(&self) {
        self.publish(RunState::Blocked);
    }

    /// Starts a conversation on a claimed vCPU; `hold` says whether normal-world interrupts wait until it ends.
    pub fn converse(&self, caller: Caller, model: Model, hold: bool) {
        self.holds_interrupts.store(hold, Ordering::Relaxed);
        self.caller.store(encode(caller), Ordering::Relaxed);
        self.model.store(model as u8, Ordering::Relaxed);
        self.callee.store(NOBODY, Ordering::Relaxed);
    }

    /// The current runtime model.
    pub fn model(&self) -> Model {
        match self.model.load(Ordering::Relaxed) {
            0 => Model::Init,
            1 => Model::Run,
            2 => Model::Direct32,
            3 => Model::Direct64,
            4 => Model::Direct2,
            5 => Model::SecureInterrupt,
            6 => Model::Framework,
            _ => Model::VmMessage,
        }
    }

    /// Whether normal-world interrupts wait until the conversation ends.
    pub fn holds_interrupts(&self) -> bool {
        self.holds_interrupts.load(Ordering::Relaxed)
    }

    /// From now on they wait: the partition has been asked to end the conversation.
    pub fn hold_interrupts(&self) {
        self.holds_interrupts.store(true, Ordering::Relaxed);
    }

    /// Remembers how much of its time the vCPU has left that this one took the core from.
    pub fn leave_time_to_caller(&self, left: u64) {
        self.time_left.store(left, Ordering::Relaxed);
    }

    /// What [`Self::leave_time_to_caller`] remembered.
    pub fn time_left_to_caller(&self) -> u64 {
        self.time_left.load(Ordering::Relaxed)
    }

    /// The same conversation with another caller: the one before it has ended.
    pub fn adopt(&self, caller: Caller) {
        self.caller.store(encode(caller), Ordering::Relaxed);
    }

    /// This core runs it from now on.
    pub fn enter_on(&self, core: usize) {
        self.core.store(core as u8, Ordering::Relaxed);
    }

    /// The core that runs it at present, if any does.
    pub fn runs_on(&self) -> Option<usize> {
        (self.state() == RunState::Running).then(|| usize::from(self.core.load(Ordering::Relaxed)))
    }

    /// Who gets the answer, if that is an endpoint of the normal world.
    pub fn normal_world_caller(&self) -> Option<EndpointId> {
        let word = self.caller.load(Ordering::Relaxed);
        let id = EndpointId(word as u16);
        (word >> 32 == 1 && !id.is_secure()).then_some(id)
    }

    /// Whether its conversation is with the normal world alone, which may interrupt it.
    pub fn is_alone_with_normal_world(&self) -> bool {
        self.normal_world_caller().is_some() && self.callee.load(Ordering::Relaxed) == NOBODY && !self.holds_interrupts()
    }

    /// Who gets the answer.
    pub fn caller(&self) -> Caller {
        decode(self.caller.load(Ordering::Relaxed))
    }

    /// Remembers whom this vCPU called, so that FFA_RUN of the head of a chain finds its tail.
    pub fn set_callee(&self, callee: Option<VcpuId>) {
        self.callee.store(encode_callee(callee), Ordering::Relaxed);
    }

    /// Remembers a callee that was interrupted and still is when this vCPU, asked for a managed exit, ends its conversation.
    pub fn set_left(&self, callee: Option<VcpuId>) {
        self.left.store(encode_callee(callee), Ordering::Relaxed);
    }

    /// The callee that an earlier conversation left behind.
    pub fn left(&self) -> Option<VcpuId> {
        decode_callee(self.left.load(Ordering::Relaxed))
    }

    /// Whom this vCPU called last and still waits for.
    pub fn callee(&self) -> Option<VcpuId> {
        decode_callee(self.callee.load(Ordering::Relaxed))
    }
}

fn encode_callee(callee: Option<VcpuId>) -> u64 {
    callee.map_or(NOBODY, |v| SOMEBODY | u64::from(v.partition) << 8 | u64::from(v.index))
}

fn decode_callee(word: u64) -> Option<VcpuId> {
    (word != NOBODY).then_some(VcpuId { partition: (word >> 8) as u8, index: word as u8 })
}

fn encode(caller: Caller) -> u64 {
    let vcpu = |v: VcpuId| u64::from(v.partition) << 8 | u64::from(v.index);
    match caller {
        Caller::Boot => 0,
        Caller::NormalWorld(id) => 1 << 32 | u64::from(id.0),
        Caller::Partition(v) => 2 << 32 | vcpu(v),
        Caller::Framework => 3 << 32,
        Caller::Interrupted(v) => 4 << 32 | vcpu(v),
        Caller::InterruptedNormalWorld => 5 << 32,
    }
}

fn decode(word: u64) -> Caller {
    let vcpu = VcpuId { partition: (word >> 8) as u8, index: word as u8 };
    match word >> 32 {
        0 => Caller::Boot,
        1 => Caller::NormalWorld(EndpointId(word as u16)),
        2 => Caller::Partition(vcpu),
        3 => Caller::Framework,
        4 => Caller::Interrupted(vcpu),
        _ => Caller::InterruptedNormalWorld,
    }
}

#[cfg(all(test, not(any(feature = "shuttle", feature = "loom"))))]
mod tests {
    use super::*;

    #[test]
    fn callers_survive_their_encoding() {
        let v = VcpuId { partition: 3, index: 7 };
        for caller in [Caller::Boot, Caller::NormalWorld(EndpointId(0x7fff)), Caller::Partition(v), Caller::Framework, Caller::Interrupted(v), Caller::InterruptedNormalWorld] {
            assert_eq!(decode(encode(caller)), caller);
        }
    }

    #[test]
    fn only_one_claim_succeeds() {
        let vcpu = Vcpu::new();
        assert_eq!(vcpu.claim(RunState::Waiting), Err(RunState::Off));
        vcpu.publish(RunState::Waiting);
        assert_eq!(vcpu.claim(RunState::Waiting), Ok(()));
        assert_eq!(vcpu.claim(RunState::Waiting), Err(RunState::Running));
    }
}
