//! FFA_VERSION, FFA_FEATURES, identities and the partition information calls.

use crate::PartitionConfig;
use crate::fake::*;
use crate::partition::{Methods, NormalWorldInterrupts, Service, VmMessages};
use arrayvec::ArrayVec;
use bulkhead_ffa::{EndpointId, Regs, Status, Uuid, Version, function};

const VERSION: u64 = function::VERSION as u64;
const FEATURES: u64 = function::FEATURES as u64;
const INFO: u64 = function::PARTITION_INFO_GET as u64;
const INFO_REGS: u64 = function::PARTITION_INFO_GET_REGS as u64;
const OURS: u64 = 0x1_0002;
const NOT_SUPPORTED: u64 = 0xffff_ffff;

/// What a partition or the normal world speaks after asking for `version`.
fn spoken(asked: u32) -> (u64, Version) {
    let bench = Bench::new(Version::V1_0);
    let (sender, receiver) = std::sync::mpsc::channel();
    bench.add(s_el1(0x8001), move |guest| {
        let answer = guest.call(&[VERSION, u64::from(asked)]);
        assert_eq!(answer.0[1..8], [0; 7]);
        let partition = guest.bench.spmc.find(EndpointId(0x8001)).unwrap().1;
        sender.send((answer.0[0], partition.endpoint.spoken.version())).unwrap();
    });
    assert_eq!(bench.clone().boot(), 0);
    receiver.recv().unwrap()
}

#[test]
fn a_version_up_to_ours_is_spoken_and_a_later_one_becomes_ours() {
    assert_eq!(spoken(0x1_0000), (OURS, Version::V1_0));
    assert_eq!(spoken(0x1_0001), (OURS, Version::V1_1));
    assert_eq!(spoken(0x1_0002), (OURS, Version::V1_2));
    assert_eq!(spoken(0x1_0003), (OURS, Version::V1_2));
    assert_eq!(spoken(0x1_ffff), (OURS, Version::V1_2));
}

#[test]
fn another_major_version_or_bit_31_is_not_supported() {
    for asked in [0, 0x2_0000, 0x0_0001, 0x8001_0000, u32::MAX] {
        assert_eq!(spoken(asked), (NOT_SUPPORTED, Version::V1_2), "{asked:#x}: what the manifest says stays");
    }
}

#[test]
fn a_version_stands_after_any_other_call() {
    let mut bench = Bench::new(Version::V1_0);
    assert_eq!(bench.version(Version::V1_1), OURS, "nothing else was called yet");
    bench.call(&[FEATURES, VERSION]);
    assert_eq!(bench.version(Version::V1_2), NOT_SUPPORTED);
    assert_eq!(bench.version(Version::V1_1), OURS);
    assert_eq!(bench.version(Version::new(1, 3)), NOT_SUPPORTED, "nor a later one");
    bench.add(s_el1(0x8001), |guest| {
        assert_eq!(guest.call(&[VERSION, 0x1_0001]).0[0], OURS);
        guest.call(&[u64::from(function::ID_GET)]);
        assert_eq!(guest.call(&[VERSION, 0x1_0002]).0[0], NOT_SUPPORTED);
        assert_eq!(guest.call(&[VERSION, 0x1_0001]).0[0], OURS);
    });
    bench.add(s_el1(0x8002), |guest| {
        assert_eq!(guest.call(&[VERSION, 0x1_0003]).0[0], OURS);
        guest.call(&[u64::from(function::ID_GET)]);
        for (asked, answer) in [(0x1_0004, NOT_SUPPORTED), (0x1_0001, NOT_SUPPORTED), (0x1_0003, OURS), (0x1_0002, OURS)] {
            assert_eq!(guest.call(&[VERSION, asked]).0[0], answer, "{asked:#x}");
        }
    });
    assert_eq!(bench.boot(), 0);
}

