//! Indirect messages: FFA_MSG_SEND2, among partitions and between the worlds, and how receivers hear of them.

use crate::fake::*;
use crate::machine::{Address, Machine};
use crate::partition::Methods;
use crate::{PartitionConfig, PartitionIndex};
use bulkhead_ffa::descriptor::message;
use bulkhead_ffa::{Regs, Status, Version, function};
use std::vec::Vec;

const SEND: u64 = function::MSG_SEND2 as u64;
const GET: u64 = function::NOTIFICATION_GET as u64;
const INFO: u64 = function::NOTIFICATION_INFO_GET_64 as u64;
const MAP: u64 = function::RXTX_MAP_64 as u64;
const RELEASE: u64 = function::RX_RELEASE as u64;
const DELAY: u64 = 2;
const FROM_SPM: u64 = 4;
const FROM_HYPERVISOR: u64 = 8;
const V1_1: u32 = message::HEADER_SIZE_V1_1 as u32;
const V1_2: u32 = message::HEADER_SIZE_V1_2 as u32;

fn talker(id: u16) -> PartitionConfig {
    let methods = Methods(s_el1(id).methods.0 | Methods::INDIRECT);
    PartitionConfig { methods, ..s_el1(id) }
}

fn tx(index: PartitionIndex) -> Address {
    Address { pa: SECURE_MEMORY + u64::from(index) * PARTITION_MEMORY, secure: true }
}

fn rx(index: PartitionIndex) -> Address {
    Address { pa: tx(index).pa + 0x1000, secure: true }
}

/// As [`Bench::map_buffers`] places it.
const NORMAL_TX: Address = Address { pa: NORMAL_MEMORY + 0x1000, secure: false };
const NORMAL_RX: Address = Address { pa: NORMAL_MEMORY, secure: false };

fn put(machine: &mut Fake, at: Address, ends: u32, offset: u32, size: u32, payload: &[u8]) {
    let words = [0, 0x5555, offset, ends, size];
    let mut bytes: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
    bytes.resize(offset.clamp(V1_1, V1_2) as usize, 0);
    machine.write(at, &bytes).unwrap();
    machine.write(Address { pa: at.pa + u64::from(offset.min(4000)), ..at }, payload).unwrap();
}

fn take(machine: &mut Fake, from: Address) -> (u32, Vec<u8>) {
    let mut page = std::vec![0; 4096];
    machine.read(from, &mut page).unwrap();
    let word = |at: usize| u32::from_le_bytes(page[at..at + 4].try_into().unwrap());
    let (offset, size) = (word(message::OFFSET) as usize, word(message::SIZE) as usize);
    (word(message::ENDS), page[offset..offset + size].to_vec())
}

fn map(guest: &mut Guest, index: PartitionIndex) {
    assert_eq!(guest.call(&[MAP, tx(index).pa, rx(index).pa, 1]), ok());
}

/// The normal world, with a bitmap and buffers and text in TX for 0x8001, which does `script` once it was called.
fn normal_world_and(version: Version, script: impl FnOnce(&mut Guest) + Send + 'static) -> Bench {
    let mut bench = Bench::new(version);
    bench.add(talker(0x8001), |guest| {
        map(guest, 0);
        guest.call(&[0xff03, 5, 1]);
        let request = guest.wait();
        script(guest);
        if request.function() == function::RUN {
            guest.wait();
        } else {
            guest.respond(&request, &[]);
        }
    });
    assert_eq!(bench.boot(), 0);
    bench.map_buffers();
    bench.call(&[u64::from(function::NOTIFICATION_BITMAP_CREATE), 0, 2]);
    put(&mut bench.machine, NORMAL_TX, 0x8001, V1_2, 5, b"hello");
    bench
}

