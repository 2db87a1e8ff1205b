//! Run states of virtual CPUs and the conversations that they are in (DEN0077A v1.2, chapter 8).
//!
//! Invariant: a vCPU's registers and conversation are touched only by the core that moved it to [`RunState::Running`]
//! with [`Vcpu::claim`], until that core publishes another state. Every state change is a method that checks the
//! previous state; the release store in [`Vcpu::publish`] makes the saved context visible to the next core.

use bulkhead_ffa::{EndpointId, function};
use crate::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
use crate::virtual_interrupts::VirtualInterrupts;

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
pub enum Model {
    /// Partition initialisation.
    Init,
    /// Entered by FFA_RUN without a message.
    Run,
    /// Processing a 32-bit direct request.
    Direct32,
    /// Processing a 64-bit direct request.
    Direct64,
    /// Processing FFA_MSG_SEND_DIRECT_REQ2.
    Direct2,
    /// Handling a secure interrupt.
    SecureInterrupt,
    /// Processing a power management message.
    Framework,
    /// Processing a message about a virtual machine, which came as a 32-bit direct request.
    VmMessage,
}

impl Model {
    /// Whether a direct request is being processed.
    #[must_use]
    pub const fn is_direct(self) -> bool {
        matches!(self, Self::Direct32 | Self::Direct64 | Self::Direct2 | Self::VmMessage)
    }
}

/// Shared state of one vCPU: two cache lines of its own, so that cores which talk to different vCPUs share none. What every
/// message looks at is in the first one.
#[repr(C, align(64))]
pub struct Vcpu {
    state: AtomicU8,
    /// The core that it runs on, or ran on last.
    core: AtomicU8,
    /// Whom it talks with, and how: see [`word`].
    conversation: AtomicU64,
    callee: AtomicU32,
    left: AtomicU32,
    /// What was left of the time of the vCPU that it took the core from.
    time_left: AtomicU64,
    /// Its interrupts.
    pub interrupts: VirtualInterrupts,
}

#[cfg(not(any(feature = "shuttle", feature = "loom")))]
const _: () = assert!(size_of::<Vcpu>() == 2 * 64 && core::mem::offset_of!(Vcpu, interrupts) + 16 <= 64);

/// No callee. Zero, as all that a fresh [`crate::Spmc`] holds is, so that it takes no room in the image.
const NOBODY: u32 = 0;
/// Marks a callee.
const SOMEBODY: u32 = 1 << 16;

/// The word of a conversation: the caller in bits 23..0, see [`encode`]; the rest here.
mod word {
    /// From here on the call that began it ([`super::opening`]).
    pub const CALL: u32 = 32;
    /// Normal-world interrupts wait until the conversation ends.
    pub const HOLDS: u64 = 1 << 24;
    /// Bits of the caller.
    pub const CALLER: u64 = (1 << 24) - 1;
    /// Place of the kind of caller.
    pub const KIND: u32 = 16;
    /// The caller is an endpoint of the normal world, whose identity stands in bits 15..0.
    pub const NORMAL_WORLD: u64 = 1 << KIND;
}

/// The call that begins a conversation of this model, or a number that is no call's; zero for the first, as a fresh vCPU has it.
const fn opening(model: Model) -> u32 {
    match model {
        Model::Init => 0,
        Model::Run => function::RUN,
        Model::Direct32 => function::MSG_SEND_DIRECT_REQ_32,
        Model::Direct64 => function::MSG_SEND_DIRECT_REQ_64,
        Model::Direct2 => function::MSG_SEND_DIRECT_REQ2,
        Model::SecureInterrupt => function::INTERRUPT,
        Model::Framework => 1,
        Model::VmMessage => 2,
    }
}

