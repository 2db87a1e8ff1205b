//! Talking to the test partitions.

use crate::instance::version_of;
use bulkhead_sdk::ffa::{EndpointId, Regs, Status, Version, function};
use bulkhead_sdk::message::{Convention, request, response_payload};
use bulkhead_sdk::{Line, call};
use conformance_testkit::{Command, Probe};
use core::sync::atomic::{AtomicU64, Ordering};

/// This program's endpoint.
pub const SELF: EndpointId = EndpointId(0);

/// Times that a partition was interrupted and resumed.
static RESUMED: AtomicU64 = AtomicU64::new(0);

/// One request, as it is: whatever comes back.
pub fn send(probe: &Probe, convention: Convention, payload: &[u64]) -> Regs {
    call(request(convention, SELF, probe.id, probe.uuid, payload))
}

/// FFA_RUN for the partition and vCPU that an FFA_INTERRUPT or FFA_YIELD names.
pub fn resume(reply: &Regs) -> Regs {
    call(Regs::new(&[u64::from(function::RUN), u64::from(reply.w(1))]))
}

/// Resumes a partition until it answers.
pub fn finish(mut reply: Regs) -> Regs {
    while matches!(reply.function(), function::INTERRUPT | function::YIELD) {
        RESUMED.fetch_add(1, Ordering::Relaxed);
        reply = resume(&reply);
    }
    reply
}

/// Times that [`finish`] resumed a partition, so far.
pub fn resumed() -> u64 {
    RESUMED.load(Ordering::Relaxed)
}

/// Whether this program and the partition have no REQ2 in common.
fn is_narrow(probe: &Probe) -> bool {
    version_of(SELF) < Version::V1_2 || version_of(probe.id) < Version::V1_2
}

/// The widest convention that this program and the partition have in common.
pub fn convention(probe: &Probe) -> Convention {
    if is_narrow(probe) { Convention::Direct64 } else { Convention::Direct2 }
}

/// A command, as far as its first answer: it may be interrupted. At most four arguments where REQ2 is not spoken.
pub fn begin(probe: &Probe, command: Command, arguments: &[u64]) -> Regs {
    let mut payload = [0; 14];
    payload[0] = command as u64;
    payload[1..=arguments.len()].copy_from_slice(arguments);
    let convention = convention(probe);
    send(probe, convention, &payload[..convention.payload().len()])
}

/// The results in the answer to a command: 14, or 5 where REQ2 is not spoken.
pub fn results<'a>(probe: &Probe, reply: &'a Regs) -> Option<&'a [u64]> {
    response_payload(convention(probe), reply)
}

/// A command, resumed until it is answered.
fn perform(probe: &Probe, command: Command, arguments: &[u64]) -> Result<Regs, Line> {
    if !is_narrow(probe) || arguments.len() <= 4 {
        return Ok(finish(begin(probe, command, arguments)));
    }
    let mut words = [0; 14];
    words[0] = command as u64;
    words[1..=arguments.len()].copy_from_slice(arguments);
    load(probe, &words)?;
    Ok(finish(begin(probe, Command::Loaded, &[])))
}

/// Tells a partition words, a few at a time: for [`Command::Loaded`] and [`Command::CallLoaded`].
pub fn load(probe: &Probe, words: &[u64]) -> Result<(), Line> {
    let mut all = [0; 18];
    all[..words.len()].copy_from_slice(words);
    for (n, chunk) in all.chunks(3).enumerate() {
        let reply = finish(begin(probe, Command::Load, &[3 * n as u64, chunk[0], chunk[1], chunk[2]]));
        if results(probe, &reply).is_none() {
            return Err(Line::new(format_args!("{} answered Load by {}", probe.name, describe(&reply))));
        }
    }
    Ok(())
}

/// A command and its results.
pub fn ask(probe: &Probe, command: Command, arguments: &[u64]) -> Result<[u64; 14], Line> {
    let reply = perform(probe, command, arguments)?;
    let unexpected = |reply: &Regs| Line::new(format_args!("{} answered {command:?} by {}", probe.name, describe(reply)));
    let Some(words) = results(probe, &reply) else { return Err(unexpected(&reply)) };
    let mut all = [0; 14];
    all[..words.len()].copy_from_slice(words);
    // The others are asked for, unless that is what is being done.
    if command != Command::Take {
        for first in (words.len()..14).step_by(5) {
            let reply = finish(begin(probe, Command::Take, &[first as u64]));
            let Some(words) = results(probe, &reply) else { return Err(unexpected(&reply)) };
            let count = words.len().min(14 - first);
            all[first..first + count].copy_from_slice(&words[..count]);
        }
    }
    Ok(all)
}

/// A command that must be answered by an error.
pub fn ask_for_error(probe: &Probe, command: Command, arguments: &[u64]) -> Result<Status, Line> {
    let reply = perform(probe, command, arguments)?;
    match reply.as_error() {
        Some(status) => Ok(status),
        None => Err(Line::new(format_args!("{} answered {command:?} by {}", probe.name, describe(&reply)))),
    }
}

/// Whether a partition still serves.
pub fn serves(probe: &Probe) -> Result<(), Line> {
    let words = ask(probe, Command::Echo, &[0x1234_5678_9abc_def0])?;
    if words[1] == !0x1234_5678_9abc_def0 { Ok(()) } else { Err(Line::new(format_args!("{} echoes {:#x}", probe.name, words[1]))) }
}

/// A call of this program's own that must be answered by FFA_SUCCESS; anything that is neither that nor FFA_ERROR counts as
/// INTERRUPTED, which no check expects.
pub fn status_of(regs: &[u64]) -> Result<Regs, Status> {
    let reply = call(Regs::new(regs));
    match (reply.as_error(), reply.function()) {
        (Some(status), _) => Err(status),
        (None, function::SUCCESS_32 | function::SUCCESS_64) => Ok(reply),
        _ => Err(Status::Interrupted),
    }
}

/// A reply in words.
pub fn describe(reply: &Regs) -> Line {
    match (reply.as_error(), function::name(reply.function())) {
        (Some(status), _) => Line::new(format_args!("{status:?}")),
        (None, Some(name)) => Line::new(format_args!("{name} {:#x} {:#x} {:#x}", reply.0[1], reply.0[2], reply.0[3])),
        (None, None) => Line::new(format_args!("{:#x} {:#x} {:#x}", reply.0[0], reply.0[1], reply.0[2])),
    }
}
