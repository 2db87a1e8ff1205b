//! The three FF-A instances from which a call can come: this program itself, and one partition at each exception level, which
//! makes calls on request. A rule that holds at several instances is written once, for an [`Instance`].

use crate::check::Outcome;
use crate::fw_cfg::Item;
use crate::probes::{SELF, ask};
use bulkhead_sdk::ffa::{EndpointId, Regs, Status, Version, function};
use bulkhead_sdk::memory::{Borrower, Description, Range};
use bulkhead_sdk::{Line, call};
use conformance_testkit::trials;
use conformance_testkit::{Command, PROBE_EL0, PROBE_EL1, Probe, VICTIM_EL0, VICTIM_EL1};
use core::sync::atomic::{AtomicU32, Ordering};

/// Which side makes the call under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instance {
    /// The normal world's hypervisor: the physical instance.
    Ns,
    /// A partition at S-EL1: the secure virtual instance.
    SEl1,
    /// A partition at S-EL0.
    SEl0,
}

/// Versions that the normal world and the four partitions speak, in the order of [`speakers`].
static VERSIONS: [AtomicU32; 5] = [const { AtomicU32::new(Version::V1_2.0) }; 5];

fn speakers() -> [EndpointId; 5] {
    [SELF, PROBE_EL1.id, PROBE_EL0.id, VICTIM_EL1.id, VICTIM_EL0.id]
}

/// Takes from the host who speaks which version: `1.2 1.2 1.0 ...`, in the order of [`speakers`].
pub fn settle_versions(mut item: Item) {
    for version in &VERSIONS {
        let Some(word) = item.word() else { return };
        let Some((major, minor)) = word.as_str().split_once('.') else { continue };
        if let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) {
            version.store(Version::new(major, minor).0, Ordering::Relaxed);
        }
    }
}

/// The version that an endpoint speaks in this boot.
pub fn version_of(id: EndpointId) -> Version {
    let position = speakers().iter().position(|speaker| *speaker == id);
    position.map_or(Version::V1_2, |n| Version(VERSIONS[n].load(Ordering::Relaxed)))
}

/// What FFA_VERSION answered to this program before any other call.
static ANSWERED: [AtomicU32; trials::ASKED.len()] = [const { AtomicU32::new(0) }; trials::ASKED.len()];

/// Tries FFA_VERSION while the version may still change.
pub fn try_versions() {
    for (to, answer) in ANSWERED.iter().zip(trials::ask_versions()) {
        to.store(answer, Ordering::Relaxed);
    }
}