/// Section 13.2: a version stands for the lifetime of the calling component. Firmware that gives its buffers back makes way for another one.
#[test]
fn the_next_component_of_the_normal_world_agrees_on_a_version_of_its_own() {
    const TX: u64 = NORMAL_MEMORY;
    let (map, unmap) = (u64::from(function::RXTX_MAP_64), u64::from(function::RXTX_UNMAP));
    let mut bench = Bench::new(Version::V1_0);
    bench.add(s_el1(0x8001), move |guest| {
        assert_eq!(guest.call(&[VERSION, 0x1_0001]).0[0], OURS);
        assert_eq!(guest.call(&[map, SECURE_MEMORY, SECURE_MEMORY + 0x1000, 1]), Regs::success(&[]));
        assert_eq!(guest.call(&[unmap]), Regs::success(&[]));
        assert_eq!(guest.call(&[VERSION, 0x1_0002]).0[0], NOT_SUPPORTED, "a partition is the same one for ever");
    });
    assert_eq!(bench.boot(), 0);
    assert_eq!(bench.call(&[map, TX, TX + 0x1000, 1]), Regs::success(&[]));
    assert_eq!(bench.version(Version::V1_2), NOT_SUPPORTED, "it is still there");
    assert_eq!(bench.call(&[unmap]), Regs::success(&[]));
    assert_eq!(bench.version(Version::V1_2), OURS);
    bench.call(&[FEATURES, VERSION]);
    assert_eq!(bench.version(Version::V1_0), NOT_SUPPORTED);
    assert_eq!(bench.call(&[unmap]), error(Status::InvalidParameters));
    assert_eq!(bench.version(Version::V1_0), NOT_SUPPORTED, "there was nothing to give back");
}

#[test]
fn messages_of_the_spmd_do_not_lock_the_version() {
    let mut bench = Bench::new(Version::V1_0);
    bench.core_off();
    bench.secure_interrupt(77);
    assert_eq!(bench.version(Version::V1_2), OURS);
}

#[test]
fn endpoints_learn_who_they_are() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(s_el1(0x8003), |guest| {
        assert_eq!(guest.call(&[u64::from(function::ID_GET)]), Regs::success(&[0x8003]));
        assert_eq!(guest.call(&[u64::from(function::SPM_ID_GET)]), Regs::success(&[0x8000]));
    });
    assert_eq!(bench.boot(), 0);
    assert_eq!(bench.call(&[u64::from(function::ID_GET)]), Regs::success(&[0]));
    assert_eq!(bench.call(&[u64::from(function::SPM_ID_GET)]), Regs::success(&[0x8000]));
    let mut old = Bench::new(Version::V1_0);
    assert_eq!(old.call(&[u64::from(function::SPM_ID_GET)]), error(Status::NotSupported));
}

#[test]
fn features_depend_on_the_instance_and_the_version() {
    let normal = [function::RXTX_UNMAP, function::RUN, function::MEM_SHARE_64, function::PARTITION_INFO_GET];
    let normal_v1_1 = [function::NOTIFICATION_BITMAP_CREATE, function::NOTIFICATION_INFO_GET_64, function::RX_ACQUIRE, function::PARTITION_INFO_GET_REGS, function::MSG_SEND2];
    let secure = [function::YIELD, function::CONSOLE_LOG_32, function::ABORT_64];
    let answers = [function::MSG_WAIT, function::MSG_SEND_DIRECT_RESP_32, function::MSG_SEND_DIRECT_RESP_64];
    let nobody = [function::MEM_OP_PAUSE, function::NORMAL_WORLD_RESUME, function::EL3_INTR_HANDLE, 0x8400_00ff, 0xc400_0063];
    let check = |call: &mut dyn FnMut(&[u64]) -> Regs, ids: &[u32], supported: bool| {
        for id in ids {
            let expected = if supported { Regs::success(&[]) } else { error(Status::NotSupported) };
            assert_eq!(call(&[FEATURES, u64::from(*id)]), expected, "{id:#x}");
        }
    };
    let mut bench = Bench::new(Version::V1_2);
    bench.add(PartitionConfig { vcpus: 4, ..s_el1(0x8001) }, move |guest| {
        let mut call = |x: &[u64]| guest.call(x);
        check(&mut call, &normal, true);
        check(&mut call, &secure, true);
        check(&mut call, &answers, true);
        check(&mut call, &[function::SECONDARY_EP_REGISTER_64, function::MSG_SEND_DIRECT_RESP2, function::NOTIFICATION_SET, function::MSG_SEND2], true);
        check(&mut call, &[function::MEM_PERM_GET_64, function::RX_ACQUIRE], false);
        // Called by the normal world only, but partitions that were written for Hafnium expect to find them.
        check(&mut call, &[function::NOTIFICATION_BITMAP_CREATE, function::NOTIFICATION_INFO_GET_64], true);
        check(&mut call, &nobody, false);
    });
    bench.add(s_el0(0x8002), move |guest| {
        let mut call = |x: &[u64]| guest.call(x);
        check(&mut call, &[function::MEM_PERM_GET_64, function::MEM_PERM_SET_32], true);
        check(&mut call, &[function::SECONDARY_EP_REGISTER_64, 1, 3], false);
        check(&mut call, &[function::ABORT_32, function::ABORT_64], true);
    });
    assert_eq!(bench.boot(), 0);
    let mut call = |x: &[u64]| bench.call(x);
    check(&mut call, &normal, true);
    check(&mut call, &normal_v1_1, true);
    check(&mut call, &answers, true);
    check(&mut call, &secure, false);
    check(&mut call, &nobody, false);
    let mut old = Bench::new(Version::V1_0);
    let mut call = |x: &[u64]| old.call(x);
    check(&mut call, &normal, true);
    check(&mut call, &normal_v1_1, false);
    check(&mut call, &[function::MSG_SEND_DIRECT_REQ2, function::SPM_ID_GET], false);
}

