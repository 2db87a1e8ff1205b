//! Talking to the test partitions.

use bulkhead_sdk::ffa::{EndpointId, Regs, Status, function};
use bulkhead_sdk::message::{Convention, request, response_payload};
use bulkhead_sdk::{Line, call};
use bulkhead_testkit::{Command, Probe};
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

/// A command and its results.
pub fn ask(probe: &Probe, command: Command, arguments: &[u64]) -> Result<[u64; 14], Line> {
    let mut payload = [0; 14];
    payload[0] = command as u64;
    payload[1..=arguments.len()].copy_from_slice(arguments);
    let reply = finish(send(probe, Convention::Direct2, &payload));
    match response_payload(Convention::Direct2, &reply) {
        Some(words) => {
            let mut results = [0; 14];
            results.copy_from_slice(words);
            Ok(results)
        }
        None => Err(Line::new(format_args!("{} answered {command:?} by {}", probe.name, describe(&reply)))),
    }
}

/// A command to a partition that does not know REQ2: up to four arguments, five results.
pub fn ask_by_64(probe: &Probe, command: Command, arguments: &[u64]) -> Result<[u64; 5], Line> {
    let mut payload = [0; 5];
    payload[0] = command as u64;
    payload[1..=arguments.len()].copy_from_slice(arguments);
    let reply = finish(send(probe, Convention::Direct64, &payload));
    match response_payload(Convention::Direct64, &reply) {
        Some(words) => Ok([words[0], words[1], words[2], words[3], words[4]]),
        None => Err(Line::new(format_args!("{} answered {command:?} by {}", probe.name, describe(&reply)))),
    }
}

/// A command that must be answered by an error.
pub fn ask_for_error(probe: &Probe, command: Command, arguments: &[u64]) -> Result<Status, Line> {
    let mut payload = [0; 14];
    payload[0] = command as u64;
    payload[1..=arguments.len()].copy_from_slice(arguments);
    let reply = finish(send(probe, Convention::Direct2, &payload));
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
