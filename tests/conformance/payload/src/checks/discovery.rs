//! FFA_FEATURES, ids, and who the partitions are.

use super::prelude::*;
use crate::probes::describe;
use bulkhead_sdk::Line;
use bulkhead_sdk::ffa::descriptor::partition_info;
use bulkhead_sdk::ffa::{Regs, Status, Uuid, Version, function};
use conformance_testkit::{PROBE_EL0, PROBE_EL1, Probe, VICTIM_EL0, VICTIM_EL1};

checks! { "discovery":
    "13.3" implemented_calls_are_features [Ns SEl1 SEl0] ANY "FFA_SUCCESS for each function of the instance and version";
    "13.3" retrieving_is_a_feature_with_the_ns_bit [SEl1 SEl0] SINCE_1_1 "FFA_SUCCESS with bit 1 of w2, which says that the NS bit is used";
    "13.3" unknown_calls_are_not_features [Ns SEl1 SEl0] ANY "NOT_SUPPORTED";
    "13.3" unknown_feature_ids_are_not_supported [Ns SEl1 SEl0] ANY "NOT_SUPPORTED";
    "13.3" reserved_properties_are_invalid [Ns SEl1 SEl0] SINCE_1_1 "INVALID_PARAMETERS";
    "13.3" buffer_sizes_are_told [Ns SEl1 SEl0] ANY "bits 1..0 of w2 say 4, 16 or 64 KiB; from 1.2 on bits 31..16 the most pages, or 0";
    "13.3" permission_calls_are_a_feature_of_s_el0_only [Ns SEl1 SEl0] ANY "FFA_SUCCESS at S-EL0, NOT_SUPPORTED elsewhere";
    "13.3" secondary_entry_is_a_feature_of_partitions_with_several_vcpus [Ns SEl1 SEl0] SINCE_1_1 "FFA_SUCCESS only for the partition with several vCPUs";
    "13.3" notification_pending_interrupt_is_told [SEl1] SINCE_1_1 "FFA_SUCCESS with an interrupt id";
    "13.3" managed_exit_interrupt_is_told [SEl1] SINCE_1_1 "FFA_SUCCESS with an interrupt id";
    "13.3" schedule_receiver_interrupt_is_told [Ns] SINCE_1_1 "FFA_SUCCESS with the id of an SGI";
    "13.3" interrupts_of_partitions_are_not_the_normal_worlds [Ns] SINCE_1_1 "NOT_SUPPORTED";
    "13.3" schedule_receiver_interrupt_is_not_a_partitions [SEl1 SEl0] SINCE_1_1 "NOT_SUPPORTED";
    "13.10" own_id_is_told [Ns SEl1 SEl0] ANY "FFA_SUCCESS with the id in w2";
    "13.11" id_of_the_spmc_is_told [Ns SEl1 SEl0] SINCE_1_1 "FFA_SUCCESS with an id of the secure world that is no partition's";
    "13.8" partitions_are_counted [Ns SEl1 SEl0] SINCE_1_1 "the number of partitions for the Nil UUID";
    "13.8" count_leaves_the_buffer_alone [Ns SEl1 SEl0] SINCE_1_1 "the count, without RX and while RX is full, and RX not taken";
    "13.8" partition_is_found_by_its_uuid [Ns SEl1 SEl0] ANY "one entry with its id and vCPUs, UUID zero";
    "13.8" partitions_are_listed_in_the_buffer [Ns SEl1 SEl0] ANY "an entry in the layout of the caller's version for each";
    "13.8" size_of_entries_is_told [Ns SEl1 SEl0] ANY "w3 is 8 at 1.0, 24 later";
    "13.8" properties_are_true [Ns SEl1 SEl0] ANY "what the manifests say, without bits of later versions";
    "13.8" unknown_uuid_is_invalid [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS";
    "13.8" unknown_uuid_is_invalid_to_count [Ns SEl1 SEl0] SINCE_1_1 "INVALID_PARAMETERS";
    "13.8" reserved_flags_are_invalid [Ns SEl1 SEl0] SINCE_1_1 "INVALID_PARAMETERS";
    "13.8" rx_stays_busy_until_released [Ns SEl1 SEl0] ANY "BUSY, then FFA_SUCCESS after FFA_RX_RELEASE";
    "13.8" second_release_is_denied [Ns SEl1 SEl0] ANY "DENIED";
    "13.8" listing_without_buffers_is_refused [Ns SEl1 SEl0] ANY "BUSY or DENIED";
    "13.9" partitions_are_listed_in_registers [Ns SEl1 SEl0] SINCE_1_2 "an entry with id and UUID for each partition";
    "13.9" indices_and_size_are_told_in_registers [Ns SEl1 SEl0] SINCE_1_2 "last and current index, and 24 bytes an entry";
    "13.9" later_entries_are_asked_for_by_their_index [Ns SEl1 SEl0] SINCE_1_2 "the entries from the start index on";
    "13.9" partition_is_found_by_its_uuid_in_registers [Ns SEl1 SEl0] SINCE_1_2 "one entry, UUID zero";
    "13.9" unknown_uuid_is_invalid_in_registers [Ns SEl1 SEl0] SINCE_1_2 "INVALID_PARAMETERS";
    "13.9" index_beyond_the_last_is_invalid [Ns SEl1 SEl0] SINCE_1_2 "INVALID_PARAMETERS";
    "13.9" wrong_tag_is_to_be_retried [Ns SEl1 SEl0] SINCE_1_2 "RETRY";
    "13.9" tag_with_the_first_index_is_refused [Ns SEl1 SEl0] SINCE_1_2 "RETRY or INVALID_PARAMETERS";
}

const ALL: [Probe; 4] = [PROBE_EL1, PROBE_EL0, VICTIM_EL1, VICTIM_EL0];
const UNKNOWN: Uuid = Uuid([0xee; 16]);
const GET: u64 = function::PARTITION_INFO_GET as u64;
const REGS: u64 = function::PARTITION_INFO_GET_REGS as u64;
/// Flag of FFA_PARTITION_INFO_GET.
const COUNT_ONLY: u64 = 1;

/// What every instance has at every version.
const EVERYWHERE: [u32; 20] = [
    function::ERROR, function::SUCCESS_32, function::INTERRUPT, function::VERSION, function::FEATURES, function::RX_RELEASE, function::RXTX_MAP_32,
    function::RXTX_MAP_64, function::RXTX_UNMAP, function::PARTITION_INFO_GET, function::ID_GET, function::MSG_SEND_DIRECT_REQ_32,
    function::MSG_SEND_DIRECT_REQ_64, function::MEM_DONATE_32, function::MEM_LEND_32, function::MEM_SHARE_32, function::MEM_SHARE_64,
    function::MEM_RECLAIM, function::MEM_FRAG_RX, function::MEM_FRAG_TX,
];
const SINCE_1_1: [u32; 5] = [
    function::SPM_ID_GET, function::NOTIFICATION_BIND, function::NOTIFICATION_UNBIND, function::NOTIFICATION_SET, function::NOTIFICATION_GET,
];
const SINCE_1_2: [u32; 2] = [function::MSG_SEND_DIRECT_REQ2, function::PARTITION_INFO_GET_REGS];
const OF_PARTITIONS: [u32; 5] = [
    function::MSG_WAIT, function::YIELD, function::MSG_SEND_DIRECT_RESP_32, function::MSG_SEND_DIRECT_RESP_64, function::MEM_RELINQUISH,
];
const OF_THE_NORMAL_WORLD: [u32; 1] = [function::RUN];

fn features(at: Instance, id: u32, properties: u64) -> Result<Result<Regs, Status>, Line> {
    at.status(&[function::FEATURES.into(), id.into(), properties])
}

fn implemented_calls_are_features(at: Instance) -> Outcome {
    let mut count = 0;
    let own: &[u32] = if at == Instance::Ns { &OF_THE_NORMAL_WORLD } else { &OF_PARTITIONS };
    let lists: [(&[u32], Version); 4] = [(&EVERYWHERE, Version::V1_0), (own, Version::V1_0), (&SINCE_1_1, Version::V1_1), (&SINCE_1_2, Version::V1_2)];
    for id in lists.iter().filter(|(_, since)| at.version() >= *since).flat_map(|(ids, _)| ids.iter()) {
        ensure!(at.has(*id)?, "{} is not supported", function::name(*id).unwrap_or("?"));
        count += 1;
    }
    pass!("{count} functions")
}

fn retrieving_is_a_feature_with_the_ns_bit(at: Instance) -> Outcome {
    for id in [function::MEM_RETRIEVE_REQ_32, function::MEM_RETRIEVE_REQ_64] {
        let properties = features(at, id, 2)?.map(|regs| regs.w(2) & 2);
        expect!(properties, Ok(2), "for {id:#x}");
    }
    pass!("both conventions")
}

fn unknown_calls_are_not_features(at: Instance) -> Outcome {
    for id in [0x8400_00f0u32, 0xc400_00ff, 0x8400_006a, 0x8400_005f, 0x8600_0063, 0xffff_ffff] {
        expect!(features(at, id, 0)?, Err(Status::NotSupported), "for {id:#x}");
    }
    pass!("6 ids")
}

fn unknown_feature_ids_are_not_supported(at: Instance) -> Outcome {
    for id in [0u32, 4, 0x77, 0xff, 0x100, 0x7fff_ffff] {
        expect!(features(at, id, 0)?, Err(Status::NotSupported), "for {id:#x}");
    }
    pass!("6 ids")
}

fn reserved_properties_are_invalid(at: Instance) -> Outcome {
    for properties in [1, 2, 0x8000_0000] {
        expect!(features(at, function::RXTX_MAP_64, properties)?, Err(Status::InvalidParameters), "for {properties:#x}");
    }
    pass!("INVALID_PARAMETERS")
}

fn buffer_sizes_are_told(at: Instance) -> Outcome {
    for id in [function::RXTX_MAP_32, function::RXTX_MAP_64] {
        let reply = features(at, id, 0)?;
        let Ok(regs) = reply else { fail!("{reply:?}") };
        let word = regs.w(2);
        let reserved = if at.version() < Version::V1_2 { !3 } else { 0xfffc };
        ensure!(word & 3 != 3 && word & reserved == 0, "w2 is {word:#x}");
    }
    pass!("both conventions")
}

fn permission_calls_are_a_feature_of_s_el0_only(at: Instance) -> Outcome {
    for id in [function::MEM_PERM_GET_32, function::MEM_PERM_SET_32, function::MEM_PERM_GET_64, function::MEM_PERM_SET_64] {
        expect!(at.has(id)?, at == Instance::SEl0, "for {id:#x}");
    }
    pass!("4 ids")
}

fn secondary_entry_is_a_feature_of_partitions_with_several_vcpus(at: Instance) -> Outcome {
    expect!(at.has(function::SECONDARY_EP_REGISTER_64)?, at == Instance::SEl1);
    pass!("as it should be")
}

const NOTIFICATION_PENDING: u32 = 1;
const SCHEDULE_RECEIVER: u32 = 2;
const MANAGED_EXIT: u32 = 3;

/// The interrupt that a feature id stands for.
fn interrupt(at: Instance, feature: u32, right: core::ops::Range<u32>) -> Outcome {
    let reply = features(at, feature, 0)?;
    let Ok(regs) = reply else { fail!("{reply:?}") };
    ensure!(right.contains(&regs.w(2)), "interrupt {}", regs.w(2));
    pass!("interrupt {}", regs.w(2))
}

fn notification_pending_interrupt_is_told(at: Instance) -> Outcome {
    interrupt(at, NOTIFICATION_PENDING, 0..1020)
}

fn managed_exit_interrupt_is_told(at: Instance) -> Outcome {
    interrupt(at, MANAGED_EXIT, 0..1020)
}

fn schedule_receiver_interrupt_is_told(at: Instance) -> Outcome {
    interrupt(at, SCHEDULE_RECEIVER, 0..16)
}

fn interrupts_of_partitions_are_not_the_normal_worlds(at: Instance) -> Outcome {
    for feature in [NOTIFICATION_PENDING, MANAGED_EXIT] {
        expect!(features(at, feature, 0)?, Err(Status::NotSupported), "for {feature}");
    }
    pass!("NOT_SUPPORTED")
}

fn schedule_receiver_interrupt_is_not_a_partitions(at: Instance) -> Outcome {
    expect!(features(at, SCHEDULE_RECEIVER, 0)?, Err(Status::NotSupported));
    pass!("NOT_SUPPORTED")
}

fn own_id_is_told(at: Instance) -> Outcome {
    let id = at.status(&[function::ID_GET.into()])?.map(|regs| regs.w(2));
    expect!(id, Ok(u32::from(at.id().0)));
    pass!("{:#x}", at.id().0)
}

fn id_of_the_spmc_is_told(at: Instance) -> Outcome {
    let reply = at.status(&[function::SPM_ID_GET.into()])?;
    let Ok(regs) = reply else { fail!("{reply:?}") };
    let id = regs.w(2);
    ensure!(id >> 15 == 1 && ALL.iter().all(|probe| u32::from(probe.id.0) != id), "{id:#x}");
    pass!("{id:#x}")
}

fn information(at: Instance, uuid: Uuid, flags: u64) -> Result<Result<Regs, Status>, Line> {
    let [a, b, c, d] = uuid.words().map(u64::from);
    at.status(&[GET, a, b, c, d, flags])
}

fn release(at: Instance) -> Result<Result<(), Status>, Line> {
    Ok(at.status(&[function::RX_RELEASE.into()])?.map(|_| ()))
}

fn partitions_are_counted(at: Instance) -> Outcome {
    let count = information(at, Uuid::NIL, COUNT_ONLY)?.map(|regs| regs.w(2) as usize);
    expect!(count, Ok(ALL.len()));
    for probe in ALL {
        let count = information(at, probe.uuid, COUNT_ONLY)?.map(|regs| regs.w(2));
        expect!(count, Ok(1), "for {}", probe.name);
    }
    pass!("{}", ALL.len())
}

fn count_leaves_the_buffer_alone(at: Instance) -> Outcome {
    at.without_buffers(|| {
        let count = information(at, Uuid::NIL, COUNT_ONLY)?.map(|regs| regs.w(2) as usize);
        expect!(count, Ok(ALL.len()), "without buffers");
        pass!("")
    })?;
    at.with_buffers(|| {
        let first = information(at, Uuid::NIL, COUNT_ONLY)?;
        let untaken = release(at)?;
        let filled = information(at, Uuid::NIL, 0)?;
        let second = information(at, Uuid::NIL, COUNT_ONLY)?;
        let released = release(at)?;
        ensure!(first.is_ok() && filled.is_ok() && released.is_ok(), "{first:?}, {filled:?}, {released:?}");
        expect!(untaken, Err(Status::Denied), "for a release after counting");
        expect!(second.map(|regs| regs.w(2) as usize), Ok(ALL.len()), "while RX is full");
        pass!("{}", ALL.len())
    })
}

/// The bytes of an entry in the layout of the caller's version.
fn entry_size(at: Instance) -> u64 {
    (if at.version() < Version::V1_1 { partition_info::SIZE_V1_0 } else { partition_info::SIZE }) as u64
}

/// Lists partitions in the buffer, has `look` look at each entry's first word and UUID words, and releases the buffer.
fn list(at: Instance, uuid: Uuid, mut look: impl FnMut(usize, u64, [u64; 2]) -> Result<(), Problem>) -> Outcome {
    at.with_buffers(|| {
        let reply = information(at, uuid, 0)?;
        let Ok(regs) = reply else { fail!("{reply:?}") };
        let count = regs.w(2) as usize;
        let rx = at.buffers()?.0;
        let mut looked = Ok(());
        for n in 0..count.min(16) {
            let address = rx + n as u64 * entry_size(at);
            let words = if entry_size(at) > 8 { [at.read(address + 8)?, at.read(address + 16)?] } else { [0; 2] };
            looked = look(n, at.read(address)?, words);
            if looked.is_err() {
                break;
            }
        }
        let released = release(at)?;
        looked?;
        expect!(released, Ok(()), "for the release");
        pass!("{count} entries")
    })
}

fn vcpus(probe: &Probe) -> u64 {
    if probe.id == PROBE_EL1.id { 8 } else { 1 }
}

fn partition_is_found_by_its_uuid(at: Instance) -> Outcome {
    for probe in ALL {
        let mut count = 0;
        list(at, probe.uuid, |_, first, uuid| {
            count += 1;
            expect!((first & 0xffff, first >> 16 & 0xffff), (probe.id.0.into(), vcpus(&probe)), "as id and vCPUs of {}", probe.name);
            expect!(uuid, [0; 2], "as UUID of {}", probe.name);
            Ok(())
        })?;
        expect!(count, 1, "for {}", probe.name);
    }
    pass!("{} partitions", ALL.len())
}

fn partitions_are_listed_in_the_buffer(at: Instance) -> Outcome {
    let mut seen = [false; ALL.len()];
    list(at, Uuid::NIL, |n, first, uuid| {
        let Some(place) = ALL.iter().position(|probe| u64::from(probe.id.0) == first & 0xffff) else { fail!("entry {n} has id {:#x}", first & 0xffff) };
        ensure!(!seen[place], "{} is there twice", ALL[place].name);
        seen[place] = true;
        expect!(first >> 16 & 0xffff, vcpus(&ALL[place]), "as vCPUs of {}", ALL[place].name);
        if at.version() >= Version::V1_1 {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&uuid[0].to_le_bytes());
            bytes[8..].copy_from_slice(&uuid[1].to_le_bytes());
            expect!(bytes, ALL[place].uuid.0, "as UUID of {}", ALL[place].name);
        }
        Ok(())
    })?;
    expect!(seen, [true; ALL.len()]);
    pass!("{} entries of {} bytes", ALL.len(), entry_size(at))
}

