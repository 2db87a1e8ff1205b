//! Direct messages between the normal world and a partition, one at a time.

use crate::fake::*;
use crate::partition::Methods;
use crate::PartitionConfig;
use bulkhead_ffa::{Regs, Status, Version, function};

const REQ: u64 = function::MSG_SEND_DIRECT_REQ_32 as u64;
const REQ_64: u64 = function::MSG_SEND_DIRECT_REQ_64 as u64;
const REQ2: u64 = function::MSG_SEND_DIRECT_REQ2 as u64;
const RESP: u64 = function::MSG_SEND_DIRECT_RESP_32 as u64;
const RESP_64: u64 = function::MSG_SEND_DIRECT_RESP_64 as u64;
const RESP2: u64 = function::MSG_SEND_DIRECT_RESP2 as u64;

/// An SPMC with one partition, 0x8001, that is ready.
fn one(script: impl FnOnce(&mut Guest) + Send + 'static) -> Bench {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(s_el1(0x8001), script);
    assert_eq!(bench.boot(), 0);
    bench
}

/// A partition that answers everything with the payload it got.
fn echo(guest: &mut Guest) {
    let mut request = guest.wait();
    loop {
        let payload = if request.0[0] == REQ2 { request.0[4..18].to_vec() } else { request.0[3..8].to_vec() };
        request = guest.respond(&request, &payload);
    }
}

#[test]
fn a_request_is_answered() {
    let mut bench = one(|guest| {
        let request = guest.wait();
        assert_eq!(request.0[..5], [REQ, 0x8001, 0, 1, 2]);
        guest.respond(&request, &[3, 4]);
    });
    assert_eq!(bench.request(0x8001, &[1, 2]), Regs::new(&[RESP, 0x8001_0000, 0, 3, 4]));
}

#[test]
fn payloads_pass_unchanged_in_each_convention() {
    let mut bench = one(echo);
    let wide = [REQ_64, 0x7_8001, 0, u64::MAX, 1 << 63, 5, 6, 7];
    assert_eq!(bench.call(&wide), Regs::new(&[RESP_64, 0x8001_0007, 0, u64::MAX, 1 << 63, 5, 6, 7]));
    let mut long = Regs(std::array::from_fn(|n| u64::MAX - n as u64));
    let [lo, hi] = uuid(0x8001).doublewords();
    long.0[..4].copy_from_slice(&[REQ2, 0x8001, lo, hi]);
    let mut answer = long;
    answer.0[..4].copy_from_slice(&[RESP2, 0x8001_0000, 0, 0]);
    assert_eq!(bench.call_with(long), answer);
}

#[test]
fn upper_halves_of_a_32_bit_message_are_dropped() {
    let mut bench = one(|guest| {
        let request = guest.wait();
        assert_eq!(request.0[..8], [REQ, 0x8001, 0, 1, 2, 3, 4, 5]);
        let top = 0xabcd << 32;
        guest.respond(&request, &[top | 6, top | 7, top, top, top]);
    });
    let top = 0xffff_ffff << 32;
    let answer = bench.call(&[top | REQ, top | 0x8001, top, top | 1, top | 2, top | 3, top | 4, top | 5]);
    assert_eq!(answer, Regs::new(&[RESP, 0x8001_0000, 0, 6, 7]));
}

#[test]
fn the_sve_hint_is_no_part_of_the_identifier() {
    let mut bench = one(echo);
    assert_eq!(bench.call(&[REQ | 1 << 16, 0x8001, 0, 9]), Regs::new(&[RESP, 0x8001_0000, 0, 9]));
}

#[test]
fn registers_beyond_x7_are_the_callers_unless_the_answer_defines_them() {
    let mut bench = one(echo);
    let mut regs = Regs(std::array::from_fn(|n| 0x100 + n as u64));
    regs.0[..8].copy_from_slice(&[REQ, 0x8001, 0, 0, 0, 0, 0, 0]);
    let answer = bench.call_with(regs);
    assert_eq!(answer.0[8..], regs.0[8..]);
    regs.0[1] = 0x8009;
    assert_eq!(bench.call_with(regs).0[8..], regs.0[8..]);
}

#[test]
fn wrong_ends_are_invalid() {
    let mut bench = one(echo);
    for (what, ends) in [("unknown receiver", 0x8002), ("a secure sender", 0x8003_8001), ("itself", 0x0005_0005), ("the SPMC", 0x8000), ("a VM", 1)] {
        assert_eq!(bench.call(&[REQ, ends]), error(Status::InvalidParameters), "{what}");
        assert_eq!(bench.call(&[REQ2, ends]), error(Status::InvalidParameters), "{what}");
    }
}

