//! What depends on the version that the caller speaks. In the boots of these checks the partitions speak different versions.

use super::prelude::*;
use crate::instance::version_of;
use crate::probes::{SELF, ask, describe, finish, send};
use bulkhead_sdk::ffa::descriptor::partition_info;
use bulkhead_sdk::ffa::{Status, Uuid, Version, function};
use bulkhead_sdk::memory::{self, Borrower, Description, Kind, READ_WRITE, Range};
use bulkhead_sdk::message::{Convention, response_payload};
use bulkhead_sdk::{Line, Mailbox, PAGE, Pages};
use conformance_testkit::{Command, PROBE_EL0, PROBE_EL1, Probe, VICTIM_EL0, VICTIM_EL1};

checks! { "versions":
    "13.2" version_is_settled_by_the_first_call [Ns SEl1 SEl0] ANY "NOT_SUPPORTED for another version, the SPMC's for the same";
    "13.8" information_has_the_callers_layout [Ns SEl1 SEl0] ANY "entries of 8 bytes at 1.0, of 24 bytes later, without bits of later versions";
    "13.3" later_calls_are_no_features [Ns SEl1 SEl0] BEFORE_1_2 "NOT_SUPPORTED";
    "15.2" partitions_of_all_versions_answer [Ns] ANY "the response, 32-bit and 64-bit";
    "DEN0140 1.10" partitions_of_all_versions_borrow [Ns] ANY "each retrieves, writes and relinquishes";
}

const LATER_THAN_1_0: [u32; 4] =
    [function::PARTITION_INFO_GET_REGS, function::NOTIFICATION_BIND, function::SPM_ID_GET, function::MSG_SEND2];
const LATER_THAN_1_1: [u32; 2] = [function::MSG_SEND_DIRECT_REQ2, function::MSG_SEND_DIRECT_RESP2];
const ALL: [Probe; 4] = [PROBE_EL1, PROBE_EL0, VICTIM_EL1, VICTIM_EL0];
static MAILBOX: Mailbox = Mailbox::new();
static PAGE_A: Pages<1> = Pages::new();

fn version_is_settled_by_the_first_call(at: Instance) -> Outcome {
    let own = at.version();
    let other = if own == Version::V1_2 { Version::V1_1 } else { Version::V1_2 };
    at.call(&[function::FEATURES.into(), function::RXTX_MAP_64.into()])?;
    let refused = at.call(&[function::VERSION.into(), other.0.into()])?;
    let same = at.call(&[function::VERSION.into(), own.0.into()])?;
    expect!(u64::from(refused.w(0)), Status::NotSupported.code(), "for {other}");
    ensure!(Version(same.w(0)) >= Version::V1_2 && same.w(0) >> 31 == 0, "{own} is answered by {:#x}", same.0[0]);
    pass!("{own}")
}

/// Runs a check with the instance's buffers mapped: a partition's are, from its initialisation on.
fn with_buffers(at: Instance, check: impl FnOnce() -> Outcome) -> Outcome {
    if at != Instance::Ns {
        return check();
    }
    at.map()?;
    let outcome = check();
    at.unmap()?;
    outcome
}

fn information_has_the_callers_layout(at: Instance) -> Outcome {
    with_buffers(at, || {
        let v1_0 = at.version() < Version::V1_1;
        let size = if v1_0 { partition_info::SIZE_V1_0 } else { partition_info::SIZE };
        let [a, b, c, d] = Uuid::NIL.words().map(u64::from);
        let reply = at.status(&[function::PARTITION_INFO_GET.into(), a, b, c, d])?;
        let rx = at.buffers()?.0;
        let mut ids = [0; ALL.len()];
        let mut properties = 0;
        for (n, id) in ids.iter_mut().enumerate() {
            let entry = at.read(rx + (n * size) as u64)?;
            *id = entry as u16;
            properties |= entry >> 32;
        }
        let released = at.status(&[function::RX_RELEASE.into()])?;
        expect!(reply.map(|regs| regs.w(2) as usize), Ok(ALL.len()), "partitions");
        ensure!(released.is_ok(), "releasing RX: {released:?}");
        ensure!(ALL.iter().all(|probe| ids.contains(&probe.id.0)), "ids {ids:x?}");
        let allowed = match at.version() {
            Version::V1_0 => 0x7,
            Version::V1_1 => 0x1ff,
            _ => 0x7ff,
        };
        ensure!(properties & !allowed == 0, "properties {properties:#x} have bits of later versions");
        pass!("{size} bytes")
    })
}

fn later_calls_are_no_features(at: Instance) -> Outcome {
    let earlier = at.version() < Version::V1_1;
    for id in LATER_THAN_1_1.iter().chain(LATER_THAN_1_0.iter().filter(|_| earlier)) {
        let result = at.status(&[function::FEATURES.into(), (*id).into()])?;
        expect!(result, Err(Status::NotSupported), "for {}", function::name(*id).unwrap_or("?"));
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

fn partitions_of_all_versions_borrow(at: Instance) -> Outcome {
    MAILBOX.map().map_err(|status| Line::new(format_args!("map: {status:?}")))?;
    let outcome = ALL.iter().try_for_each(|probe| borrows(probe, at.version() < Version::V1_1));
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
    let got = ask(probe, Command::Retrieve, &[handle, 0, 0, u64::from(READ_WRITE)])?;
    ensure!(got[..3] == [1, PAGE_A.address(), 1], "{}: retrieved {:x?}", probe.name, &got[..3]);
    ask(probe, Command::Write, &[got[1], u64::from(probe.id.0)])?;
    ensure!(PAGE_A.word(0) == u64::from(probe.id.0), "{}: the page holds {:#x}", probe.name, PAGE_A.word(0));
    let given = ask(probe, Command::Relinquish, &[handle, 0])?;
    ensure!(given[0] == 1, "{}: relinquish {:#x}", probe.name, given[1]);
    memory::reclaim(handle, 0).map_err(|s| text("reclaim", s))
}
