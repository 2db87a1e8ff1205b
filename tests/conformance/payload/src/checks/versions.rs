//! A normal world that speaks FF-A 1.0 or 1.1, and partitions of all versions: `victim-el1` speaks 1.0, `victim-el0` 1.1,
//! the other two 1.2.

use crate::check::{Check, Outcome};
use crate::fw_cfg::Item;
use crate::probes::{SELF, ask_by_64, describe, send, status_of};
use crate::{ensure, pass};
use bulkhead_sdk::ffa::descriptor::partition_info;
use bulkhead_sdk::ffa::{Regs, Status, Version, function};
use bulkhead_sdk::memory::{self, Borrower, Description, Kind, READ_WRITE, Range};
use bulkhead_sdk::message::{Convention, response_payload};
use bulkhead_sdk::{Line, Mailbox, PAGE, Pages, call};
use bulkhead_testkit::{Command, PROBE_EL0, PROBE_EL1, Probe, VICTIM_EL0, VICTIM_EL1};

/// One group for each version.
pub const CHECKS: &[Check] = &[
    Check { group: "speak-1.0", name: "version_is_settled_by_the_first_call", run: || version_is_settled_by_the_first_call(Version::V1_0) },
    Check { group: "speak-1.0", name: "information_has_entries_of_8_bytes", run: || information(partition_info::SIZE_V1_0) },
    Check { group: "speak-1.0", name: "later_calls_are_no_features", run: || later_calls_are_no_features(&LATER_THAN_1_0) },
    Check { group: "speak-1.0", name: "partitions_of_all_versions_answer", run: partitions_of_all_versions_answer },
    Check { group: "speak-1.0", name: "partitions_of_all_versions_borrow", run: || partitions_of_all_versions_borrow(true) },
    Check { group: "speak-1.1", name: "version_is_settled_by_the_first_call", run: || version_is_settled_by_the_first_call(Version::V1_1) },
    Check { group: "speak-1.1", name: "information_has_entries_of_24_bytes", run: || information(partition_info::SIZE) },
    Check { group: "speak-1.1", name: "later_calls_are_no_features", run: || later_calls_are_no_features(&LATER_THAN_1_1) },
    Check { group: "speak-1.1", name: "partitions_of_all_versions_answer", run: partitions_of_all_versions_answer },
    Check { group: "speak-1.1", name: "partitions_of_all_versions_borrow", run: || partitions_of_all_versions_borrow(false) },
];

const LATER_THAN_1_0: [u32; 4] =
    [function::MSG_SEND_DIRECT_REQ2, function::PARTITION_INFO_GET_REGS, function::NOTIFICATION_BIND, function::SPM_ID_GET];
const LATER_THAN_1_1: [u32; 1] = [function::MSG_SEND_DIRECT_REQ2];
const ALL: [Probe; 4] = [PROBE_EL1, PROBE_EL0, VICTIM_EL1, VICTIM_EL0];
static MAILBOX: Mailbox = Mailbox::new();
static PAGE_A: Pages<1> = Pages::new();

/// The version that the host's choice of groups asks for.
pub fn wanted(chosen: &Item) -> Version {
    let named = |word: &str| chosen.words().any(|w| w == word);
    match (named("speak-1.0"), named("speak-1.1")) {
        (true, _) => Version::V1_0,
        (_, true) => Version::V1_1,
        _ => Version::V1_2,
    }
}

fn version_is_settled_by_the_first_call(own: Version) -> Outcome {
    serves_by_64(&PROBE_EL1)?;
    let ask = |version: Version| u64::from(call(Regs::new(&[u64::from(function::VERSION), u64::from(version.0)])).w(0));
    let (other, same) = (ask(Version::V1_2), ask(own));
    ensure!(other == Status::NotSupported.code(), "1.2 is answered by {other:#x}");
    ensure!(same >= u64::from(Version::V1_2.0) && same >> 31 == 0, "{own} is answered by {same:#x}");
    pass!("{own}")
}

