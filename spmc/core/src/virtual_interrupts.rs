//! What a vCPU's interrupt controller holds, however the partition reaches it: by paravirtual calls
//! ([`crate::paravirtual`]), by the GICv3's registers ([`crate::interface`]), or, at S-EL0, by messages.
//!
//! Interrupts have slots, a bit each: 0 to 15 are software generated or the SPMC's own, then come the partition's physical
//! ones in the order of its manifest, then its timers'. Other cores post; all else is done by the core that claimed the vCPU.

use crate::partition::{MAX_INTERRUPTS, NormalWorldInterrupts, PartitionConfig};
use crate::sync::atomic::{AtomicU64, Ordering};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32};

/// Virtual interrupt: the EL1 physical timer, for those who enable it by this number.
pub(crate) const TIMER: u32 = 3;
/// Virtual interrupt: managed exit.
pub(crate) const MANAGED_EXIT: u32 = 4;
/// Virtual interrupt: a notification is pending (what FFA_FEATURES answers for NPI).
pub(crate) const NOTIFICATION_PENDING: u32 = 5;
/// Virtual interrupt: another vCPU of the partition asks for attention.
pub(crate) const INTER_PROCESSOR: u32 = 9;
/// Ids below this one are software generated or the SPMC's; ids from here on are physical ones.
pub(crate) const FIRST_PHYSICAL: u32 = 16;
/// Slots from here on are the timers'.
pub(crate) const FIRST_TIMER: u32 = FIRST_PHYSICAL + MAX_INTERRUPTS as u32;
/// Private interrupts of the EL1 virtual and the EL1 physical timer, in the order of [`crate::timer`].
pub(crate) const TIMERS: [u32; 2] = [27, 30];
/// Slots.
pub(crate) const SLOTS: usize = FIRST_TIMER as usize + TIMERS.len();
/// Slots of physical interrupts.
const PHYSICAL: u64 = (1 << MAX_INTERRUPTS) - 1 << FIRST_PHYSICAL;
/// Slots for which a waiting vCPU is not entered: the normal world schedules it.
const LEFT_TO_SCHEDULER: u64 = 1 << MANAGED_EXIT | 1 << NOTIFICATION_PENDING;

const _: () = assert!(SLOTS <= 64);

/// An interrupt's slot in a partition, if it has it.
pub(crate) fn slot_of(config: &PartitionConfig, interrupt: u32) -> Option<u32> {
    if interrupt < FIRST_PHYSICAL {
        return Some(interrupt);
    }
    if let Some(n) = config.interrupts.iter().position(|i| *i == interrupt) {
        return Some(FIRST_PHYSICAL + n as u32);
    }
    TIMERS.iter().position(|i| *i == interrupt).map(|n| FIRST_TIMER + n as u32)
}

/// The interrupt of a slot.
pub(crate) fn interrupt_in(config: &PartitionConfig, slot: u32) -> u32 {
    if slot < FIRST_PHYSICAL {
        slot
    } else if let Some(timer) = slot.checked_sub(FIRST_TIMER) {
        TIMERS[timer as usize % TIMERS.len()]
    } else {
        config.interrupts.get((slot - FIRST_PHYSICAL) as usize).copied().unwrap_or(slot)
    }
}

/// Whether a slot is that of one of the partition's physical interrupts.
pub(crate) const fn is_physical(slot: u32) -> bool {
    PHYSICAL & 1 << slot != 0
}

/// A set of slots, from the lowest on.
pub(crate) fn slots(mut set: u64) -> impl Iterator<Item = u32> {
    core::iter::from_fn(move || {
        let slot = set.trailing_zeros();
        set &= set.wrapping_sub(1);
        (slot < 64).then_some(slot)
    })
}

/// Interrupts of one vCPU. The first two words are in the cache line of what every message looks at ([`crate::vcpu`]).
#[repr(C)]
pub struct VirtualInterrupts {
    pending: AtomicU64,
    /// Taken, and not deactivated yet.
    active: AtomicU64,
    enabled: AtomicU64,
    /// Those that raise the virtual FIQ line in place of the IRQ line.
    fiq: AtomicU64,
    /// The partition deactivates its interrupts itself.
    deactivates: AtomicBool,
    /// GICv3 interface registers, see [`crate::interface`].
    pub(crate) interface: AtomicU32,
    /// ICC_AP1R0_EL1: active priorities, a bit for each.
    pub(crate) active_priorities: AtomicU32,
    /// Registers of the timers.
    pub(crate) timers: [crate::timer::Timer; TIMERS.len()],
}

impl VirtualInterrupts {
    /// None enabled.
    pub const fn new() -> Self {
        Self {
            pending: AtomicU64::new(0),
            active: AtomicU64::new(0),
            enabled: AtomicU64::new(0),
            fiq: AtomicU64::new(0),
            deactivates: AtomicBool::new(false),
            interface: AtomicU32::new(0),
            active_priorities: AtomicU32::new(0),
            timers: [const { crate::timer::Timer::new() }; TIMERS.len()],
        }
    }

