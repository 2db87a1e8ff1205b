//! Partitions: what the manifest fixed, and what changes while they run.

use crate::OUR_VERSION;
use crate::mailbox::LockedMailbox;
use crate::vcpu::Vcpu;
use crate::MAX_CORES;
use crate::virtual_interrupts::{FIRST_PHYSICAL, Priorities};
use arrayvec::ArrayVec;
use bulkhead_ffa::{EndpointId, Uuid, Version};
use crate::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use spin::Once;

/// Index of a partition in the SPMC's table.
pub type PartitionIndex = u8;
/// Service UUIDs of one partition, at the most.
pub const MAX_UUIDS: usize = 4;
/// Physical interrupts of one partition, at the most.
pub const MAX_INTERRUPTS: usize = 32;

/// Messaging methods of a partition or service, with the bits of the manifest's `messaging-method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Methods(pub u32);

impl Methods {
    /// Receives FFA_MSG_SEND_DIRECT_REQ.
    pub const DIRECT_RECEIVE: u32 = 1 << 0;
    /// Sends FFA_MSG_SEND_DIRECT_REQ.
    pub const DIRECT_SEND: u32 = 1 << 1;
    /// Indirect messages.
    pub const INDIRECT: u32 = 1 << 2;
    /// Receives FFA_MSG_SEND_DIRECT_REQ2.
    pub const DIRECT2_RECEIVE: u32 = 1 << 9;
    /// Sends FFA_MSG_SEND_DIRECT_REQ2.
    pub const DIRECT2_SEND: u32 = 1 << 10;

    /// Whether all of `bits` are set.
    #[must_use]
    pub const fn has(self, bits: u32) -> bool {
        self.0 & bits == bits
    }
}

/// What a normal-world interrupt does to a partition that runs (the manifest's `ns-interrupts-action`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormalWorldInterrupts {
    /// It waits until the partition ends its conversation.
    Queued,
    /// The partition is asked to end its conversation soon, by a virtual FIQ or (`irq`) a virtual interrupt.
    ManagedExit {
        /// Signalled as virtual interrupt 4 in place of a virtual FIQ.
        irq: bool,
    },
    /// The normal world gets the core at once; FFA_RUN resumes the partition.
    Signaled,
}

/// A service that a partition offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// What it is asked for by.
    pub uuid: Uuid,
    /// How it is talked to.
    pub methods: Methods,
}

/// Power management messages that a partition wants (the manifest's `power-management-messages`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PowerMessages {
    /// A core goes off.
    pub off: bool,
    /// A core is suspended.
    pub suspend: bool,
    /// A core resumes.
    pub resume: bool,
}

/// Framework messages about virtual machines that a partition wants (the manifest's `vm-availability-messages`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct VmMessages {
    /// One was created.
    pub created: bool,
    /// One was destroyed.
    pub destroyed: bool,
}

/// What the manifests say of a partition, as far as messages and calls depend on it.
#[derive(Clone, Debug)]
pub struct PartitionConfig {
    /// Its endpoint id.
    pub id: EndpointId,
    /// Its services; at least one.
    pub services: ArrayVec<Service, MAX_UUIDS>,
    /// The methods of all services together.
    pub methods: Methods,
    /// Execution contexts: 1, or one for each core.
    pub vcpus: u8,
    /// Runs at S-EL0 (else at S-EL1).
    pub s_el0: bool,
    /// Receives notifications.
    pub notifications: bool,
    /// Which power management messages it wants.
    pub power_messages: PowerMessages,
    /// Which messages about virtual machines it wants.
    pub vm_messages: VmMessages,
    /// The version its manifest names: what it speaks until it calls FFA_VERSION.
    pub version: Version,
    /// What a normal-world interrupt does to it.
    pub normal_world_interrupts: NormalWorldInterrupts,
    /// Other partitions' secure interrupts wait while it runs (the manifest's `other-s-interrupts-action`).
    pub holds_other_secure: bool,
    /// Its physical interrupts.
    pub interrupts: ArrayVec<u32, MAX_INTERRUPTS>,
    /// Their priorities, as the GIC has them: the lowest number first.
    pub priorities: [u8; MAX_INTERRUPTS],
    /// Those whose core the manifest fixes (`interrupts-target`), a bit for each; the others go to the core that enables them.
    pub routed: u32,
    /// It has a GICv3's distributor, which is emulated.
    pub distributor: bool,
    /// Where its first vCPU starts.
    pub entry: u64,
    /// x0 at its first entry (the register that `gp-register-num` names is always x0 here).
    pub boot_argument: u64,
    /// Milliseconds that the initialisation of one vCPU may take, and any other run during which the normal world's
    /// interrupts wait (a queued or ignored managed exit, the handling of a secure interrupt, a power message); 0: no limit.
    pub init_time_limit_ms: u32,
}

/// The version that an endpoint speaks, and whether it may still change (DEN0077A v1.2 section 13.2). One word, so that cores
/// on which the endpoint calls at the same time agree on which call came first.
pub struct Spoken {
    /// The minor number asked for, also one above ours, as every endpoint speaks major version 1; and [`Self::LOCKED`].
    word: AtomicU32,
}