#[test]
fn a_message_of_the_normal_world_reaches_a_partition() {
    let mut bench = normal_world_and(Version::V1_2, |guest| {
        assert!(guest.irq());
        assert_eq!(guest.interrupt(), 5);
        assert_eq!(take(&mut guest.bench.machine, rx(0)), (0x8001, b"hello".to_vec()));
        assert_eq!(guest.call(&[GET, 0x8001, FROM_SPM]), Regs::success(&[0, 0, 0, 0, 0, 1]));
        assert_eq!(guest.call(&[GET, 0x8001, FROM_SPM | FROM_HYPERVISOR]), ok(), "it was collected");
        assert_eq!(guest.call(&[RELEASE]), ok());
    });
    assert_eq!(bench.call(&[SEND]), ok());
    assert!(bench.world().saw(&Event::ScheduleReceiver(0)));
    assert_eq!(bench.call(&[SEND]), error(Status::Busy), "the partition has not read the first one");
    assert_eq!(bench.call(&[INFO]), Regs::new(&[u64::from(function::SUCCESS_64), 0, 1 << 7, 0x8001]));
    assert_eq!(bench.call(&[INFO]), error(Status::NoData));
    assert_eq!(bench.resume(0x8001, 0).function(), function::MSG_WAIT);
    assert_eq!(bench.call(&[SEND]), ok());
}

#[test]
fn a_message_of_a_partition_reaches_the_normal_world() {
    let mut bench = normal_world_and(Version::V1_2, |guest| {
        put(&mut guest.bench.machine, tx(0), 0x8001_0000, V1_2, 3, b"hey");
        assert_eq!(guest.call(&[SEND, 0, DELAY]), ok());
        assert!(!guest.bench.world().saw(&Event::ScheduleReceiver(0)), "delayed");
        assert_eq!(guest.call(&[SEND, 0, 0]), error(Status::Busy));
    });
    bench.request(0x8001, &[]);
    assert!(bench.world().saw(&Event::ScheduleReceiver(0)));
    assert_eq!(bench.call(&[INFO]), Regs::new(&[u64::from(function::SUCCESS_64), 0, 1 << 7, 0]));
    assert_eq!(bench.call(&[u64::from(function::NOTIFICATION_BITMAP_DESTROY)]), error(Status::Denied));
    assert_eq!(bench.call(&[GET, 0, FROM_SPM]), Regs::success(&[0, 0, 0, 0, 1]));
    assert_eq!(take(&mut bench.machine, NORMAL_RX), (0x8001_0000, b"hey".to_vec()));
    assert_eq!(bench.call(&[RELEASE]), ok());
    assert_eq!(bench.call(&[u64::from(function::NOTIFICATION_BITMAP_DESTROY)]), ok());
}

#[test]
fn partitions_of_either_exception_level_send_to_each_other() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(PartitionConfig { s_el0: true, ..talker(0x8001) }, |guest| {
        map(guest, 0);
        let request = guest.wait();
        put(&mut guest.bench.machine, tx(0), 0x8001_8002, V1_2, 4096 - V1_2, &[7; 4096 - V1_2 as usize]);
        assert_eq!(guest.call(&[SEND]), ok());
        assert!(guest.bench.world().saw(&Event::ScheduleReceiver(0)), "at once");
        let request = guest.respond(&request, &[]);
        assert_eq!(take(&mut guest.bench.machine, rx(0)), (0x8002_8001, b"back".to_vec()));
        guest.respond(&request, &[]);
    });
    bench.add(talker(0x8002), |guest| {
        map(guest, 1);
        let request = guest.wait();
        assert_eq!(take(&mut guest.bench.machine, rx(1)), (0x8001_8002, std::vec![7; 4096 - V1_2 as usize]), "a whole page");
        assert_eq!(guest.call(&[GET, 0x8002, FROM_HYPERVISOR]), Regs::success(&[0, 0, 0, 0, 1]), "one flag gets both halves");
        put(&mut guest.bench.machine, tx(1), 0x8002_8001, V1_2 + 8, 4, b"back");
        assert_eq!(guest.call(&[SEND]), ok());
        guest.respond(&request, &[]);
    });
    assert_eq!(bench.boot(), 0);
    for id in [0x8001, 0x8002, 0x8001] {
        assert_eq!(bench.request(id, &[]).function(), function::MSG_SEND_DIRECT_RESP_32);
    }
}

