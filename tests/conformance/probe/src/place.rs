//! Where this code runs: level, vCPU, endpoint; and the partition's pages.
#![expect(unsafe_code, reason = "reads MPIDR_EL1")]

use bulkhead_sdk::ffa::{EndpointId, Regs, Version, function};
use bulkhead_sdk::{Mailbox, Pages, call};
use conformance_testkit::trials;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// vCPUs at the most.
pub const MAX_VCPUS: usize = 8;

/// The exception level of this partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// S-EL0.
    SEl0,
    /// S-EL1.
    SEl1,
}

static S_EL1: AtomicBool = AtomicBool::new(false);
static VERSION: AtomicU32 = AtomicU32::new(Version::V1_2.0);

/// RX/TX buffers.
pub static MAILBOX: Mailbox = Mailbox::new();
/// A page to share, lend and donate.
pub static OWN_PAGE: Pages<1> = Pages::new();
/// What each vCPU read back after it filled its registers: a quarter of a page each.
pub static FILLED: Pages<2> = Pages::new();

/// What FFA_VERSION answered before any other call.
static ANSWERED: [AtomicU32; trials::ASKED.len()] = [const { AtomicU32::new(0) }; trials::ASKED.len()];

/// Tries FFA_VERSION while the version may still change.
pub fn try_versions() {
    for (to, answer) in ANSWERED.iter().zip(trials::ask_versions()) {
        to.store(answer, Ordering::Relaxed);
    }
}

/// What FFA_VERSION answered then.
pub fn version_answers() -> [u64; trials::ASKED.len()] {
    ANSWERED.each_ref().map(|answer| answer.load(Ordering::Relaxed).into())
}

/// Remembers level and version, once.
pub fn settle(level: Level, version: Version) {
    S_EL1.store(level == Level::SEl1, Ordering::Relaxed);
    VERSION.store(version.0, Ordering::Relaxed);
}

/// The FF-A version that this partition speaks.
pub fn version() -> Version {
    Version(VERSION.load(Ordering::Relaxed))
}

/// The level.
pub fn level() -> Level {
    if S_EL1.load(Ordering::Relaxed) { Level::SEl1 } else { Level::SEl0 }
}

/// The vCPU that runs this.
pub fn vcpu() -> usize {
    if level() == Level::SEl0 {
        return 0;
    }
    let mpidr: u64;
    // SAFETY: reads an identification register at EL1.
    unsafe { core::arch::asm!("mrs {}, mpidr_el1", out(reg) mpidr, options(nomem, nostack)) };
    mpidr as usize % MAX_VCPUS
}

/// The partition's endpoint id, from FFA_ID_GET.
pub fn id() -> EndpointId {
    EndpointId(call(Regs::new(&[u64::from(function::ID_GET)])).w(2) as u16)
}
