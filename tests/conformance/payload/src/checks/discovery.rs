//! FFA_VERSION, FFA_FEATURES, ids, and who the partitions are.

use super::checks;
use crate::check::Outcome;
use crate::probes::{describe, status_of};
use crate::{ensure, pass};
use bulkhead_sdk::ffa::descriptor::partition_info;
use bulkhead_sdk::ffa::{Regs, Status, Uuid, Version, function};
use bulkhead_sdk::{Mailbox, call};
use bulkhead_testkit::{PROBE_EL0, PROBE_EL1, Probe, VICTIM_EL0, VICTIM_EL1};

checks! { "discovery":
    version_1_2_is_offered,
    another_major_version_is_not_supported,
    implemented_calls_are_features,
    unknown_calls_are_not_features,
    partitions_are_counted,
    partition_is_found_by_its_uuid,
    unknown_uuid_is_invalid,
    reserved_flags_are_invalid,
    rx_stays_busy_until_released,
    partitions_are_listed_in_registers,
}

static MAILBOX: Mailbox = Mailbox::new();
const ALL: [Probe; 4] = [PROBE_EL1, PROBE_EL0, VICTIM_EL1, VICTIM_EL0];

fn version_1_2_is_offered() -> Outcome {
    let reply = call(Regs::new(&[u64::from(function::VERSION), u64::from(Version::V1_2.0)]));
    let version = Version(reply.w(0));
    ensure!(version >= Version::V1_2 && version.major() == 1, "answered {:#x}", reply.0[0]);
    pass!("{version}")
}

fn another_major_version_is_not_supported() -> Outcome {
    let reply = call(Regs::new(&[u64::from(function::VERSION), u64::from(Version::new(2, 0).0)]));
    ensure!(u64::from(reply.w(0)) == Status::NotSupported.code(), "answered {:#x}", reply.0[0]);
    pass!("2.0 refused")
}

fn implemented_calls_are_features() -> Outcome {
    let ids = [
        function::VERSION, function::FEATURES, function::RX_RELEASE, function::RXTX_MAP_64, function::RXTX_UNMAP,
        function::PARTITION_INFO_GET, function::PARTITION_INFO_GET_REGS, function::ID_GET, function::RUN,
        function::MSG_SEND_DIRECT_REQ_32, function::MSG_SEND_DIRECT_REQ_64, function::MSG_SEND_DIRECT_REQ2,
        function::MEM_SHARE_32, function::MEM_SHARE_64, function::MEM_LEND_32, function::MEM_DONATE_32, function::MEM_RECLAIM,
        function::MEM_FRAG_RX, function::MEM_FRAG_TX, function::NOTIFICATION_BIND, function::NOTIFICATION_GET,
    ];
    for id in ids {
        let result = status_of(&[u64::from(function::FEATURES), u64::from(id)]);
        ensure!(result.is_ok(), "{} gives {result:?}", function::name(id).unwrap_or("?"));
    }
    pass!("{} ids", ids.len())
}

fn unknown_calls_are_not_features() -> Outcome {
    for id in [0x8400_00f0u32, 0xc400_00ff, 0x8400_006a, 0x0000_0077] {
        let result = status_of(&[u64::from(function::FEATURES), u64::from(id)]);
        ensure!(result == Err(Status::NotSupported), "{id:#x} gives {result:?}");
    }
    pass!("4 ids")
}

fn information(uuid: Uuid, flags: u64) -> Result<Regs, Status> {
    let [a, b, c, d] = uuid.words().map(u64::from);
    status_of(&[u64::from(function::PARTITION_INFO_GET), a, b, c, d, flags])
}

fn partitions_are_counted() -> Outcome {
    let reply = information(Uuid::NIL, 1);
    let count = reply.map(|regs| regs.w(2));
    ensure!(count == Ok(ALL.len() as u32), "{count:?}");
    pass!("{}", ALL.len())
}

fn partition_is_found_by_its_uuid() -> Outcome {
    MAILBOX.map().map_err(|status| bulkhead_sdk::Line::new(format_args!("map: {status:?}")))?;
    let outcome = find_each();
    let _ = MAILBOX.unmap();
    outcome
}

fn find_each() -> Outcome {
    for probe in ALL {
        let reply = match information(probe.uuid, 0) {
            Ok(reply) => reply,
            Err(status) => {
                return Err(bulkhead_sdk::Line::new(format_args!("{}: {status:?}", probe.name)));
            }
        };
        ensure!(reply.w(2) == 1, "{} partitions are {}", reply.w(2), probe.name);
        ensure!(reply.w(3) as usize == partition_info::SIZE, "entries have {} bytes", reply.w(3));
        let first = MAILBOX.rx.word(0);
        ensure!(first as u16 == probe.id.0, "{} has id {:#x}", probe.name, first as u16);
        let properties = first >> 32;
        ensure!(properties & 0x301 == 0x301, "{}: properties {properties:#x}", probe.name);
        ensure!(MAILBOX.rx.word(8) == 0 && MAILBOX.rx.word(16) == 0, "the UUID that was asked for comes back");
        ensure!(MAILBOX.release().is_ok(), "RX_RELEASE refused");
    }
    pass!("{} partitions", ALL.len())
}

fn unknown_uuid_is_invalid() -> Outcome {
    let result = information(Uuid([0xee; 16]), 1);
    ensure!(result == Err(Status::InvalidParameters), "{result:?}");
    pass!("INVALID_PARAMETERS")
}

fn reserved_flags_are_invalid() -> Outcome {
    let result = information(Uuid::NIL, 0x10);
    ensure!(result == Err(Status::InvalidParameters), "{result:?}");
    pass!("INVALID_PARAMETERS")
}

fn rx_stays_busy_until_released() -> Outcome {
    MAILBOX.map().map_err(|status| bulkhead_sdk::Line::new(format_args!("map: {status:?}")))?;
    let (first, second) = (information(Uuid::NIL, 0), information(Uuid::NIL, 0));
    let release = MAILBOX.release();
    let third = information(Uuid::NIL, 0);
    let _ = MAILBOX.release();
    let again = MAILBOX.release();
    let _ = MAILBOX.unmap();
    ensure!(first.is_ok() && third.is_ok() && release.is_ok(), "{first:?} {release:?} {third:?}");
    ensure!(second == Err(Status::Busy), "the second call gives {second:?}");
    ensure!(again == Err(Status::Denied), "releasing twice gives {again:?}");
    pass!("BUSY, then DENIED for a second release")
}

fn partitions_are_listed_in_registers() -> Outcome {
    let reply = call(Regs::new(&[u64::from(function::PARTITION_INFO_GET_REGS), 0, 0, 0]));
    ensure!(reply.function() == function::SUCCESS_64, "{}", describe(&reply));
    let last = reply.0[2] & 0xffff;
    ensure!(last + 1 == ALL.len() as u64, "last index {last}");
    for n in 0..ALL.len() {
        let id = reply.0[3 + 3 * n] as u16;
        let uuid = Uuid::from_doublewords(reply.0[4 + 3 * n], reply.0[5 + 3 * n]);
        ensure!(ALL.iter().any(|p| p.id.0 == id && p.uuid == uuid), "entry {n}: {id:#x} {uuid}");
    }
    pass!("{} entries", ALL.len())
}