#[test]
fn headers_have_the_senders_layout() {
    for (version, shortest) in [(Version::V1_1, V1_1), (Version::V1_2, V1_2)] {
        let mut bench = normal_world_and(version, |guest| {
            assert_eq!(take(&mut guest.bench.machine, rx(0)), (0x8001, b"data".to_vec()));
        });
        put(&mut bench.machine, NORMAL_TX, 0x8001, shortest - 4, 4, b"data");
        assert_eq!(bench.call(&[SEND]), error(Status::InvalidParameters), "{version}: the payload overlaps the header");
        put(&mut bench.machine, NORMAL_TX, 0x8001, shortest, 4, b"data");
        assert_eq!(bench.call(&[SEND]), ok(), "{version}");
        bench.request(0x8001, &[]);
    }
    let mut old = Bench::new(Version::V1_0);
    assert_eq!(old.call(&[SEND]), error(Status::NotSupported));
}

#[test]
fn wrong_messages_are_refused_and_the_receiver_keeps_its_buffer_empty() {
    let mut bench = normal_world_and(Version::V1_2, |guest| assert_eq!(guest.call(&[RELEASE]), error(Status::Denied)));
    for (what, ends, offset, size) in [
        ("another sender", 0x0001_8001, V1_2, 4),
        ("a partition's message", 0x8001_8001, V1_2, 4),
        ("to itself", 0, V1_2, 4),
        ("unknown receiver", 0x8009, V1_2, 4),
        ("another VM", 1, V1_2, 4),
        ("the SPMC", 0x8000, V1_2, 4),
        ("payload over the header", 0x8001, 0, 4),
        ("unaligned", 0x8001, V1_2 + 1, 4),
        ("beyond the buffer", 0x8001, V1_2, 4096 - V1_2 + 1),
        ("offset beyond the buffer", 0x8001, 4100, 0),
        ("overflow", 0x8001, V1_2, u32::MAX),
        ("overflow", 0x8001, u32::MAX - 3, 4),
    ] {
        put(&mut bench.machine, NORMAL_TX, ends, offset, size, b"");
        assert_eq!(bench.call(&[SEND]), error(Status::InvalidParameters), "{what}");
    }
    put(&mut bench.machine, NORMAL_TX, 0x8001, V1_2, 4, b"");
    for (what, w1, w2, status) in [
        ("a flag of partitions", 0, DELAY, Status::InvalidParameters),
        ("a reserved flag", 0, 1, Status::InvalidParameters),
        ("reserved bits", 0x8001, 0, Status::InvalidParameters),
        ("a secure sender", 0x8001_0000, 0, Status::InvalidParameters),
        ("a VM without buffers", 1 << 16, 0, Status::Denied),
    ] {
        assert_eq!(bench.call(&[SEND, w1, w2]), error(status), "{what}");
    }
    bench.machine.write(NORMAL_TX, &[1]).unwrap();
    assert_eq!(bench.call(&[SEND]), error(Status::InvalidParameters), "flags of the header");
    assert_eq!(bench.call(&[INFO]), error(Status::NoData));
    bench.request(0x8001, &[]);
}

#[test]
fn a_message_is_for_a_service_of_its_receiver_or_for_none() {
    let mut bench = normal_world_and(Version::V1_2, |_| {});
    for (service, answer) in [(0x8002, error(Status::InvalidParameters)), (0x8001, ok())] {
        put(&mut bench.machine, NORMAL_TX, 0x8001, V1_2, 4, b"");
        bench.machine.write(Address { pa: NORMAL_TX.pa + message::UUID as u64, ..NORMAL_TX }, &uuid(service).0).unwrap();
        assert_eq!(bench.call(&[SEND]), answer);
    }
}

#[test]
fn a_partition_sends_in_its_own_name_only() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(talker(0x8001), |guest| {
        map(guest, 0);
        put(&mut guest.bench.machine, tx(0), 0x8002_0000, V1_2, 0, b"");
        assert_eq!(guest.call(&[SEND]), error(Status::InvalidParameters));
        put(&mut guest.bench.machine, tx(0), 0x8001_0000, V1_2, 0, b"");
        assert_eq!(guest.call(&[SEND, 0x8001_0000]), error(Status::InvalidParameters), "w1 is a hypervisor's");
        assert_eq!(guest.call(&[SEND, 0, 4]), error(Status::InvalidParameters), "a reserved flag");
        assert_eq!(guest.call(&[SEND]), error(Status::Busy), "the normal world has no buffers");
    });
    assert_eq!(bench.boot(), 0);
    assert_eq!(bench.call(&[SEND]), error(Status::Denied), "no buffers");
}