impl Vcpu {
    /// A vCPU that never ran.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            state: AtomicU8::new(RunState::Off as u8),
            core: AtomicU8::new(0),
            conversation: AtomicU64::new(0),
            callee: AtomicU32::new(NOBODY),
            left: AtomicU32::new(NOBODY),
            time_left: AtomicU64::new(0),
            interrupts: VirtualInterrupts::new(),
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
        let hold = if hold { word::HOLDS } else { 0 };
        self.conversation.store(encode(caller) | u64::from(opening(model)) << word::CALL | hold, Ordering::Relaxed);
        self.callee.store(NOBODY, Ordering::Relaxed);
    }

    /// [`Self::converse`] with an endpoint of the normal world, whose interrupts do not wait, on a vCPU that was claimed
    /// from [`RunState::Waiting`]: whoever waits has no callee. `caller` is its identity, `call` the function identifier of
    /// FFA_RUN or of a direct request.
    #[inline(always)]
    pub fn converse_with_normal_world(&self, caller: u64, call: u64) {
        debug_assert!(self.callee().is_none() && caller < 0x8000);
        self.conversation.store(caller | word::NORMAL_WORLD | call << word::CALL, Ordering::Relaxed);
    }

    /// The function identifier of the call that began the conversation, if its model is that of FFA_RUN or a direct request.
    #[inline]
    pub fn call(&self) -> u64 {
        self.conversation.load(Ordering::Relaxed) >> word::CALL
    }

    /// The current runtime model.
    pub fn model(&self) -> Model {
        const RUN: u32 = opening(Model::Run);
        const DIRECT_32: u32 = opening(Model::Direct32);
        const DIRECT_64: u32 = opening(Model::Direct64);
        const DIRECT2: u32 = opening(Model::Direct2);
        const SECURE_INTERRUPT: u32 = opening(Model::SecureInterrupt);
        const FRAMEWORK: u32 = opening(Model::Framework);
        match (self.conversation.load(Ordering::Relaxed) >> word::CALL) as u32 {
            0 => Model::Init,
            RUN => Model::Run,
            DIRECT_32 => Model::Direct32,
            DIRECT_64 => Model::Direct64,
            DIRECT2 => Model::Direct2,
            SECURE_INTERRUPT => Model::SecureInterrupt,
            FRAMEWORK => Model::Framework,
            _ => Model::VmMessage,
        }
    }

    /// Whether normal-world interrupts wait until the conversation ends.
    pub fn holds_interrupts(&self) -> bool {
        self.conversation.load(Ordering::Relaxed) & word::HOLDS != 0
    }

    /// From now on they wait: the partition has been asked to end the conversation. For the core that has its chain.
    pub fn hold_interrupts(&self) {
        self.conversation.store(self.conversation.load(Ordering::Relaxed) | word::HOLDS, Ordering::Relaxed);
    }

    /// Remembers how much of its time the vCPU has left that this one took the core from.
    pub fn leave_time_to_caller(&self, left: u64) {
        self.time_left.store(left, Ordering::Relaxed);
    }

    /// What [`Self::leave_time_to_caller`] remembered.
    pub fn time_left_to_caller(&self) -> u64 {
        self.time_left.load(Ordering::Relaxed)
    }

    /// The same conversation with another caller: the one before it has ended. For the core that has claimed its chain.
    pub fn adopt(&self, caller: Caller) {
        self.conversation.store(self.conversation.load(Ordering::Relaxed) & !word::CALLER | encode(caller), Ordering::Relaxed);
    }

    /// This core runs it from now on. What the caller then reads of its interrupts is ordered after that and after the
    /// claim: whoever posts one meanwhile sees where it runs, or the caller sees what was posted.
    #[inline]
    pub fn enter_on(&self, core: usize) {
        self.core.store(core as u8, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The core that runs it at present, if any does.
    pub fn runs_on(&self) -> Option<usize> {
        (self.state() == RunState::Running).then(|| usize::from(self.core.load(Ordering::Relaxed)))
    }

    /// Who gets the answer, if that is an endpoint of the normal world.
    pub fn normal_world_caller(&self) -> Option<EndpointId> {
        let word = self.conversation.load(Ordering::Relaxed);
        let id = EndpointId(word as u16);
        ((word & word::CALLER) >> word::KIND == 1 && !id.is_secure()).then_some(id)
    }

    /// Whether its conversation is with the normal world alone, which may interrupt it.
    pub fn is_alone_with_normal_world(&self) -> bool {
        self.normal_world_caller().is_some() && self.callee.load(Ordering::Relaxed) == NOBODY && !self.holds_interrupts()
    }

    /// Who gets the answer.
    pub fn caller(&self) -> Caller {
        decode(self.conversation.load(Ordering::Relaxed) & word::CALLER)
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

fn encode_callee(callee: Option<VcpuId>) -> u32 {
    callee.map_or(NOBODY, |v| SOMEBODY | u32::from(v.partition) << 8 | u32::from(v.index))
}

fn decode_callee(word: u32) -> Option<VcpuId> {
    (word != NOBODY).then_some(VcpuId { partition: (word >> 8) as u8, index: word as u8 })
}

/// Kind of caller in bits 23..16, identity below.
fn encode(caller: Caller) -> u64 {
    let vcpu = |kind: u64, v: VcpuId| kind << word::KIND | u64::from(v.partition) << 8 | u64::from(v.index);
    match caller {
        Caller::Boot => 0,
        Caller::NormalWorld(id) => word::NORMAL_WORLD | u64::from(id.0),
        Caller::Partition(v) => vcpu(2, v),
        Caller::Framework => 3 << word::KIND,
        Caller::Interrupted(v) => vcpu(4, v),
        Caller::InterruptedNormalWorld => 5 << word::KIND,
    }
}

fn decode(word: u64) -> Caller {
    let vcpu = VcpuId { partition: (word >> 8) as u8, index: word as u8 };
    match word >> word::KIND {
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