    /// As a vCPU finds them at reset: what it need not ask for is enabled, the request for a managed exit and the notice of a
    /// notification. What is pending stays so.
    pub fn reset(&self, config: &PartitionConfig) {
        let exit = 1 << MANAGED_EXIT;
        let (mut enabled, fiq) = match config.normal_world_interrupts {
            NormalWorldInterrupts::ManagedExit { irq } => (exit, if irq { 0 } else { exit }),
            NormalWorldInterrupts::Queued | NormalWorldInterrupts::Signaled => (0, 0),
        };
        enabled |= u64::from(config.notifications) << NOTIFICATION_PENDING;
        if config.s_el0 {
            // It has no way to enable them, and no line: they are messages.
            enabled |= PHYSICAL;
        }
        self.enabled.store(enabled, Ordering::Relaxed);
        self.fiq.store(fiq, Ordering::Relaxed);
        self.interface.store(0, Ordering::Relaxed);
        self.active_priorities.store(0, Ordering::Relaxed);
        for timer in &self.timers {
            timer.reset();
        }
    }

    /// Whether the virtual IRQ line is up.
    pub(crate) fn irq_line(&self, priorities: &Priorities) -> bool {
        let ready = self.ready_irqs();
        ready != 0 && (!self.by_interface() || self.admitted(priorities, ready).is_some())
    }

    /// Whether the virtual FIQ line is up.
    pub fn fiq_line(&self) -> bool {
        self.ready() & self.fiq.load(Ordering::Relaxed) != 0
    }

    /// Pending, enabled, and not active.
    pub(crate) fn ready(&self) -> u64 {
        self.pending.load(Ordering::Acquire) & self.enabled.load(Ordering::Relaxed) & !self.active.load(Ordering::Relaxed)
    }

    /// Whether nothing is pending or active, and nothing becomes pending by itself. The caller has a fence before it.
    pub(crate) fn are_quiet(&self) -> bool {
        self.pending.load(Ordering::Relaxed) | self.active.load(Ordering::Relaxed) == 0 && !self.has_timer()
    }

    /// Whether anything is pending at all.
    pub(crate) fn any_pending(&self) -> bool {
        self.pending.load(Ordering::Acquire) != 0
    }

    /// Whether a waiting vCPU should run to handle what is pending.
    pub(crate) fn wants_core(&self) -> bool {
        self.ready() & !LEFT_TO_SCHEDULER != 0
    }

    pub(crate) fn post(&self, slot: u32) {
        self.pending.fetch_or(1 << slot, Ordering::AcqRel);
    }

    pub(crate) fn clear(&self, slot: u32) {
        self.pending.fetch_and(!(1 << slot), Ordering::AcqRel);
    }

    /// The ready one of highest priority that raises a line: the IRQ line's before the FIQ line's, as a handler of the
    /// first must not get what the second is for while both are up.
    pub(crate) fn peek(&self, priorities: &Priorities) -> Option<u32> {
        let irqs = self.ready_irqs();
        highest(priorities, if irqs != 0 { irqs } else { self.ready() })
    }

    /// The ready ones that raise the IRQ line.
    pub(crate) fn ready_irqs(&self) -> u64 {
        self.ready() & !self.fiq.load(Ordering::Relaxed)
    }

    /// Takes a pending interrupt; a physical one is active from now on.
    pub(crate) fn acknowledge(&self, slot: u32, stays_active: bool) {
        self.clear(slot);
        if stays_active {
            self.active.fetch_or(1 << slot, Ordering::Relaxed);
        }
    }

    /// Ends an interrupt's active state; whether it was active.
    pub(crate) fn deactivate(&self, slot: u32) -> bool {
        self.active.fetch_and(!(1 << slot), Ordering::Relaxed) & 1 << slot != 0
    }

    /// From now on the partition is expected to deactivate its interrupts itself.
    pub(crate) fn expect_deactivation(&self) {
        self.deactivates.store(true, Ordering::Relaxed);
    }

    /// Active ones that nobody will deactivate.
    pub(crate) fn forgotten(&self) -> u64 {
        let active = self.active.load(Ordering::Relaxed);
        if active == 0 || self.deactivates.load(Ordering::Relaxed) || self.by_interface() { 0 } else { active }
    }

    pub(crate) fn choose_line(&self, slot: u32, fiq: bool) {
        set(&self.fiq, slot, fiq);
    }

    pub(crate) fn enable(&self, slot: u32, enable: bool) {
        set(&self.enabled, slot, enable);
    }

    pub(crate) fn is_in(&self, set: Set, slot: u32) -> bool {
        let bits = match set {
            Set::Enabled => &self.enabled,
            Set::Pending => &self.pending,
            Set::Active => &self.active,
        };
        bits.load(Ordering::Relaxed) & 1 << slot != 0
    }
}

/// What the distributor's registers tell of an interrupt.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Set {
    Enabled,
    Pending,
    Active,
}

/// The priorities of a partition's interrupts, by slot: the lowest number is the highest.
pub(crate) struct Priorities([AtomicU8; SLOTS]);

impl Priorities {
    /// All highest.
    pub const fn new() -> Self {
        Self([const { AtomicU8::new(0) }; SLOTS])
    }

    /// Of one slot.
    pub fn of(&self, slot: u32) -> u8 {
        self.0[slot as usize % SLOTS].load(Ordering::Relaxed)
    }

    /// Changes that of one slot.
    pub fn set(&self, slot: u32, priority: u8) {
        self.0[slot as usize % SLOTS].store(priority, Ordering::Relaxed);
    }
}

/// The slot of highest priority, the lowest among equals.
pub(crate) fn highest(priorities: &Priorities, set: u64) -> Option<u32> {
    slots(set).min_by_key(|slot| priorities.of(*slot))
}

fn set(bits: &AtomicU64, slot: u32, value: bool) {
    if value {
        bits.fetch_or(1 << slot, Ordering::AcqRel);
    } else {
        bits.fetch_and(!(1 << slot), Ordering::AcqRel);
    }
}
