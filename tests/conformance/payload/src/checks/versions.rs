//! FFA_VERSION, and what depends on the version that the caller speaks.

use super::prelude::*;
use crate::instance::version_of;
use crate::probes::{ask, describe, finish, send};
use bulkhead_sdk::ffa::{Status, Version, function};
use bulkhead_sdk::memory::{self, Borrower, Kind, READ_WRITE, Range};
use bulkhead_sdk::message::{Convention, response_payload};
use bulkhead_sdk::{Line, Mailbox, PAGE, Pages};
use conformance_testkit::{Command, PROBE_EL0, PROBE_EL1, Probe, VICTIM_EL0, VICTIM_EL1, trials};

checks! { "versions":
    "13.2" version_with_bit_31_is_not_supported [Ns SEl1 SEl0] ANY "NOT_SUPPORTED" = |at| first_answers(at, &[0x8001_0002], not_supported);
    "13.2" another_major_version_is_not_supported [Ns SEl1 SEl0] ANY "NOT_SUPPORTED" = |at| first_answers(at, &[0x2_0000, 0x0_0001], not_supported);
    "13.2" later_minor_version_is_answered_by_the_callees [Ns SEl1] ANY "the callee's version, of major 1 and 1.2 or later" = |at| first_answers(at, &[0x1_0003], callees);
    "13.2" earlier_minor_version_is_answered_by_the_callees [Ns SEl1] ANY "the callee's version, of major 1 and 1.2 or later" = |at| first_answers(at, &[0x1_0000, 0x1_0001, 0x1_0002], callees);
    "13.2" version_is_settled_by_the_first_call [Ns SEl1 SEl0] ANY "NOT_SUPPORTED for another version";
    "13.2" settled_version_may_be_asked_for_again [Ns SEl1 SEl0] ANY "the callee's version";
    "13.2" wrong_versions_are_not_supported_later [Ns SEl1 SEl0] ANY "NOT_SUPPORTED";
    "13.2" answer_is_a_bare_value [Ns SEl1 SEl0] ANY "w0 is the version, w1 to w7 are zero";
    "13.3" later_calls_are_no_features [Ns SEl1 SEl0] BEFORE_1_2 "NOT_SUPPORTED";
    "13.2" later_calls_are_not_supported [Ns SEl1 SEl0] BEFORE_1_2 "NOT_SUPPORTED";
    "15.2" partitions_of_all_versions_answer [Ns] ANY "the response, 32-bit and 64-bit";
    "DEN0140 1.10" partitions_of_all_versions_borrow [Ns] ANY "each retrieves, writes and relinquishes";
}

const LATER_THAN_1_0: [u32; 7] = [
    function::NOTIFICATION_BIND, function::NOTIFICATION_UNBIND, function::NOTIFICATION_SET, function::NOTIFICATION_GET, function::SPM_ID_GET,
    function::MSG_SEND2, function::PARTITION_INFO_GET_REGS,
];
const LATER_THAN_1_1: [u32; 2] = [function::MSG_SEND_DIRECT_REQ2, function::MSG_SEND_DIRECT_RESP2];
const ALL: [Probe; 4] = [PROBE_EL1, PROBE_EL0, VICTIM_EL1, VICTIM_EL0];
static MAILBOX: Mailbox = Mailbox::new();
static PAGE_A: Pages<1> = Pages::new();

fn not_supported(answer: u32) -> bool {
    u64::from(answer) == Status::NotSupported.code()
}

fn callees(answer: u32) -> bool {
    answer >> 31 == 0 && Version(answer).major() == 1 && Version(answer) >= Version::V1_2
}

/// What was answered before any other call, when the version could still change. (At S-EL0 the program has made calls by then: it has
/// no stack before it has set permissions.)
fn first_answers(at: Instance, asked: &[u32], right: fn(u32) -> bool) -> Outcome {
    let answers = at.version_answers()?;
    for (version, answer) in trials::ASKED.iter().zip(answers).filter(|(version, _)| asked.contains(version)) {
        ensure!(right(answer), "{version:#x} is answered by {answer:#x}");
    }
    pass!("for {asked:x?}")
}

fn version_is_settled_by_the_first_call(at: Instance) -> Outcome {
    let own = at.version();
    at.call(&[function::FEATURES.into(), function::RXTX_MAP_64.into()])?;
    for other in [Version::V1_0, Version::V1_1, Version::V1_2, Version::new(1, 3)].iter().filter(|other| **other != own) {
        let answer = at.call(&[function::VERSION.into(), other.0.into()])?.w(0);
        ensure!(not_supported(answer), "{other} is answered by {answer:#x}");
    }
    pass!("{own}")
}