#[test]
fn both_manifests_must_allow_it() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(s_el1(0x8001), |guest| {
        map(guest, 0);
        for receiver in [0, 0x8002] {
            put(&mut guest.bench.machine, tx(0), 0x8001_0000 | receiver, V1_2, 0, b"");
            assert_eq!(guest.call(&[SEND]), error(Status::Denied));
        }
    });
    bench.add(talker(0x8002), |guest| {
        map(guest, 1);
        put(&mut guest.bench.machine, tx(1), 0x8002_8001, V1_2, 0, b"");
        assert_eq!(guest.call(&[SEND]), error(Status::Denied));
        guest.wait();
        guest.crash();
    });
    assert_eq!(bench.boot(), 0);
    bench.map_buffers();
    put(&mut bench.machine, NORMAL_TX, 0x8001, V1_2, 0, b"");
    assert_eq!(bench.call(&[SEND]), error(Status::Denied));
    bench.request(0x8002, &[]);
    put(&mut bench.machine, NORMAL_TX, 0x8002, V1_2, 0, b"");
    assert_eq!(bench.call(&[SEND]), error(Status::Aborted));
}

#[test]
fn without_notifications_a_message_arrives_in_silence() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(PartitionConfig { notifications: false, ..talker(0x8001) }, |guest| {
        map(guest, 0);
        let request = guest.wait();
        assert_eq!(take(&mut guest.bench.machine, rx(0)), (0x8001, b"hello".to_vec()));
        guest.respond(&request, &[]);
    });
    assert_eq!(bench.boot(), 0);
    bench.map_buffers();
    put(&mut bench.machine, NORMAL_TX, 0x8001, V1_2, 5, b"hello");
    assert_eq!(bench.call(&[SEND]), ok());
    assert!(!bench.world().saw(&Event::ScheduleReceiver(0)));
    assert_eq!(bench.call(&[INFO]), error(Status::NoData));
    bench.request(0x8001, &[]);
}

#[test]
fn a_wait_makes_room_for_the_next_message_unless_it_retains_the_buffer() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(talker(0x8001), |guest| {
        map(guest, 0);
        guest.wait();
        guest.call(&[u64::from(function::MSG_WAIT), 0, 1]);
        guest.wait();
    });
    assert_eq!(bench.boot(), 0);
    bench.map_buffers();
    put(&mut bench.machine, NORMAL_TX, 0x8001, V1_2, 0, b"");
    assert_eq!(bench.call(&[SEND]), ok());
    bench.resume(0x8001, 0);
    assert_eq!(bench.call(&[SEND]), error(Status::Busy), "retained");
    bench.resume(0x8001, 0);
    assert_eq!(bench.call(&[SEND]), ok(), "released");
}

#[test]
fn what_the_hypervisor_acquired_the_spmc_leaves_alone() {
    let mut bench = normal_world_and(Version::V1_2, |guest| {
        put(&mut guest.bench.machine, tx(0), 0x8001_0000, V1_2, 0, b"");
        assert_eq!(guest.call(&[SEND]), error(Status::Busy));
        assert_eq!(guest.bench.call(&[RELEASE]), ok());
        assert_eq!(guest.call(&[SEND]), ok());
    });
    assert_eq!(bench.call(&[u64::from(function::RX_ACQUIRE)]), ok());
    bench.request(0x8001, &[]);
}

#[test]
fn memory_that_does_not_answer_aborts_the_message_alone() {
    let mut bench = normal_world_and(Version::V1_2, |_| {});
    bench.world().remove_memory(rx(0).pa, true);
    assert_eq!(bench.call(&[SEND]), error(Status::Aborted));
    assert_eq!(bench.call(&[INFO]), error(Status::NoData));
    assert_eq!(bench.call(&[u64::from(function::ID_GET)]), ok());
}