fn size_of_entries_is_told(at: Instance) -> Outcome {
    at.with_buffers(|| {
        let size = information(at, Uuid::NIL, 0)?.map(|regs| u64::from(regs.w(3)));
        release(at)?.map_err(|status| Line::new(format_args!("release: {status:?}")))?;
        expect!(size, Ok(entry_size(at)));
        pass!("{size:?}")
    })
}

fn properties_are_true(at: Instance) -> Outcome {
    let version = at.version();
    list(at, Uuid::NIL, |_, first, _| {
        let (id, properties) = (first as u16, first >> 32);
        // Bit 0: receives direct requests. Bit 3: notifications. Bit 8: AArch64. Bit 9: receives REQ2.
        let speaks = crate::instance::version_of(bulkhead_sdk::ffa::EndpointId(id));
        let mut least = 1;
        let mut allowed = 0x7;
        if version >= Version::V1_1 {
            least |= 1 << 8;
            allowed |= 0x1f8;
            if id == PROBE_EL1.id.0 && speaks >= Version::V1_1 {
                least |= 1 << 3;
            } else if id == PROBE_EL0.id.0 {
                allowed &= !(1 << 3);
            }
        }
        if version >= Version::V1_2 {
            allowed |= 0x600;
            if speaks >= Version::V1_2 {
                least |= 1 << 9;
            }
        }
        ensure!(properties & least == least && properties & !allowed == 0, "{id:#x} has {properties:#x}, of {least:#x} to {allowed:#x}");
        Ok(())
    })
}