#[test]
fn reserved_bits_of_w2_are_invalid() {
    let mut bench = one(echo);
    for bits in [1, 0x100, 1 << 31] {
        assert_eq!(bench.call(&[REQ, 0x8001, bits]), error(Status::InvalidParameters));
        assert_eq!(bench.call(&[REQ_64, 0x8001, bits]), error(Status::InvalidParameters));
    }
}

#[test]
fn a_request_by_uuid_is_for_a_service_of_the_receiver_or_for_none() {
    let mut bench = one(echo);
    let [lo, hi] = uuid(0x8002).doublewords();
    assert_eq!(bench.call(&[REQ2, 0x8001, lo, hi]), error(Status::InvalidParameters));
    assert_eq!(bench.call(&[REQ2, 0x8001, lo, 0]), error(Status::InvalidParameters));
    assert_eq!(bench.call(&[REQ2, 0x8001]).0[0], RESP2);
}

#[test]
fn methods_that_the_manifest_does_not_name_are_denied() {
    let mut bench = Bench::new(Version::V1_2);
    for (id, bits) in [(0x8001, Methods::DIRECT_RECEIVE), (0x8002, Methods::DIRECT2_RECEIVE)] {
        bench.add(PartitionConfig { methods: Methods(bits), ..s_el1(id) }, echo);
    }
    bench.boot();
    assert_eq!(bench.call(&[REQ2, 0x8001]), error(Status::Denied));
    assert_eq!(bench.call(&[REQ, 0x8002]), error(Status::Denied));
    assert_eq!(bench.call(&[REQ, 0x8001]).0[0], RESP);
    assert_eq!(bench.call(&[REQ2, 0x8002]).0[0], RESP2);
}

/// Section 13.2: a receiver that speaks v1.1 does not know FFA_MSG_SEND_DIRECT_REQ2, whatever its manifest says.
#[test]
fn req2_is_denied_to_a_partition_of_v1_1() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(PartitionConfig { version: Version::V1_1, ..s_el1(0x8001) }, echo);
    bench.add(s_el1(0x8002), |guest| {
        assert_eq!(guest.call(&[REQ2, 0x8002_8001]), error(Status::Denied));
        assert_eq!(guest.request(0x8001, &[4]).0[3], 4);
    });
    assert_eq!(bench.boot(), 0);
    assert_eq!(bench.call(&[REQ2, 0x8001]), error(Status::Denied));
    assert_eq!(bench.request(0x8001, &[5]).0[3], 5);
}

#[test]
fn a_partition_at_work_is_busy_for_others() {
    let mut bench = one(|guest| {
        let request = guest.wait();
        assert_eq!(guest.bench.on(1).request(0x8001, &[]), error(Status::Busy));
        assert_eq!(guest.bench.on(1).resume(0x8001, 0), error(Status::Busy));
        guest.respond(&request, &[]);
    });
    assert_eq!(bench.request(0x8001, &[]).0[0], RESP);
}

#[test]
fn a_uniprocessor_partition_runs_where_it_is_called() {
    let mut bench = one(|guest| {
        let mut request = guest.wait();
        for core in 0..4 {
            assert_eq!(guest.core(), core);
            if core == 3 {
                break;
            }
            request = guest.respond(&request, &[core as u64]);
        }
        guest.respond(&request, &[3]);
    });
    for core in 0..4 {
        assert_eq!(bench.on(core).request(0x8001, &[]).0[3], core as u64);
    }
    bench = bench.on(0);
    assert_eq!(bench.request(0x8002, &[]), error(Status::InvalidParameters));
}

#[test]
fn wrong_answers_are_refused_and_the_request_stays_open() {
    let mut bench = one(|guest| {
        let request = guest.wait();
        for (what, answer, status) in [
            ("another sender", [RESP, 0x8002_0000, 0], Status::InvalidParameters),
            ("another requester", [RESP, 0x8001_0001, 0], Status::Denied),
            ("a partition that requested nothing", [RESP, 0x8001_8002, 0], Status::Denied),
            ("itself", [RESP, 0x8001_8001, 0], Status::InvalidParameters),
            ("a framework message", [RESP, 0x8001_0000, 1 << 31], Status::InvalidParameters),
            ("64-bit convention", [RESP_64, 0x8001_0000, 0], Status::Denied),
            ("RESP2", [RESP2, 0x8001_0000, 0], Status::Denied),
            ("reserved bits", [RESP, 0x8001_0000, 1], Status::InvalidParameters),
            ("a wait", [u64::from(function::MSG_WAIT), 0, 0], Status::Denied),
        ] {
            assert_eq!(guest.call(&answer), error(status), "{what}");
        }
        guest.respond(&request, &[1]);
    });
    assert_eq!(bench.request(0x8001, &[]).0[3], 1);
    let mut bench = one(|guest| {
        let request = guest.wait();
        assert_eq!(guest.call(&[RESP2, 0x8001_0000, 1]), error(Status::InvalidParameters));
        assert_eq!(guest.call(&[RESP2, 0x8001_0000, 0, 1]), error(Status::InvalidParameters));
        assert_eq!(guest.call(&[RESP, 0x8001_0000]), error(Status::Denied));
        guest.respond(&request, &[2]);
    });
    assert_eq!(bench.call(&[REQ2, 0x8001]).0[4], 2);
}

