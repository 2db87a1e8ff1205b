//! Indirect messages between the worlds and among partitions.

use super::notifications::need_bitmap;
use super::prelude::*;
use crate::probes::{ask, describe, status_of};
use crate::board;
use bulkhead_sdk::ffa::descriptor::message;
use bulkhead_sdk::ffa::{EndpointId, Status, function};
use bulkhead_sdk::{Line, Mailbox};
use conformance_testkit::{Command, PROBE_EL0, PROBE_EL1, Probe, VICTIM_EL1};

checks! { "indirect":
    "15.1" message_reaches_each_partition_once [Ns] SINCE_1_2 "the message, its notification, and BUSY until RX is released";
    "15.1" message_reaches_the_normal_world [SEl1 SEl0] SINCE_1_2 "the message and its notification";
    "15.1" message_passes_between_partitions [SEl1 SEl0] SINCE_1_2 "the message and its notification";
    "15.1" message_lies_behind_its_header_in_the_buffer [Ns SEl1 SEl0] SINCE_1_2 "INVALID_PARAMETERS for each other place";
    "15.1" messages_that_may_not_be_are_refused [Ns] SINCE_1_2 "INVALID_PARAMETERS or DENIED";
}

static MAILBOX: Mailbox = Mailbox::new();
const BOTH: [Probe; 2] = [PROBE_EL1, PROBE_EL0];
const SEND: u64 = function::MSG_SEND2 as u64;
const GET: u64 = function::NOTIFICATION_GET as u64;
const FROM_FRAMEWORK: u64 = 4;
const PAYLOAD: u64 = message::HEADER_SIZE_V1_2 as u64;
const TEXT: u64 = 0x6f6c_6c65_6821_6b6f;

/// A message of eight bytes: the header's first three words, 64 bits each, of which the third ends with its reserved half.
fn header(sender: EndpointId, receiver: EndpointId) -> [u64; 3] {
    let ends = u64::from(sender.0) << 16 | u64::from(receiver.0);
    [0, PAYLOAD | ends << 32, 8]
}

/// Writes a word into the normal world's TX buffer.
pub fn write_to_tx(at: usize, word: u32) {
    MAILBOX.tx.write(at, &word.to_le_bytes());
}

/// Writes a message into the normal world's TX buffer.
pub fn prepare(sender: EndpointId, receiver: EndpointId) {
    for (n, word) in header(sender, receiver).into_iter().chain([0, 0, TEXT]).enumerate() {
        MAILBOX.tx.write(8 * n, &word.to_le_bytes());
    }
}

/// Has a partition write a message into its own TX buffer, and send it.
pub fn send_from(probe: &Probe, receiver: EndpointId) -> Result<bulkhead_sdk::ffa::Regs, Line> {
    let tx = ask(probe, Command::Places, &[])?[1];
    for (n, word) in header(probe.id, receiver).into_iter().chain([0, 0, TEXT]).enumerate() {
        ask(probe, Command::Write, &[tx + 8 * n as u64, word])?;
    }
    call_from(probe, &[SEND])
}

/// What lies in a partition's RX buffer: ends and text.
fn received_by(probe: &Probe) -> Result<(u64, u64), Line> {
    let rx = ask(probe, Command::Places, &[])?[0];
    let word = |offset: u64| ask(probe, Command::Read, &[rx + offset]).map(|words| words[1]);
    Ok((word(message::OFFSET as u64)? >> 32, word(PAYLOAD)?))
}

/// The framework's notifications of a partition.
pub fn told(probe: &Probe) -> Result<Result<u64, Status>, Line> {
    let reply = call_from(probe, &[GET, u64::from(probe.id.0), FROM_FRAMEWORK])?;
    Ok(reply.as_error().map_or(Ok(u64::from(reply.w(6)) | u64::from(reply.w(7)) << 32), Err))
}

/// What it should be told: by its manifest the one at S-EL0 takes no notifications.
fn told_if_able(probe: &Probe, bits: u64) -> Result<u64, Status> {
    if probe.s_el0 { Err(Status::Denied) } else { Ok(bits) }
}

pub fn release_by(probe: &Probe) -> Result<bool, Line> {
    Ok(call_from(probe, &[u64::from(function::RX_RELEASE)])?.as_error().is_none())
}

/// A check during which schedule receiver interrupts are taken: a pending one would preempt every partition that runs.
fn with_interrupts(check: impl FnOnce() -> Outcome) -> Outcome {
    board::interrupts(true);
    let outcome = check();
    board::interrupts(false);
    outcome
}

/// A check that has the normal world's buffers mapped meanwhile.
pub fn with_buffers(check: impl FnOnce() -> Outcome) -> Outcome {
    need_bitmap()?;
    let map = MAILBOX.map();
    ensure!(map.is_ok(), "map: {map:?}");
    let outcome = with_interrupts(check);
    let _ = MAILBOX.release();
    let unmap = MAILBOX.unmap();
    ensure!(unmap.is_ok(), "unmap: {unmap:?}");
    outcome
}