fn unknown_uuid_is_invalid(at: Instance) -> Outcome {
    at.with_buffers(|| {
        expect!(information(at, UNKNOWN, 0)?, Err(Status::InvalidParameters));
        expect!(release(at)?, Err(Status::Denied), "for a release afterwards");
        pass!("INVALID_PARAMETERS")
    })
}

fn unknown_uuid_is_invalid_to_count(at: Instance) -> Outcome {
    expect!(information(at, UNKNOWN, COUNT_ONLY)?, Err(Status::InvalidParameters));
    pass!("INVALID_PARAMETERS")
}

fn reserved_flags_are_invalid(at: Instance) -> Outcome {
    at.with_buffers(|| {
        for flags in [2, 3, 0x10, 0x8000_0000] {
            expect!(information(at, Uuid::NIL, flags)?, Err(Status::InvalidParameters), "for flags {flags:#x}");
        }
        pass!("INVALID_PARAMETERS")
    })
}

fn rx_stays_busy_until_released(at: Instance) -> Outcome {
    at.with_buffers(|| {
        let (first, second) = (information(at, Uuid::NIL, 0)?, information(at, Uuid::NIL, 0)?);
        let released = release(at)?;
        let third = information(at, Uuid::NIL, 0)?;
        let released_again = release(at)?;
        ensure!(first.is_ok() && third.is_ok(), "{first:?}, after the release {third:?}");
        ensure!(released.is_ok() && released_again.is_ok(), "releases: {released:?}, {released_again:?}");
        expect!(second, Err(Status::Busy));
        pass!("BUSY")
    })
}