fn settled_version_may_be_asked_for_again(at: Instance) -> Outcome {
    for _ in 0..2 {
        let answer = at.call(&[function::VERSION.into(), at.version().0.into()])?.w(0);
        ensure!(callees(answer), "answered by {answer:#x}");
    }
    pass!("{}", at.version())
}

fn wrong_versions_are_not_supported_later(at: Instance) -> Outcome {
    for wrong in [0x8001_0000, 0x8001_0002, 0x2_0000, 0x7fff_0001, 0, 0xffff_ffff] {
        let answer = at.call(&[function::VERSION.into(), wrong])?.w(0);
        ensure!(not_supported(answer), "{wrong:#x} is answered by {answer:#x}");
    }
    pass!("6 values")
}

fn answer_is_a_bare_value(at: Instance) -> Outcome {
    let reply = at.call(&[function::VERSION.into(), at.version().0.into()])?;
    ensure!(callees(reply.0[0] as u32) && reply.0[0] >> 32 == 0, "x0 is {:#x}", reply.0[0]);
    expect!(reply.0[1..8], [0; 7], "in x1 to x7");
    pass!("{:#x}", reply.0[0])
}

/// What the version of this instance does not have.
fn later_than(at: Instance) -> impl Iterator<Item = u32> {
    let earlier = at.version() < Version::V1_1;
    LATER_THAN_1_1.into_iter().chain(LATER_THAN_1_0.into_iter().filter(move |_| earlier))
}

fn later_calls_are_no_features(at: Instance) -> Outcome {
    for id in later_than(at) {
        let result = at.status(&[function::FEATURES.into(), id.into()])?;
        expect!(result, Err(Status::NotSupported), "for {}", function::name(id).unwrap_or("?"));
    }
    pass!("NOT_SUPPORTED")
}

fn later_calls_are_not_supported(at: Instance) -> Outcome {
    // In the normal world another component answers some of them, in another version than the caller's.
    for id in later_than(at).filter(|id| at != Instance::Ns || *id != function::SPM_ID_GET) {
        let result = at.status(&[id.into()])?;
        expect!(result, Err(Status::NotSupported), "for {}", function::name(id).unwrap_or("?"));
    }
    pass!("NOT_SUPPORTED")
}

fn partitions_of_all_versions_answer(_: Instance) -> Outcome {
    for probe in ALL {
        crate::probes::serves(&probe)?;
        for convention in [Convention::Direct32, Convention::Direct64] {
            let reply = finish(send(&probe, convention, &[Command::Echo as u64, 0x55]));
            let word = response_payload(convention, &reply).map(|words| words[1] as u32);
            ensure!(word == Some(!0x55), "{} (speaks {}): {}", probe.name, version_of(probe.id), describe(&reply));
        }
    }
    pass!("{} partitions", ALL.len())
}

fn partitions_of_all_versions_borrow(_: Instance) -> Outcome {
    MAILBOX.map().map_err(|status| Line::new(format_args!("map: {status:?}")))?;
    let outcome = ALL.iter().try_for_each(borrows);
    let _ = MAILBOX.unmap();
    outcome?;
    pass!("{} partitions", ALL.len())
}

fn borrows(probe: &Probe) -> Result<(), Line> {
    let text = |what: &str, status: Status| Line::new(format_args!("{}: {what}: {status:?}", probe.name));
    let borrowers = [Borrower { id: probe.id, permissions: READ_WRITE }];
    let ranges = [Range { address: PAGE_A.address(), pages: 1 }];
    let handle = memory::send(Kind::Share, &MAILBOX, &lender(&borrowers, &ranges), PAGE).map_err(|s| text("share", s))?;
    let got = ask(probe, Command::Retrieve, &[handle, 0, 0, u64::from(READ_WRITE)])?;
    ensure!(got[..3] == [1, PAGE_A.address(), 1], "{}: retrieved {:x?}", probe.name, &got[..3]);
    ask(probe, Command::Write, &[got[1], u64::from(probe.id.0)])?;
    ensure!(PAGE_A.word(0) == u64::from(probe.id.0), "{}: the page holds {:#x}", probe.name, PAGE_A.word(0));
    let given = ask(probe, Command::Relinquish, &[handle, 0])?;
    ensure!(given[0] == 1, "{}: relinquish {:#x}", probe.name, given[1]);
    memory::reclaim(handle, 0).map_err(|s| text("reclaim", s))
}