impl Spoken {
    const LOCKED: u32 = 1 << 16;

    pub(crate) const fn new() -> Self {
        Self { word: AtomicU32::new(0) }
    }

    /// The version spoken now.
    pub fn version(&self) -> Version {
        Self::asked(self.word.load(Ordering::Relaxed)).min(OUR_VERSION)
    }

    const fn asked(word: u32) -> Version {
        Version::new(OUR_VERSION.major(), word as u16)
    }

    /// Settles what is asked for, a version of major number 1: it or ours is spoken. Once locked, nothing else may be asked for.
    pub fn agree(&self, version: Version) -> bool {
        let old = self.word.load(Ordering::Relaxed);
        let now = if old & Self::LOCKED == 0 {
            match self.word.compare_exchange(old, u32::from(version.minor()), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => now,
            }
        } else {
            old
        };
        // Not locked: another core settled a version just after this one would have.
        now & Self::LOCKED == 0 || version == Self::asked(now) || version == Self::asked(now).min(OUR_VERSION)
    }

    /// Whether it is locked, and at this minor number or a later one.
    pub fn is_locked_at(&self, minor: u32) -> bool {
        self.word.load(Ordering::Relaxed) >= Self::LOCKED | minor
    }

    /// Fixes the version: another call than FFA_VERSION was made.
    pub fn lock(&self) {
        if self.word.load(Ordering::Relaxed) & Self::LOCKED == 0 {
            self.word.fetch_or(Self::LOCKED, Ordering::Relaxed);
        }
    }

    /// Lets the version be settled anew: another component speaks for the endpoint from now on.
    pub fn unlock(&self) {
        self.word.fetch_and(!Self::LOCKED, Ordering::Relaxed);
    }
}

/// An endpoint's side of the ABI: the normal world has one too.
pub struct Endpoint {
    /// Its version.
    pub spoken: Spoken,
    /// Its RX/TX buffers.
    pub mailbox: LockedMailbox,
}

impl Endpoint {
    /// Nothing agreed yet.
    pub const fn new() -> Self {
        Self { spoken: Spoken::new(), mailbox: LockedMailbox::new() }
    }
}

/// One partition.
pub struct Partition {
    config: Once<PartitionConfig>,
    /// Version and buffers.
    pub endpoint: Endpoint,
    /// What is usual about it: bits of [`crate::fast`].
    pub fast: AtomicU32,
    /// Execution contexts.
    pub vcpus: [Vcpu; MAX_CORES],
    /// Priorities of its interrupts.
    pub(crate) priorities: Priorities,
    /// Cores on which its vCPU is to run for an interrupt, a bit for each.
    pub(crate) wanted_on: AtomicU8,
    /// Slots of interrupts whose core was chosen, by the manifest or since.
    pub(crate) routed: AtomicU64,
    /// Where secondary execution contexts start; 0: not registered.
    pub secondary_entry: AtomicU64,
    /// The first vCPU has finished its initialisation.
    pub initialised: AtomicBool,
    failed: AtomicBool,
}

impl Partition {
    /// An empty place in the table.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            config: Once::new(),
            endpoint: Endpoint::new(),
            fast: AtomicU32::new(0),
            vcpus: [const { Vcpu::new() }; MAX_CORES],
            priorities: Priorities::new(),
            wanted_on: AtomicU8::new(0),
            routed: AtomicU64::new(0),
            secondary_entry: AtomicU64::new(0),
            initialised: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        }
    }

    /// Fixes the configuration, at boot.
    pub fn configure(&self, config: PartitionConfig) {
        self.endpoint.spoken.agree(config.version);
        for (n, priority) in config.priorities.iter().enumerate() {
            self.priorities.set(FIRST_PHYSICAL + n as u32, *priority);
        }
        self.routed.store(u64::from(config.routed) << FIRST_PHYSICAL, Ordering::Relaxed);
        self.config.call_once(|| config);
    }

    /// The configuration; `None` for an empty place.
    pub fn config(&self) -> Option<&PartitionConfig> {
        self.config.get()
    }

    /// What is left of `methods` at the version that it speaks.
    pub fn methods(&self, methods: Methods) -> Methods {
        let direct2 = Methods::DIRECT2_RECEIVE | Methods::DIRECT2_SEND;
        let version = self.endpoint.spoken.version();
        let later = if version < Version::V1_1 {
            direct2 | Methods::INDIRECT
        } else if version < Version::V1_2 {
            direct2
        } else {
            0
        };
        Methods(methods.0 & !later)
    }

    /// Whether it was ended after a fault.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Ends it; returns whether this call was the one that did.
    pub fn fail(&self) -> bool {
        self.fast.store(0, Ordering::Relaxed);
        !self.failed.swap(true, Ordering::AcqRel)
    }
}

impl Default for Endpoint {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for Partition {
    fn default() -> Self {
        Self::new()
    }
}