fn second_release_is_denied(at: Instance) -> Outcome {
    at.with_buffers(|| {
        let filled = information(at, Uuid::NIL, 0)?;
        let (first, second) = (release(at)?, release(at)?);
        ensure!(filled.is_ok() && first.is_ok(), "{filled:?}, {first:?}");
        expect!(second, Err(Status::Denied));
        pass!("DENIED")
    })
}

fn listing_without_buffers_is_refused(at: Instance) -> Outcome {
    at.without_buffers(|| {
        let result = information(at, Uuid::NIL, 0)?;
        ensure!(matches!(result, Err(Status::Busy | Status::Denied)), "{result:?}");
        pass!("{result:?}")
    })
}

/// One call of FFA_PARTITION_INFO_GET_REGS.
fn in_registers(at: Instance, uuid: Uuid, start: u64, tag: u64) -> Result<Regs, Line> {
    let [low, high] = uuid.doublewords();
    at.call(&[REGS, low, high, start | tag << 16])
}

fn succeeded(reply: &Regs) -> Result<(), Problem> {
    ensure!(reply.function() == function::SUCCESS_64, "{}", describe(reply));
    Ok(())
}

fn partitions_are_listed_in_registers(at: Instance) -> Outcome {
    let reply = in_registers(at, Uuid::NIL, 0, 0)?;
    succeeded(&reply)?;
    expect!(reply.0[2] & 0xffff, ALL.len() as u64 - 1, "as last index");
    for n in 0..ALL.len() {
        let id = reply.0[3 + 3 * n] as u16;
        let uuid = Uuid::from_doublewords(reply.0[4 + 3 * n], reply.0[5 + 3 * n]);
        ensure!(ALL.iter().any(|p| p.id.0 == id && p.uuid == uuid), "entry {n}: {id:#x} {uuid}");
    }
    expect!(reply.0[15..18], [0; 3], "in x15 to x17, which hold no entry");
    pass!("{} entries", ALL.len())
}