fn message_reaches_each_partition_once(_: Instance) -> Outcome {
    with_buffers(|| {
        for probe in BOTH {
            prepare(EndpointId(0), probe.id);
            let sent = status_of(&[SEND]);
            let again = status_of(&[SEND]);
            let got = received_by(&probe)?;
            let told = told(&probe)?;
            let released = release_by(&probe)?;
            ensure!(sent.is_ok() && again == Err(Status::Busy), "{}: {sent:?}, then {again:?}", probe.name);
            ensure!(got == (u64::from(probe.id.0), TEXT), "{} got {got:x?}", probe.name);
            ensure!(told == told_if_able(&probe, 1 << 32), "{} was told {told:x?}", probe.name);
            ensure!(released, "{} could not release RX", probe.name);
        }
        pass!("then BUSY until it is read")
    })
}

fn message_reaches_the_normal_world(at: Instance) -> Outcome {
    with_buffers(|| {
        for probe in [at.partition()] {
            let sent = send_from(&probe, EndpointId(0))?;
            ensure!(sent.as_error().is_none(), "{}: {}", probe.name, describe(&sent));
            let (ends, text) = (MAILBOX.rx.word(message::OFFSET) >> 32, MAILBOX.rx.word(PAYLOAD as usize));
            ensure!(ends == u64::from(probe.id.0) << 16 && text == TEXT, "{}: {ends:#x}, {text:#x}", probe.name);
            let told = status_of(&[GET, 0, FROM_FRAMEWORK]).map(|regs| regs.w(6));
            ensure!(told == Ok(1) && MAILBOX.release().is_ok(), "told: {told:x?}");
        }
        pass!("from {}", at.name())
    })
}

fn message_passes_between_partitions(at: Instance) -> Outcome {
    with_interrupts(|| pass_between_partitions(&at.partition(), &at.other()))
}

fn pass_between_partitions(from: &Probe, to: &Probe) -> Outcome {
    {
        let sent = send_from(from, to.id)?;
        ensure!(sent.as_error().is_none(), "{} to {}: {}", from.name, to.name, describe(&sent));
        let got = received_by(to)?;
        let told = told(to)?;
        ensure!(release_by(to)?, "{} could not release RX", to.name);
        ensure!(got == (u64::from(from.id.0) << 16 | u64::from(to.id.0), TEXT), "{} got {got:x?}", to.name);
        ensure!(told == told_if_able(to, 1), "{} was told {told:x?}", to.name);
    }
    pass!("from {} to {}", from.name, to.name)
}

fn messages_that_may_not_be_are_refused(_: Instance) -> Outcome {
    let without = status_of(&[SEND]);
    ensure!(without == Err(Status::Denied), "without buffers: {without:?}");
    with_buffers(|| {
        let cases = [
            ("unknown receiver", EndpointId(0), EndpointId(0x8077), Status::InvalidParameters),
            ("another's name", PROBE_EL0.id, PROBE_EL1.id, Status::InvalidParameters),
            ("to itself", EndpointId(0), EndpointId(0), Status::InvalidParameters),
            ("a receiver without the method", EndpointId(0), VICTIM_EL1.id, Status::Denied),
        ];
        for (what, sender, receiver, expected) in cases {
            prepare(sender, receiver);
            let result = status_of(&[SEND]);
            ensure!(result == Err(expected), "{what}: {result:?}");
        }
        pass!("{} ways", 1 + cases.len())
    })
}

fn message_lies_behind_its_header_in_the_buffer(at: Instance) -> Outcome {
    if at != Instance::Ns {
        return with_interrupts(|| wrong_places(at));
    }
    with_buffers(|| wrong_places(at))
}

fn wrong_places(at: Instance) -> Outcome {
    let tx = match at {
        Instance::Ns => MAILBOX.tx.address(),
        _ => at.buffers()?.1,
    };
    let ends = u64::from(at.id().0) << 16 | u64::from(at.other().id.0);
    let page = bulkhead_sdk::PAGE as u64;
    let places = [(0, 8), (PAYLOAD - 4, 8), (page - 4, 8), (page, 4), (0xffff_fff8, 16), (PAYLOAD, page), (PAYLOAD, 0xffff_fff0)];
    for (offset, size) in places {
        for (n, word) in [0, offset | ends << 32, size, 0, 0].into_iter().enumerate() {
            at.write(tx + 8 * n as u64, word)?;
        }
        let result = at.status(&[SEND])?.map(|_| ());
        if result.is_ok() {
            release_by(&at.other())?;
        }
        expect!(result, Err(Status::InvalidParameters), "for {size:#x} bytes at {offset:#x}");
    }
    pass!("{} places", places.len())
}