/// Identifiers of answers, those that would end the conversation in which they are tried, and the normal world's that
/// partitions are told of.
const NOT_TRIED: [u32; 20] = [
    function::ERROR, function::ERROR_64, function::SUCCESS_32, function::SUCCESS_64, function::INTERRUPT, function::VERSION, function::FEATURES,
    function::MEM_RETRIEVE_RESP, function::MSG_WAIT, function::YIELD, function::ABORT_32, function::ABORT_64,
    // A failed partition's caller gets it from FFA_RUN: tried elsewhere.
    function::RUN,
    function::MSG_SEND_DIRECT_RESP_32, function::MSG_SEND_DIRECT_RESP_64, function::MSG_SEND_DIRECT_RESP2,
    function::NOTIFICATION_BITMAP_CREATE, function::NOTIFICATION_BITMAP_DESTROY,
    function::NOTIFICATION_INFO_GET_32, function::NOTIFICATION_INFO_GET_64,
];

/// Whether a call is there, and whether FFA_FEATURES says so.
fn check_truth(version: Version, who: &str, call: &mut dyn FnMut(&[u64]) -> Regs) {
    for id in [0x8400_0000u32, 0xc400_0000].into_iter().flat_map(|base| (0x60..0xa0).map(move |n| base | n)) {
        if NOT_TRIED.contains(&id) {
            continue;
        }
        let properties = if matches!(id, function::MEM_RETRIEVE_REQ_32 | function::MEM_RETRIEVE_REQ_64) { 2 } else { 0 };
        let said = call(&[FEATURES, u64::from(id), properties]).function() == function::SUCCESS_32;
        let there = call(&[u64::from(id), 0x8000_8000, 1, 1]) != error(Status::NotSupported);
        assert_eq!(said, there, "{version} {who}: {id:#x} {:?}", function::name(id));
    }
}

#[test]
fn features_tell_the_truth_at_every_version_and_instance() {
    for version in [Version::V1_0, Version::V1_1, Version::V1_2] {
        let mut bench = Bench::new(version);
        for (who, config) in [("at S-EL1", PartitionConfig { vcpus: 4, ..s_el1(0x8001) }), ("with one vCPU", s_el1(0x8002)), ("at S-EL0", s_el0(0x8003))] {
            let id = config.id.0;
            bench.add(PartitionConfig { version, ..config }, move |guest| {
                assert_eq!(guest.wait().function(), function::RUN);
                check_truth(version, who, &mut |x| guest.call(x));
                guest.wait();
            });
            assert_eq!(id, 0x8000 + u16::from(bench.spmc.count()));
        }
        assert_eq!(bench.boot(), 0);
        for id in 0x8001..0x8004 {
            assert_eq!(bench.resume(id, 0).function(), function::MSG_WAIT);
        }
        check_truth(version, "in the normal world", &mut |x| bench.call(x));
    }
}