fn indices_and_size_are_told_in_registers(at: Instance) -> Outcome {
    let reply = in_registers(at, Uuid::NIL, 0, 0)?;
    succeeded(&reply)?;
    let word = reply.0[2];
    expect!((word & 0xffff, word >> 16 & 0xffff, word >> 48), (3, 3, partition_info::SIZE as u64));
    expect!(reply.0[1], 0, "in x1");
    pass!("x2 is {word:#x}")
}

fn later_entries_are_asked_for_by_their_index(at: Instance) -> Outcome {
    let first = in_registers(at, Uuid::NIL, 0, 0)?;
    succeeded(&first)?;
    let tag = first.0[2] >> 32 & 0xffff;
    for start in 1..ALL.len() {
        let reply = in_registers(at, Uuid::NIL, start as u64, tag)?;
        succeeded(&reply)?;
        expect!((reply.0[2] & 0xffff, reply.0[2] >> 16 & 0xffff), (3, 3), "as indices from {start} on");
        let count = 3 * (ALL.len() - start);
        expect!(reply.0[3..3 + count], first.0[3 + 3 * start..3 + 3 * ALL.len()], "as entries from {start} on");
        ensure!(reply.0[3 + count..].iter().all(|word| *word == 0), "registers without an entry are not zero");
    }
    pass!("from 1, 2 and 3 on")
}

