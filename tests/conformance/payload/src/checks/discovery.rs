//! FFA_VERSION, FFA_FEATURES, ids, and who the partitions are.

use super::prelude::*;
use crate::probes::describe;
use bulkhead_sdk::ffa::descriptor::partition_info;
use bulkhead_sdk::ffa::{Regs, Status, Uuid, Version, function};
use bulkhead_sdk::{Line, Mailbox, call};
use conformance_testkit::{PROBE_EL0, PROBE_EL1, Probe, VICTIM_EL0, VICTIM_EL1};

checks! { "discovery":
    "13.2" version_1_2_is_offered [Ns] SINCE_1_2 "a version of major 1, 1.2 or later, as a bare value";
    "13.2" another_major_version_is_not_supported [Ns SEl1 SEl0] ANY "NOT_SUPPORTED";
    "13.3" implemented_calls_are_features [Ns SEl1 SEl0] SINCE_1_2 "FFA_SUCCESS for each implemented function";
    "13.3" retrieving_is_a_feature_with_the_ns_bit [SEl1 SEl0] SINCE_1_1 "FFA_SUCCESS with bit 1 of w2, which says that the NS bit is used";
    "13.3" unknown_calls_are_not_features [Ns SEl1 SEl0] ANY "NOT_SUPPORTED";
    "13.8" partitions_are_counted [Ns SEl1 SEl0] SINCE_1_1 "the number of partitions for the Nil UUID";
    "13.8" partition_is_found_by_its_uuid [Ns] SINCE_1_1 "one entry of 24 bytes with its id and properties, UUID zero";
    "13.8" unknown_uuid_is_invalid [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS";
    "13.8" reserved_flags_are_invalid [Ns SEl1 SEl0] SINCE_1_1 "INVALID_PARAMETERS";
    "13.8" rx_stays_busy_until_released [Ns] ANY "BUSY, then DENIED for a second release";
    "13.9" partitions_are_listed_in_registers [Ns SEl1 SEl0] SINCE_1_2 "an entry with id and UUID for each partition";
}

static MAILBOX: Mailbox = Mailbox::new();
const ALL: [Probe; 4] = [PROBE_EL1, PROBE_EL0, VICTIM_EL1, VICTIM_EL0];

fn version_1_2_is_offered(_: Instance) -> Outcome {
    let reply = call(Regs::new(&[u64::from(function::VERSION), u64::from(Version::V1_2.0)]));
    let version = Version(reply.w(0));
    ensure!(version >= Version::V1_2 && version.major() == 1, "answered {:#x}", reply.0[0]);
    pass!("{version}")
}

fn another_major_version_is_not_supported(at: Instance) -> Outcome {
    let reply = at.call(&[u64::from(function::VERSION), u64::from(Version::new(2, 0).0)])?;
    expect!(u64::from(reply.w(0)), Status::NotSupported.code());
    pass!("2.0 refused")
}

/// What every instance has.
const EVERYWHERE: [u32; 17] = [
    function::VERSION, function::FEATURES, function::RX_RELEASE, function::RXTX_MAP_64, function::RXTX_UNMAP,
    function::PARTITION_INFO_GET, function::PARTITION_INFO_GET_REGS, function::ID_GET, function::SPM_ID_GET,
    function::MSG_SEND_DIRECT_REQ_32, function::MSG_SEND_DIRECT_REQ_64, function::MSG_SEND_DIRECT_REQ2,
    function::MEM_SHARE_32, function::MEM_SHARE_64, function::MEM_RECLAIM, function::MEM_FRAG_RX, function::MEM_FRAG_TX,
];
/// What only a partition has.
const OF_PARTITIONS: [u32; 4] = [function::MSG_WAIT, function::YIELD, function::MSG_SEND_DIRECT_RESP_64, function::MEM_RELINQUISH];

fn implemented_calls_are_features(at: Instance) -> Outcome {
    let more: &[u32] = if at == Instance::Ns { &[function::RUN] } else { &OF_PARTITIONS };
    for id in EVERYWHERE.iter().chain(more) {
        ensure!(at.has(*id)?, "{} is not supported", function::name(*id).unwrap_or("?"));
    }
    pass!("{} ids", EVERYWHERE.len() + more.len())
}

fn retrieving_is_a_feature_with_the_ns_bit(at: Instance) -> Outcome {
    for id in [function::MEM_RETRIEVE_REQ_32, function::MEM_RETRIEVE_REQ_64] {
        let properties = at.status(&[function::FEATURES.into(), id.into(), 2])?.map(|regs| regs.w(2) & 2);
        expect!(properties, Ok(2), "for {id:#x}");
    }
    pass!("both conventions")
}

fn unknown_calls_are_not_features(at: Instance) -> Outcome {
    for id in [0x8400_00f0u32, 0xc400_00ff, 0x8400_006a, 0x0000_0077] {
        let result = at.status(&[u64::from(function::FEATURES), u64::from(id)])?;
        expect!(result, Err(Status::NotSupported), "for {id:#x}");
    }
    pass!("4 ids")
}

fn information(at: Instance, uuid: Uuid, flags: u64) -> Result<Result<Regs, Status>, Line> {
    let [a, b, c, d] = uuid.words().map(u64::from);
    at.status(&[u64::from(function::PARTITION_INFO_GET), a, b, c, d, flags])
}

fn partitions_are_counted(at: Instance) -> Outcome {
    let count = information(at, Uuid::NIL, 1)?.map(|regs| regs.w(2) as usize);
    expect!(count, Ok(ALL.len()));
    pass!("{}", ALL.len())
}

fn partition_is_found_by_its_uuid(_: Instance) -> Outcome {
    MAILBOX.map().map_err(|status| bulkhead_sdk::Line::new(format_args!("map: {status:?}")))?;
    let outcome = find_each();
    let _ = MAILBOX.unmap();
    outcome
}

fn find_each() -> Outcome {
    for probe in ALL {
        let reply = match information(Instance::Ns, probe.uuid, 0)? {
            Ok(reply) => reply,
            Err(status) => {
                return Err(Line::new(format_args!("{}: {status:?}", probe.name)).into());
            }
        };
        ensure!(reply.w(2) == 1, "{} partitions are {}", reply.w(2), probe.name);
        ensure!(reply.w(3) as usize == partition_info::SIZE, "entries have {} bytes", reply.w(3));
        let first = MAILBOX.rx.word(0);
        ensure!(first as u16 == probe.id.0, "{} has id {:#x}", probe.name, first as u16);
        let properties = first >> 32;
        // Receives direct requests, AArch64, and from 1.2 on REQ2.
        let least = if Instance::Ns.version() < Version::V1_2 { 0x101 } else { 0x301 };
        ensure!(properties & least == least, "{}: properties {properties:#x}", probe.name);
        ensure!(MAILBOX.rx.word(8) == 0 && MAILBOX.rx.word(16) == 0, "the UUID that was asked for comes back");
        ensure!(MAILBOX.release().is_ok(), "RX_RELEASE refused");
    }
    pass!("{} partitions", ALL.len())
}

fn unknown_uuid_is_invalid(at: Instance) -> Outcome {
    expect!(information(at, Uuid([0xee; 16]), 0)?, Err(Status::InvalidParameters));
    pass!("INVALID_PARAMETERS")
}

fn reserved_flags_are_invalid(at: Instance) -> Outcome {
    for flags in [2, 0x10, 0x8000_0000] {
        expect!(information(at, Uuid::NIL, flags)?, Err(Status::InvalidParameters), "for flags {flags:#x}");
    }
    pass!("INVALID_PARAMETERS")
}

fn rx_stays_busy_until_released(_: Instance) -> Outcome {
    MAILBOX.map().map_err(|status| bulkhead_sdk::Line::new(format_args!("map: {status:?}")))?;
    let (first, second) = (information(Instance::Ns, Uuid::NIL, 0)?, information(Instance::Ns, Uuid::NIL, 0)?);
    let release = MAILBOX.release();
    let third = information(Instance::Ns, Uuid::NIL, 0)?;
    let _ = MAILBOX.release();
    let again = MAILBOX.release();
    let _ = MAILBOX.unmap();
    ensure!(first.is_ok() && third.is_ok() && release.is_ok(), "{first:?} {release:?} {third:?}");
    ensure!(second == Err(Status::Busy), "the second call gives {second:?}");
    ensure!(again == Err(Status::Denied), "releasing twice gives {again:?}");
    pass!("BUSY, then DENIED for a second release")
}

fn partitions_are_listed_in_registers(at: Instance) -> Outcome {
    let reply = at.call(&[u64::from(function::PARTITION_INFO_GET_REGS)])?;
    ensure!(reply.function() == function::SUCCESS_64, "{}", describe(&reply));
    expect!(reply.0[2] & 0xffff, ALL.len() as u64 - 1, "as last index");
    for n in 0..ALL.len() {
        let id = reply.0[3 + 3 * n] as u16;
        let uuid = Uuid::from_doublewords(reply.0[4 + 3 * n], reply.0[5 + 3 * n]);
        ensure!(ALL.iter().any(|p| p.id.0 == id && p.uuid == uuid), "entry {n}: {id:#x} {uuid}");
    }
    pass!("{} entries", ALL.len())
}