#[test]
fn features_have_properties() {
    let mut bench = Bench::new(Version::V1_2);
    let exit = NormalWorldInterrupts::ManagedExit { irq: false };
    bench.add(PartitionConfig { normal_world_interrupts: exit, ..s_el1(0x8001) }, |guest| {
        assert_eq!(guest.call(&[FEATURES, 1]), Regs::success(&[5]), "notification pending interrupt");
        assert_eq!(guest.call(&[FEATURES, 2]), error(Status::NotSupported));
        assert_eq!(guest.call(&[FEATURES, 3]), Regs::success(&[4]), "managed exit interrupt");
        assert_eq!(guest.call(&[FEATURES, u64::from(function::MEM_RETRIEVE_REQ_64), 2]), Regs::success(&[6]));
        assert_eq!(guest.call(&[FEATURES, u64::from(function::MEM_RETRIEVE_REQ_64)]), error(Status::NotSupported), "without the NS bit");
    });
    bench.add(PartitionConfig { notifications: false, ..s_el1(0x8002) }, |guest| {
        assert_eq!(guest.call(&[FEATURES, 1]), Regs::success(&[5]), "what it uses them for does not matter");
        assert_eq!(guest.call(&[FEATURES, 3]), Regs::success(&[4]));
    });
    assert_eq!(bench.boot(), 0);
    assert_eq!(bench.call(&[FEATURES, 1]), error(Status::NotSupported));
    assert_eq!(bench.call(&[FEATURES, 2]), Regs::success(&[8]), "schedule receiver interrupt");
    assert_eq!(bench.call(&[FEATURES, u64::from(function::RXTX_MAP_64)]), Regs::success(&[1 << 16]));
    assert_eq!(bench.call(&[FEATURES, u64::from(function::MEM_RETRIEVE_REQ_32), 2]).0[..3], [u64::from(function::SUCCESS_32), 0, 6]);
    assert_eq!(bench.call(&[FEATURES, u64::from(function::MEM_RETRIEVE_REQ_32)]), Regs::success(&[6]), "the normal world may leave it out");
    assert_eq!(bench.call(&[FEATURES, u64::from(function::MEM_RETRIEVE_REQ_64), 4]), error(Status::InvalidParameters), "a reserved property");
    assert_eq!(bench.call(&[FEATURES, VERSION, 1]), error(Status::InvalidParameters));
    let mut old = Bench::new(Version::V1_0);
    assert_eq!(old.call(&[FEATURES, VERSION, 1]), Regs::success(&[]), "v1.0 has no input properties");
    assert_eq!(old.call(&[FEATURES, u64::from(function::MEM_RETRIEVE_REQ_32), 2]), Regs::success(&[]));
    assert_eq!(old.call(&[FEATURES, u64::from(function::RXTX_MAP_64)]), Regs::success(&[]));
}

/// Two partitions; the second has two services, of which one is the first's too.
fn two_partitions(version: Version) -> Bench {
    let mut bench = Bench::new(version);
    bench.add(PartitionConfig { vcpus: 4, ..s_el1(0x8001) }, |_| {});
    let receives = Methods(Methods::DIRECT_RECEIVE);
    let services = [Service { uuid: uuid(2), methods: receives }, Service { uuid: uuid(0x8001), methods: receives }];
    bench.add(PartitionConfig { services: ArrayVec::from_iter(services), methods: receives, notifications: false, ..s_el1(0x8002) }, |_| {});
    bench.boot();
    bench
}

fn info(uuid: Uuid, flags: u64) -> [u64; 6] {
    let [a, b, c, d] = uuid.words().map(u64::from);
    [INFO, a, b, c, d, flags]
}

#[test]
fn all_partitions_are_listed_in_the_callers_layout() {
    for (version, properties) in [(Version::V1_0, [1u32, 1]), (Version::V1_1, [0x109, 0x101]), (Version::V1_2, [0x309, 0x101])] {
        let size = if version == Version::V1_0 { 8 } else { 24 };
        let mut bench = two_partitions(version);
        bench.map_buffers();
        let answer = bench.call(&info(Uuid::NIL, 0));
        // UUIDs came with 1.1: from then on there is an entry for each service (section 13.8).
        assert_eq!(answer, Regs::success(&[if size == 24 { 3 } else { 2 }, size]));
        let entries = [(0x8001u16, 4u16, uuid(0x8001)), (0x8002, 1, uuid(2)), (0x8002, 1, uuid(0x8001))];
        for (n, (id, contexts, service)) in entries.into_iter().enumerate().take(answer.w(2) as usize) {
            let at = n as u64 * size;
            assert_eq!(bench.rx(at), id.to_le_bytes(), "{version}");
            assert_eq!(bench.rx(at + 2), contexts.to_le_bytes(), "{version}");
            assert_eq!(bench.rx(at + 4), properties[n.min(1)].to_le_bytes(), "{version}");
            if size == 24 {
                assert_eq!(bench.rx(at + 8), service.0);
            }
        }
    }
}