fn partition_is_found_by_its_uuid_in_registers(at: Instance) -> Outcome {
    for probe in ALL {
        let reply = in_registers(at, probe.uuid, 0, 0)?;
        succeeded(&reply)?;
        expect!(reply.0[2] & 0xffff_ffff, 0, "as indices for {}", probe.name);
        expect!((reply.0[3] & 0xffff, reply.0[3] >> 16 & 0xffff), (probe.id.0.into(), vcpus(&probe)), "for {}", probe.name);
        expect!(reply.0[4..6], [0; 2], "as UUID for {}", probe.name);
    }
    pass!("{} partitions", ALL.len())
}

fn unknown_uuid_is_invalid_in_registers(at: Instance) -> Outcome {
    expect!(in_registers(at, UNKNOWN, 0, 0)?.as_error(), Some(Status::InvalidParameters));
    pass!("INVALID_PARAMETERS")
}

fn index_beyond_the_last_is_invalid(at: Instance) -> Outcome {
    let first = in_registers(at, Uuid::NIL, 0, 0)?;
    succeeded(&first)?;
    let tag = first.0[2] >> 32 & 0xffff;
    for start in [ALL.len() as u64, 0x100, 0xffff] {
        expect!(in_registers(at, Uuid::NIL, start, tag)?.as_error(), Some(Status::InvalidParameters), "for {start}");
    }
    pass!("INVALID_PARAMETERS")
}

fn wrong_tag_is_to_be_retried(at: Instance) -> Outcome {
    let first = in_registers(at, Uuid::NIL, 0, 0)?;
    succeeded(&first)?;
    let tag = first.0[2] >> 32 & 0xffff;
    expect!(in_registers(at, Uuid::NIL, 1, tag ^ 0x5555)?.as_error(), Some(Status::Retry));
    pass!("RETRY")
}

fn tag_with_the_first_index_is_refused(at: Instance) -> Outcome {
    let status = in_registers(at, Uuid::NIL, 0, 0x5555)?.as_error();
    ensure!(matches!(status, Some(Status::Retry | Status::InvalidParameters)), "{status:?}");
    pass!("{status:?}")
}
