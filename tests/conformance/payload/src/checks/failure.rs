//! What is left of a partition that failed: nothing that harms those who dealt with it. Ends partitions, so it comes last.

use super::prelude::*;
use crate::probes::{ask, ask_for_error, describe, send, serves, status_of};
use crate::{cores, say};
use bulkhead_sdk::ffa::{Regs, Status, function};
use bulkhead_sdk::memory::{self, Borrower, Kind, READ_WRITE, Range};
use bulkhead_sdk::message::Convention;
use bulkhead_sdk::{Line, Mailbox, PAGE, Pages};
use conformance_testkit::spin::delay;
use conformance_testkit::{Command, PROBE_EL0, PROBE_EL1, Probe, VICTIM_EL0, VICTIM_EL1};

checks! { "failure":
    "8.1" borrower_outlives_its_lender [Ns] ANY "the borrower serves, and relinquishes";
    "8.1" lenders_get_back_what_a_failed_partition_borrowed [Ns] ANY "FFA_SUCCESS for each lender's reclaim";
    "15.2" caller_of_a_failed_partition_gets_aborted [SEl1] ANY "ABORTED";
    "13.8" failed_partitions_are_not_discovered [Ns] SINCE_1_1 "the number of those that are left";
    "8.1" partition_fails_on_all_its_cores [Ns] ANY "ABORTED on every core";
}

static MAILBOX: Mailbox = Mailbox::new();
static PAGE_A: Pages<1> = Pages::new();
/// The SPMC's code.
const WILD: u64 = 0x0e10_0000;

/// A page of `lender`'s, shared with `borrower` and retrieved: handle and address.
fn borrowed(lender: &Probe, borrower: &Probe) -> Result<(u64, u64), Line> {
    let sent = ask(lender, Command::Send, &[0, u64::from(borrower.id.0)])?;
    ensure!(sent[0] == 1, "{} cannot share: {:?}", lender.name, Status::from_code(sent[1] as u32));
    let got = ask(borrower, Command::Retrieve, &[sent[1], u64::from(lender.id.0), 0, u64::from(READ_WRITE)])?;
    ensure!(got[0] == 1, "{} cannot retrieve: {:?}", borrower.name, Status::from_code(got[1] as u32));
    Ok((sent[1], sent[2]))
}

fn borrower_outlives_its_lender(_: Instance) -> Outcome {
    need(&[VICTIM_EL1, PROBE_EL0])?;
    let (handle, page) = borrowed(&VICTIM_EL1, &PROBE_EL0)?;
    let status = ask_for_error(&VICTIM_EL1, Command::Read, &[WILD])?;
    ensure!(status == Status::Aborted, "{status:?}");
    say!("ENDED {} | read | {WILD:#x}", VICTIM_EL1.name);
    serves(&PROBE_EL0)?;
    let given = ask(&PROBE_EL0, Command::Relinquish, &[handle, 0])?;
    ensure!(given[0] == 1, "relinquishing gives {:?}", Status::from_code(given[1] as u32));
    serves(&PROBE_EL0)?;
    pass!("page {page:#x} relinquished")
}