impl Instance {
    /// The instance of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Ns, Self::SEl1, Self::SEl0].into_iter().find(|instance| instance.name() == name)
    }

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ns => "NS",
            Self::SEl1 => "S-EL1",
            Self::SEl0 => "S-EL0",
        }
    }

    /// The partition that makes the calls.
    pub const fn probe(self) -> Option<Probe> {
        match self {
            Self::Ns => None,
            Self::SEl1 => Some(PROBE_EL1),
            Self::SEl0 => Some(PROBE_EL0),
        }
    }

    /// The partition that makes the calls of a rule that has only partitions' instances.
    ///
    /// # Panics
    /// For the normal world's: the check's line in its table is wrong.
    pub const fn partition(self) -> Probe {
        match self.probe() {
            Some(probe) => probe,
            None => panic!("the rule is not the normal world's"),
        }
    }

    /// The endpoint that makes the calls.
    pub const fn id(self) -> EndpointId {
        match self.probe() {
            None => SELF,
            Some(probe) => probe.id,
        }
    }

    /// A partition that is not this instance's own.
    pub const fn other(self) -> Probe {
        match self {
            Self::SEl1 => PROBE_EL0,
            _ => PROBE_EL1,
        }
    }

    /// The version that it speaks in this boot.
    pub fn version(self) -> Version {
        version_of(self.id())
    }

    /// What FFA_VERSION answered before any other call, to each of [`trials::ASKED`].
    ///
    /// # Errors
    /// When the partition does not say.
    pub fn version_answers(self) -> Result<[u32; trials::ASKED.len()], Line> {
        let Some(probe) = self.probe() else { return Ok(ANSWERED.each_ref().map(|answer| answer.load(Ordering::Relaxed))) };
        let words = ask(&probe, Command::Versions, &[])?;
        Ok(core::array::from_fn(|n| words[n] as u32))
    }

    /// Makes a call with these registers (the others are zero): x0 to x17 after it.
    ///
    /// # Errors
    /// When the partition did not get to make it.
    pub fn call(self, regs: &[u64]) -> Result<Regs, Line> {
        let Some(probe) = self.probe() else { return Ok(call(Regs::new(regs))) };
        call_from(&probe, regs)
    }

    /// A call that is to be answered by FFA_SUCCESS or FFA_ERROR.
    ///
    /// # Errors
    /// When the partition did not get to make it, or it is answered otherwise.
    pub fn status(self, regs: &[u64]) -> Result<Result<Regs, Status>, Line> {
        let reply = self.call(regs)?;
        match (reply.as_error(), reply.function()) {
            (Some(status), _) => Ok(Err(status)),
            (None, function::SUCCESS_32 | function::SUCCESS_64) => Ok(Ok(reply)),
            _ => Err(Line::new(format_args!("answered by {:#x} {:#x} {:#x}", reply.0[0], reply.0[1], reply.0[2]))),
        }
    }

    /// Whether FFA_FEATURES says that the function is there.
    ///
    /// # Errors
    /// As [`Self::status`].
    pub fn has(self, id: u32) -> Result<bool, Line> {
        Ok(self.status(&[function::FEATURES.into(), id.into()])?.is_ok())
    }

    /// RX and TX buffers: addresses, as the instance knows them.
    ///
    /// # Errors
    /// When the partition does not say.
    pub fn buffers(self) -> Result<(u64, u64), Line> {
        match self.probe() {
            None => Ok((MAILBOX.rx.address(), MAILBOX.tx.address())),
            Some(probe) => ask(&probe, Command::Places, &[]).map(|words| (words[0], words[1])),
        }
    }

    /// A page of its own that nothing else uses.
    ///
    /// # Errors
    /// When the partition does not say.
    pub fn page(self) -> Result<u64, Line> {
        match self.probe() {
            None => Ok(PAGE_OF_OWN.address()),
            Some(probe) => ask(&probe, Command::Places, &[]).map(|words| words[2]),
        }
    }

    /// Eight bytes of its memory.
    ///
    /// # Errors
    /// When it cannot read there.
    #[expect(unsafe_code, reason = "the checks read this program's own pages")]
    pub fn read(self, address: u64) -> Result<u64, Line> {
        let value = match self.probe() {
            // SAFETY: memory of this program, or an access that faults and is caught.
            None => unsafe { bulkhead_sdk::read(address) },
            Some(probe) => {
                let words = ask(&probe, Command::Read, &[address])?;
                (words[0] == 1).then_some(words[1])
            }
        };
        value.ok_or_else(|| Line::new(format_args!("{} cannot read {address:#x}", self.name())))
    }

    /// Writes eight bytes of its memory.
    ///
    /// # Errors
    /// When it cannot write there.
    #[expect(unsafe_code, reason = "the checks write this program's own pages")]
    pub fn write(self, address: u64, value: u64) -> Result<(), Line> {
        let done = match self.probe() {
            // SAFETY: pages that no Rust object lies in, or an access that faults and is caught.
            None => unsafe { bulkhead_sdk::write(address, value) }.is_some(),
            Some(probe) => ask(&probe, Command::Write, &[address, value])?[0] == 1,
        };
        if done { Ok(()) } else { Err(Line::new(format_args!("{} cannot write {address:#x}", self.name()))) }
    }

    /// Maps its buffers; a partition did that when it initialised.
    ///
    /// # Errors
    /// When that is refused.
    pub fn map(self) -> Result<(), Line> {
        let (rx, tx) = self.buffers()?;
        let mapped = self.status(&[function::RXTX_MAP_64.into(), tx, rx, 1])?;
        mapped.map(|_| ()).map_err(|status| Line::new(format_args!("FFA_RXTX_MAP: {status:?}")))
    }

    /// Runs a check with the instance's buffers mapped, and leaves them as they were: a partition's are, from its start.
    ///
    /// # Errors
    /// As the check, or when mapping is refused.
    pub fn with_buffers(self, check: impl FnOnce() -> Outcome) -> Outcome {
        if self != Self::Ns {
            return check();
        }
        self.map()?;
        let outcome = check();
        self.unmap()?;
        outcome
    }

    /// Runs a check with the instance's buffers not mapped, and leaves them as they were.
    ///
    /// # Errors
    /// As the check, or when unmapping is refused.
    pub fn without_buffers(self, check: impl FnOnce() -> Outcome) -> Outcome {
        if self == Self::Ns {
            return check();
        }
        self.unmap()?;
        let outcome = check();
        self.map()?;
        outcome
    }

    /// Unmaps its buffers.
    ///
    /// # Errors
    /// When that is refused.
    pub fn unmap(self) -> Result<(), Line> {
        let unmapped = self.status(&[function::RXTX_UNMAP.into()])?;
        unmapped.map(|_| ()).map_err(|status| Line::new(format_args!("FFA_RXTX_UNMAP: {status:?}")))
    }
}

static MAILBOX: bulkhead_sdk::Mailbox = bulkhead_sdk::Mailbox::new();
static PAGE_OF_OWN: bulkhead_sdk::Pages<1> = bulkhead_sdk::Pages::new();

/// What the normal world sends as a lender, in the layout of its version.
pub fn lender<'a>(borrowers: &'a [Borrower], ranges: &'a [Range]) -> Description<'a> {
    Description { v1_0: Instance::Ns.version() < Version::V1_1, ..Description::lender(SELF, borrowers, ranges) }
}

/// Words of a reply that arrive with the answer to Call; the rest is asked for.
const WITH_ANSWER: usize = 14;

/// What a partition's own call answered: x0 to x17.
pub fn call_from(probe: &Probe, regs: &[u64]) -> Result<Regs, Line> {
    let mut words = [0; 18];
    if regs.len() <= 9 {
        let mut arguments = [0; 9];
        arguments[..regs.len()].copy_from_slice(regs);
        words[..WITH_ANSWER].copy_from_slice(&ask(probe, Command::Call, &arguments)?);
    } else {
        crate::probes::load(probe, regs)?;
        words[..WITH_ANSWER].copy_from_slice(&ask(probe, Command::CallLoaded, &[])?);
    }
    let rest = ask(probe, Command::Take, &[WITH_ANSWER as u64])?;
    words[WITH_ANSWER..].copy_from_slice(&rest[..18 - WITH_ANSWER]);
    Ok(Regs(words))
}