fn serves_by_64(probe: &Probe) -> Result<(), Line> {
    let words = ask_by_64(probe, Command::Echo, &[0x77])?;
    ensure!(words[1] == !0x77, "{} echoes {:#x}", probe.name, words[1]);
    Ok(())
}

fn information(size: usize) -> Outcome {
    MAILBOX.map().map_err(|status| Line::new(format_args!("map: {status:?}")))?;
    let reply = status_of(&[u64::from(function::PARTITION_INFO_GET)]);
    let mut ids = [0; ALL.len()];
    let mut properties = 0;
    for (n, id) in ids.iter_mut().enumerate() {
        let entry = MAILBOX.rx.word(n * size);
        *id = entry as u16;
        properties |= entry >> 32;
    }
    let _ = MAILBOX.release();
    let _ = MAILBOX.unmap();
    ensure!(reply.is_ok_and(|regs| regs.w(2) as usize == ALL.len()), "{reply:?}");
    ensure!(ALL.iter().all(|probe| ids.contains(&probe.id.0)), "ids {ids:x?}");
    let allowed = if size == partition_info::SIZE_V1_0 { 0x7 } else { 0x1ff };
    ensure!(properties & !allowed == 0, "properties {properties:#x} have bits of later versions");
    pass!("{size} bytes")
}

fn later_calls_are_no_features(ids: &[u32]) -> Outcome {
    for id in ids {
        let result = status_of(&[u64::from(function::FEATURES), u64::from(*id)]);
        ensure!(result == Err(Status::NotSupported), "{} gives {result:?}", function::name(*id).unwrap_or("?"));
    }
    pass!("{} ids", ids.len())
}

fn partitions_of_all_versions_answer() -> Outcome {
    for probe in ALL {
        serves_by_64(&probe)?;
        let reply = send(&probe, Convention::Direct32, &[Command::Echo as u64, 0x55]);
        let word = response_payload(Convention::Direct32, &reply).map(|words| words[1]);
        ensure!(word == Some(u64::from(!0x55u32)), "{}: {}", probe.name, describe(&reply));
    }
    pass!("{} partitions", ALL.len())
}

fn partitions_of_all_versions_borrow(v1_0: bool) -> Outcome {
    MAILBOX.map().map_err(|status| Line::new(format_args!("map: {status:?}")))?;
    let outcome = ALL.iter().try_for_each(|probe| borrows(probe, v1_0));
    let _ = MAILBOX.unmap();
    outcome?;
    pass!("{} partitions", ALL.len())
}

fn borrows(probe: &Probe, v1_0: bool) -> Result<(), Line> {
    let text = |what: &str, status: Status| Line::new(format_args!("{}: {what}: {status:?}", probe.name));
    let borrowers = [Borrower { id: probe.id, permissions: READ_WRITE }];
    let ranges = [Range { address: PAGE_A.address(), pages: 1 }];
    let description = Description { v1_0, ..Description::lender(SELF, &borrowers, &ranges) };
    let handle = memory::send(Kind::Share, &MAILBOX, &description, PAGE).map_err(|s| text("share", s))?;
    let got = ask_by_64(probe, Command::Retrieve, &[handle, 0, 0, u64::from(READ_WRITE)])?;
    ensure!(got[..3] == [1, PAGE_A.address(), 1], "{}: retrieved {:x?}", probe.name, got);
    ask_by_64(probe, Command::Write, &[got[1], u64::from(probe.id.0)])?;
    ensure!(PAGE_A.word(0) == u64::from(probe.id.0), "{}: the page holds {:#x}", probe.name, PAGE_A.word(0));
    let given = ask_by_64(probe, Command::Relinquish, &[handle, 0])?;
    ensure!(given[0] == 1, "{}: relinquish {:#x}", probe.name, given[1]);
    memory::reclaim(handle, 0).map_err(|s| text("reclaim", s))
}