#[test]
fn a_partition_sees_who_sends() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(s_el1(0x8001), |guest| {
        let map = [u64::from(function::RXTX_MAP_64), SECURE_MEMORY, SECURE_MEMORY + 0x1000, 1];
        assert_eq!(guest.call(&map), Regs::success(&[]));
        assert_eq!(guest.call(&info(Uuid::NIL, 0)), Regs::success(&[1, 24]));
        let mut properties = [0; 4];
        let rx = crate::Address { pa: SECURE_MEMORY + 0x1004, secure: true };
        crate::Machine::read(&mut guest.bench.machine, rx, &mut properties).unwrap();
        assert_eq!(u32::from_le_bytes(properties), 0x70b);
    });
    assert_eq!(bench.boot(), 0);
}

#[test]
fn a_uuid_selects_and_is_not_repeated() {
    let mut bench = two_partitions(Version::V1_2);
    bench.map_buffers();
    assert_eq!(bench.call(&info(uuid(2), 0)), Regs::success(&[1, 24]));
    assert_eq!(bench.rx(0), 0x8002u16.to_le_bytes());
    assert_eq!(bench.rx(8), [0; 16]);
    bench.call(&[u64::from(function::RX_RELEASE)]);
    assert_eq!(bench.call(&info(uuid(0x8001), 0)), Regs::success(&[2, 24]));
    assert_eq!(bench.call(&info(uuid(3), 0)), error(Status::InvalidParameters));
}

#[test]
fn a_count_needs_no_buffer() {
    let mut bench = two_partitions(Version::V1_2);
    assert_eq!(bench.call(&info(Uuid::NIL, 1)), Regs::success(&[3]));
    assert_eq!(bench.call(&info(uuid(2), 1)), Regs::success(&[1]));
    assert_eq!(bench.call(&info(uuid(3), 1)), error(Status::InvalidParameters));
    assert_eq!(bench.call(&info(Uuid::NIL, 2)), error(Status::InvalidParameters));
    assert_eq!(bench.call(&info(Uuid::NIL, 0)), error(Status::Busy));
}

#[test]
fn rx_is_the_callers_until_it_is_released() {
    let mut bench = two_partitions(Version::V1_2);
    bench.map_buffers();
    bench.call(&info(Uuid::NIL, 0));
    assert_eq!(bench.call(&info(Uuid::NIL, 0)), error(Status::Busy));
    assert_eq!(bench.call(&info(Uuid::NIL, 1)), Regs::success(&[3]), "a count does not need it");
    assert_eq!(bench.call(&[u64::from(function::RX_RELEASE)]), Regs::success(&[]));
    assert_eq!(bench.call(&info(Uuid::NIL, 0)), Regs::success(&[3, 24]));
}

/// Section 6.2: what a partition does not know at its version is no property of it.
#[test]
fn properties_are_those_of_the_partitions_version() {
    let methods = Methods(s_el1(0).methods.0 | Methods::INDIRECT);
    for (version, from_normal, from_secure) in [(Version::V1_0, 0x101u32, 0x103u32), (Version::V1_1, 0x10d, 0x10f), (Version::V1_2, 0x30d, 0x70f)] {
        let services = ArrayVec::from_iter([Service { uuid: uuid(0x8001), methods }]);
        let mut bench = Bench::new(Version::V1_2);
        bench.add(PartitionConfig { version, methods, services, ..s_el1(0x8001) }, |_| {});
        bench.add(s_el1(0x8002), move |guest| {
            assert_eq!((entry(&guest.call(&[INFO_REGS]), 0)[0] >> 32) as u32, from_secure, "{version}");
        });
        assert_eq!(bench.boot(), 0);
        assert_eq!((entry(&bench.call(&[INFO_REGS]), 0)[0] >> 32) as u32, from_normal, "{version}");
    }
}