fn lenders_get_back_what_a_failed_partition_borrowed(_: Instance) -> Outcome {
    need(&[PROBE_EL1, VICTIM_EL0])?;
    let text = |what: &str, status: Status| Line::new(format_args!("{what}: {status:?}"));
    let (secure, _) = borrowed(&PROBE_EL1, &VICTIM_EL0)?;
    MAILBOX.map().map_err(|s| text("map", s))?;
    let borrowers = [Borrower { id: VICTIM_EL0.id, permissions: READ_WRITE }];
    let ranges = [Range { address: PAGE_A.address(), pages: 1 }];
    let sent = memory::send(Kind::Lend, &MAILBOX, &lender(&borrowers, &ranges).by(Kind::Lend), PAGE);
    let _ = MAILBOX.unmap();
    let handle = sent.map_err(|s| text("lend", s))?;
    let got = ask(&VICTIM_EL0, Command::Retrieve, &[handle, 0, 0, u64::from(Kind::Lend.read_write())])?;
    ensure!(got[0] == 1, "{} cannot retrieve: {:?}", VICTIM_EL0.name, Status::from_code(got[1] as u32));
    // It fails while another partition waits for its answer.
    let ids = u64::from(PROBE_EL1.id.0) << 16 | u64::from(VICTIM_EL0.id.0);
    let request = [u64::from(function::MSG_SEND_DIRECT_REQ_64), ids, 0, Command::Write as u64, WILD];
    let reply = call_from(&PROBE_EL1, &request)?;
    ensure!(reply.as_error() == Some(Status::Aborted), "its caller gets {}", describe(&reply));
    say!("ENDED {} | write | {WILD:#x}", VICTIM_EL0.name);
    memory::reclaim(handle, 0).map_err(|s| text("the normal world's reclaim", s))?;
    let reclaimed = ask(&PROBE_EL1, Command::Reclaim, &[secure])?;
    ensure!(reclaimed[0] == 1, "{}'s reclaim: {:?}", PROBE_EL1.name, Status::from_code(reclaimed[1] as u32));
    pass!("the normal world's page and {}'s", PROBE_EL1.name)
}

/// A check that needs partitions that still serve.
fn need(probes: &[Probe]) -> Result<(), Problem> {
    if probes.iter().all(|probe| serves(probe).is_ok()) { Ok(()) } else { Err(Problem::Again) }
}

/// Ends a partition that is not ended yet.
fn end(victim: &Probe) -> Result<(), Problem> {
    if serves(victim).is_err() {
        return Ok(());
    }
    let status = ask_for_error(victim, Command::Read, &[WILD])?;
    ensure!(status == Status::Aborted, "{status:?}");
    say!("ENDED {} | read | {WILD:#x}", victim.name);
    Ok(())
}

fn caller_of_a_failed_partition_gets_aborted(_: Instance) -> Outcome {
    need(&[PROBE_EL1])?;
    for victim in [VICTIM_EL1, VICTIM_EL0] {
        end(&victim)?;
        let words = ask(&PROBE_EL1, Command::Nested, &[u64::from(victim.id.0), 1])?;
        let reply = Regs::new(&[words[0], 0, words[1]]);
        ensure!(reply.as_error() == Some(Status::Aborted), "{}: {}", victim.name, describe(&reply));
    }
    serves(&PROBE_EL1)?;
    pass!("a partition, too")
}

fn failed_partitions_are_not_discovered(_: Instance) -> Outcome {
    end(&VICTIM_EL1)?;
    let left = [PROBE_EL1, PROBE_EL0, VICTIM_EL0].iter().filter(|probe| serves(probe).is_ok()).count();
    let count = status_of(&[u64::from(function::PARTITION_INFO_GET), 0, 0, 0, 0, 1]).map(|regs| regs.w(2) as usize);
    expect!(count, Ok(left));
    pass!("{left}")
}

/// On another core: computes in probe-el1, and no interrupt comes; the status that ended it.
fn spin_until_it_fails(milliseconds: u64) -> u64 {
    ask_for_error(&PROBE_EL1, Command::Spin, &[milliseconds, 5]).map_or(0, Status::code)
}

fn partition_fails_on_all_its_cores(_: Instance) -> Outcome {
    need(&[PROBE_EL1, PROBE_EL0])?;
    ensure!(cores::start(1), "core 1 did not come");
    cores::ask(1, spin_until_it_fails, 15_000);
    delay(50);
    let status = ask_for_error(&PROBE_EL1, Command::Read, &[WILD])?;
    ensure!(status == Status::Aborted, "{status:?}");
    say!("ENDED {} | read | {WILD:#x}", PROBE_EL1.name);
    let there = cores::result(1).map(|code| Status::from_code(code as u32));
    ensure!(there == Some(Some(Status::Aborted)), "core 1 gets {there:?}");
    let late = send(&PROBE_EL1, Convention::Direct64, &[Command::Echo as u64]);
    ensure!(late.as_error() == Some(Status::Aborted), "later: {}", describe(&late));
    serves(&PROBE_EL0)?;
    pass!("the request on core 1 ended, too")
}