#[test]
fn an_error_is_an_answer() {
    let mut bench = one(|guest| {
        guest.wait();
        let next = guest.call(&[u64::from(function::ERROR), 0, Status::NoMemory.code()]);
        guest.respond(&next, &[7]);
    });
    assert_eq!(bench.request(0x8001, &[]), error(Status::NoMemory));
    assert_eq!(bench.request(0x8001, &[]).0[3], 7, "and the partition waits again");
}

#[test]
fn a_response_or_an_error_without_a_request_is_denied() {
    let mut bench = one(|guest| {
        let run = guest.wait();
        assert_eq!(run.0[..2], [u64::from(function::RUN), 0x8001_0000]);
        assert_eq!(guest.call(&[RESP, 0x8001_0000]), error(Status::Denied));
        assert_eq!(guest.call(&[u64::from(function::ERROR), 0, Status::NoMemory.code()]), error(Status::Denied));
    });
    assert_eq!(bench.resume(0x8001, 0), Regs::new(&[u64::from(function::MSG_WAIT)]));
}

#[test]
fn a_partition_neither_requests_from_the_normal_world_nor_runs_it() {
    one(|guest| {
        for id in [0, 1] {
            assert_eq!(guest.request(id, &[]), error(Status::InvalidParameters));
            assert_eq!(guest.call(&[u64::from(function::RUN), u64::from(id) << 16]), error(Status::Denied));
        }
    });
}

#[test]
fn reserved_registers_of_a_wait_are_invalid() {
    one(|guest| {
        let wait = u64::from(function::MSG_WAIT);
        for n in 1..8 {
            let mut regs = [wait, 0, 0, 0, 0, 0, 0, 0];
            regs[n] = 2;
            assert_eq!(guest.call(&regs), error(Status::InvalidParameters), "x{n}");
        }
    });
}

#[test]
fn calls_of_the_wrong_instance_are_not_supported() {
    let mut bench = one(|guest| {
        assert_eq!(guest.call(&[u64::from(function::NORMAL_WORLD_RESUME)]), error(Status::NotSupported));
        assert_eq!(guest.call(&[0x8400_00ff]), error(Status::NotSupported));
    });
    for function in [function::MSG_WAIT, function::YIELD, function::MSG_SEND_DIRECT_RESP_32, function::ERROR, function::CONSOLE_LOG_32, 0x8400_00ff] {
        assert_eq!(bench.call(&[u64::from(function), 0x8001_0000]), error(Status::NotSupported), "{function:#x}");
    }
}

#[test]
fn a_call_that_is_not_ffa_is_unknown_and_keeps_other_registers() {
    one(|guest| {
        let answer = guest.call(&[0x8400_0000, 1, 2, 3, 4, 5]);
        assert_eq!(answer.0[..6], [u64::MAX, 0, 0, 0, 4, 5]);
    });
}

#[test]
fn a_crash_ends_the_partition_and_aborts_its_caller() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(s_el1(0x8001), |guest| {
        guest.wait();
        guest.crash();
    });
    bench.add(s_el1(0x8002), echo);
    bench.boot();
    assert_eq!(bench.request(0x8001, &[]), error(Status::Aborted));
    assert_eq!(bench.request(0x8001, &[]), error(Status::Aborted));
    assert_eq!(bench.resume(0x8001, 0), error(Status::Aborted));
    assert_eq!(bench.request(0x8002, &[5]).0[3], 5, "the other one goes on");
    assert!(bench.world().saw(&Event::Quiesced(0)));
    assert!(!bench.world().saw(&Event::Quiesced(1)));
}

#[test]
fn ffa_abort_ends_the_partition() {
    let mut bench = one(|guest| {
        guest.wait();
        guest.call(&[u64::from(function::ABORT_64)]);
    });
    assert_eq!(bench.request(0x8001, &[]), error(Status::Aborted));
    assert_eq!(bench.request(0x8001, &[]), error(Status::Aborted));
}