/// Section 6.2.2 (bits 6 and 7): the normal world's hypervisor learns whom to tell of its virtual machines.
#[test]
fn subscriptions_to_vm_messages_are_shown_to_the_normal_world_alone() {
    for (created, destroyed, bits) in [(false, false, 0u64), (true, false, 1 << 6), (false, true, 1 << 7), (true, true, 3 << 6)] {
        let mut bench = Bench::new(Version::V1_2);
        bench.add(PartitionConfig { vm_messages: VmMessages { created, destroyed }, ..s_el1(0x8001) }, |guest| {
            assert_eq!(entry(&guest.call(&[INFO_REGS]), 0)[0] >> 32 & 3 << 6, 0);
        });
        assert_eq!(bench.boot(), 0);
        assert_eq!(entry(&bench.call(&[INFO_REGS]), 0)[0] >> 32 & 3 << 6, bits);
        bench.map_buffers();
        bench.call(&info(Uuid::NIL, 0));
        assert_eq!(u64::from(u32::from_le_bytes(bench.rx(4))) & 3 << 6, bits);
    }
}

fn entry(answer: &Regs, n: usize) -> [u64; 3] {
    answer.0[3 + 3 * n..][..3].try_into().unwrap()
}

#[test]
fn registers_list_each_service() {
    let mut bench = two_partitions(Version::V1_2);
    let answer = bench.call(&[INFO_REGS]);
    assert_eq!(answer.0[..3], [u64::from(function::SUCCESS_64), 0, 2 | 2 << 16 | 24 << 48]);
    let with = |first: u64, id: u16| [first, uuid(id).doublewords()[0], uuid(id).doublewords()[1]];
    assert_eq!(entry(&answer, 0), with(0x0000_0309_0004_8001, 0x8001));
    assert_eq!(entry(&answer, 1), with(0x0000_0101_0001_8002, 2));
    assert_eq!(entry(&answer, 2), with(0x0000_0101_0001_8002, 0x8001));
    assert_eq!(answer.0[12..], [0; 6]);
    let [lo, hi] = uuid(2).doublewords();
    let answer = bench.call(&[INFO_REGS, lo, hi]);
    assert_eq!(answer.0[2], 24 << 48);
    assert_eq!(entry(&answer, 0), [0x0000_0101_0001_8002, 0, 0]);
}

#[test]
fn registers_continue_where_the_last_answer_ended() {
    let mut bench = Bench::new(Version::V1_2);
    for id in 0x8001..0x8008 {
        bench.add(s_el1(id), |_| {});
    }
    bench.boot();
    let answer = bench.call(&[INFO_REGS]);
    assert_eq!(answer.0[2], 6 | 4 << 16 | 24 << 48);
    assert_eq!(entry(&answer, 4)[0] as u16, 0x8005);
    let answer = bench.call(&[INFO_REGS, 0, 0, 5]);
    assert_eq!(answer.0[2], 6 | 6 << 16 | 24 << 48);
    assert_eq!(entry(&answer, 1)[0] as u16, 0x8007);
    assert_eq!(answer.0[9..], [0; 9]);
    assert_eq!(bench.call(&[INFO_REGS, 0, 0, 7]), error(Status::InvalidParameters));
    assert_eq!(bench.call(&[INFO_REGS, 0, 0, 5 | 1 << 16]), error(Status::Retry));
    assert_eq!(bench.call(&[INFO_REGS, 0, 0, 1 << 16]), error(Status::Retry), "the first call has no tag");
    let [lo, hi] = uuid(0x77).doublewords();
    assert_eq!(bench.call(&[INFO_REGS, lo, hi]), error(Status::InvalidParameters));
}

#[test]
fn a_failed_partition_is_not_listed() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(s_el1(0x8001), |guest| guest.crash());
    bench.add(s_el1(0x8002), |_| {});
    assert_eq!(bench.boot(), 1);
    assert_eq!(bench.call(&info(Uuid::NIL, 1)), Regs::success(&[1]));
    let answer = bench.call(&[INFO_REGS]);
    assert_eq!(answer.0[2], 1 << 32 | 24 << 48, "with a tag that tells the lists apart");
    assert_eq!(entry(&answer, 0)[0] as u16, 0x8002);
    assert_eq!(bench.call(&[INFO_REGS, 0, 0, 1]), error(Status::Retry), "a list from before");
    assert_eq!(bench.call(&[INFO_REGS, 0, 0, 1 | 1 << 16]), error(Status::InvalidParameters), "there is no second entry");
}
