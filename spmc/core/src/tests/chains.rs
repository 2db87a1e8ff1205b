//! Nested requests, preemption, FFA_RUN and FFA_YIELD.

use crate::PartitionConfig;
use crate::fake::*;
use crate::machine::Exit;
use crate::partition::{Methods, NormalWorldInterrupts};
use bulkhead_ffa::{Regs, Status, Version, function};

const RESP: u64 = function::MSG_SEND_DIRECT_RESP_32 as u64;
const YIELD: u64 = function::YIELD as u64;
const RUN: u64 = function::RUN as u64;
const PREEMPTED: Exit = Exit::NormalWorldInterrupt;

fn interrupted(target: u64) -> Regs {
    Regs::new(&[u64::from(function::INTERRUPT), target])
}

/// 0x8001 sends each request that it gets on to 0x8002 and answers with what it got.
fn relay(guest: &mut Guest) {
    let mut request = guest.wait();
    loop {
        let answer = guest.request(0x8002, &request.0[3..8]);
        request = guest.respond(&request, &answer.0[2..7]);
    }
}

fn two(first: impl FnOnce(&mut Guest) + Send + 'static, second: impl FnOnce(&mut Guest) + Send + 'static) -> Bench {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(s_el1(0x8001), first);
    bench.add(s_el1(0x8002), second);
    assert_eq!(bench.boot(), 0);
    bench
}

#[test]
fn a_nested_request_is_answered() {
    let mut bench = two(relay, |guest| {
        let request = guest.wait();
        assert_eq!(request.0[1], 0x8001_8002);
        guest.respond(&request, &[6]);
    });
    assert_eq!(bench.request(0x8001, &[5]).0[..5], [RESP, 0x8001_0000, 0, 0, 6]);
}

#[test]
fn an_error_goes_to_the_partition_that_asked() {
    let mut bench = two(relay, |guest| {
        guest.wait();
        guest.call(&[u64::from(function::ERROR), 0, Status::NoData.code()]);
    });
    assert_eq!(bench.request(0x8001, &[]).0[3], Status::NoData.code());
}

#[test]
fn a_cycle_is_busy() {
    let mut bench = two(relay, |guest| {
        let request = guest.wait();
        assert_eq!(guest.request(0x8001, &[]), error(Status::Busy));
        guest.respond(&request, &[]);
    });
    assert_eq!(bench.request(0x8001, &[]).0[0], RESP);
}

/// Section 8.2, rule 1: a vCPU that was only run is busy with nothing, but waits for the caller.
#[test]
fn a_cycle_back_to_who_was_run_is_denied() {
    let req2 = u64::from(function::MSG_SEND_DIRECT_REQ2);
    let mut bench = two(
        |guest| {
            guest.wait();
            assert_eq!(guest.request(0x8002, &[]).0[3], 1);
        },
        move |guest| {
            let request = guest.wait();
            assert_eq!(guest.request(0x8001, &[]), error(Status::Denied));
            assert_eq!(guest.call(&[req2, 0x8002_8001]), error(Status::Denied));
            guest.bench.on(1).request(0x8001, &[]);
            assert_eq!(guest.bench.on(1).request(0x8001, &[]), error(Status::Busy), "another caller may try again");
            guest.respond(&request, &[1]);
        },
    );
    assert_eq!(bench.resume(0x8001, 0).function(), function::MSG_WAIT);
}

/// The same over three partitions, while a request is processed: BUSY.
#[test]
fn a_long_cycle_is_busy() {
    let mut bench = two(relay, |guest| {
        let request = guest.wait();
        assert_eq!(guest.request(0x8003, &[]).0[3], 3);
        guest.respond(&request, &[2]);
    });
    bench.add(s_el1(0x8003), |guest| {
        let request = guest.wait();
        for earlier in [0x8001, 0x8002] {
            assert_eq!(guest.request(earlier, &[]), error(Status::Busy));
        }
        guest.respond(&request, &[3]);
    });
    bench.spmc.set_boot_order(&[2, 0, 1]);
    bench.boot();
    assert_eq!(bench.request(0x8001, &[]).0[4], 2);
}

#[test]
fn a_partition_may_not_ask_the_normal_world_itself_or_as_another() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(s_el1(0x8001), |guest| {
        let req = u64::from(function::MSG_SEND_DIRECT_REQ_32);
        assert_eq!(guest.request(0, &[]), error(Status::InvalidParameters));
        assert_eq!(guest.request(0x8001, &[]), error(Status::InvalidParameters));
        assert_eq!(guest.request(0x8009, &[]), error(Status::InvalidParameters));
        assert_eq!(guest.call(&[req, 0x8002_8003]), error(Status::InvalidParameters));
        assert_eq!(guest.request(0x8002, &[]), error(Status::Denied), "it is not initialised yet");
    });
    bench.add(PartitionConfig { methods: Methods(Methods::DIRECT_RECEIVE), ..s_el1(0x8002) }, |guest| {
        assert_eq!(guest.request(0x8001, &[]), error(Status::Denied), "its manifest forbids sending");
    });
    assert_eq!(bench.boot(), 0);
}

#[test]
fn a_crash_of_the_callee_aborts_the_request_and_the_caller_goes_on() {
    let mut bench = two(relay, |guest| {
        guest.wait();
        guest.crash();
    });
    assert_eq!(bench.request(0x8001, &[]).0[..4], [RESP, 0x8001_0000, 0, Status::Aborted.code()]);
    assert_eq!(bench.request(0x8001, &[]).0[3], Status::Aborted.code());
}

#[test]
fn a_preempted_partition_goes_on_by_ffa_run() {
    let mut bench = two(
        |guest| {
            let request = guest.wait();
            guest.stop(PREEMPTED);
            guest.stop(PREEMPTED);
            guest.respond(&request, &[1]);
        },
        |_| {},
    );
    assert_eq!(bench.request(0x8001, &[]), interrupted(0x8001_0000));
    assert_eq!(bench.request(0x8001, &[]), error(Status::Busy), "nobody else gets in");
    assert_eq!(bench.resume(0x8001, 0), interrupted(0x8001_0000));
    assert_eq!(bench.on(3).resume(0x8001, 0).0[..4], [RESP, 0x8001_0000, 0, 1], "on another core, too");
}

#[test]
fn a_preempted_chain_goes_on_at_its_tail() {
    let mut bench = two(relay, |guest| {
        let request = guest.wait();
        guest.stop(PREEMPTED);
        guest.respond(&request, &[8]);
    });
    assert_eq!(bench.request(0x8001, &[]), interrupted(0x8001_0000));
    assert_eq!(bench.resume(0x8002, 0), error(Status::Denied), "its caller is a partition");
    assert_eq!(bench.on(1).resume(0x8001, 0).0[4], 8);
}

#[test]
fn a_chain_with_a_pinned_vcpu_goes_on_where_that_may_run() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(s_el1(0x8001), |guest| {
        let request = guest.wait();
        let answer = guest.request(0x8002, &[]);
        guest.respond(&request, &[answer.0[3]]);
    });
    bench.add(PartitionConfig { vcpus: 2, ..s_el1(0x8002) }, |guest| {
        let request = guest.wait();
        guest.stop(PREEMPTED);
        assert_eq!(guest.core(), 0);
        guest.respond(&request, &[7]);
    });
    bench.boot();
    assert_eq!(bench.request(0x8001, &[]), interrupted(0x8001_0000));
    assert_eq!(bench.on(1).resume(0x8001, 0), error(Status::Denied));
    assert_eq!(bench.resume(0x8001, 0).0[3], 7);
}

#[test]
fn a_chain_below_a_failed_head_can_be_ended() {
    let mut bench = Bench::new(Version::V1_2);
    let first = bench.add(PartitionConfig { vcpus: 2, ..s_el1(0x8001) }, |guest| {
        guest.call(&[u64::from(function::SECONDARY_EP_REGISTER_64), SECURE_MEMORY]);
        guest.wait();
        guest.crash();
    });
    bench.script(first, 1, relay);
    bench.add(s_el1(0x8002), |guest| {
        let request = guest.wait();
        guest.stop(PREEMPTED);
        let request = guest.respond(&request, &[]);
        guest.respond(&request, &[2]);
    });
    bench.boot();
    let mut second_core = bench.on(1);
    second_core.core_on();
    assert_eq!(second_core.request(0x8001, &[]), interrupted(0x8001_0001));
    assert_eq!(bench.request(0x8001, &[]), error(Status::Aborted));
    assert_eq!(bench.request(0x8002, &[]), error(Status::Busy));
    assert_eq!(second_core.resume(0x8001, 1), error(Status::Aborted));
    assert_eq!(bench.request(0x8002, &[]).0[3], 2, "the callee is free again");
}

/// The failed partition's other vCPU waits for somebody else meanwhile.
#[test]
fn who_yielded_to_a_failed_partition_can_be_ended_while_that_waits_for_another() {
    let mut bench = Bench::new(Version::V1_2);
    let first = bench.add(PartitionConfig { vcpus: 2, ..s_el1(0x8001) }, |guest| {
        guest.call(&[u64::from(function::SECONDARY_EP_REGISTER_64), SECURE_MEMORY]);
        guest.wait();
        guest.crash();
    });
    bench.script(first, 1, |guest| {
        guest.wait();
        assert_eq!(guest.request(0x8002, &[]).function(), function::YIELD);
        guest.request(0x8003, &[]);
    });
    bench.add(s_el1(0x8002), |guest| {
        let request = guest.wait();
        assert_eq!(guest.call(&[YIELD]), Regs::success(&[]));
        let request = guest.respond(&request, &[]);
        guest.respond(&request, &[2]);
    });
    bench.add(s_el1(0x8003), |guest| {
        let request = guest.wait();
        guest.stop(PREEMPTED);
        guest.respond(&request, &[]);
    });
    bench.boot();
    let mut second_core = bench.on(1);
    second_core.core_on();
    assert_eq!(second_core.request(0x8001, &[]), interrupted(0x8001_0001));
    assert_eq!(bench.request(0x8001, &[]), error(Status::Aborted));
    assert_eq!(bench.resume(0x8002, 0), error(Status::Aborted), "it runs to its end, and who it answers is gone");
    assert_eq!(bench.request(0x8002, &[]).0[3], 2, "and is free again");
    assert_eq!(second_core.resume(0x8001, 1), error(Status::Aborted));
}

#[test]
fn reserved_registers_of_a_run_are_not_looked_at() {
    let mut bench = two(
        |guest| {
            let run = guest.wait();
            assert_eq!(run, Regs::new(&[RUN, 0x8001_0000]), "and not handed on");
            guest.wait();
        },
        |_| {},
    );
    assert_eq!(bench.call(&[RUN, 0x8001_0000, 1, 2, 3, 4, 5, 6]), Regs::new(&[u64::from(function::MSG_WAIT)]));
}

#[test]
fn a_yield_returns_to_the_normal_world_and_ffa_run_goes_on() {
    let mut bench = two(
        |guest| {
            let request = guest.wait();
            assert_eq!(guest.call(&[YIELD]), Regs::success(&[]));
            guest.respond(&request, &[3]);
        },
        |_| {},
    );
    assert_eq!(bench.request(0x8001, &[]), Regs::new(&[YIELD, 0x8001_0000]));
    assert_eq!(bench.request(0x8001, &[]), error(Status::Busy));
    assert_eq!(bench.on(2).resume(0x8001, 0).0[3], 3);
}

/// Section 14.3: w2 and w3 are a timeout that the scheduler of the caller gets to know; the rest is reserved.
#[test]
fn a_yield_hands_its_timeout_on() {
    let mut bench = two(
        |guest| {
            let request = guest.wait();
            for n in 4..8 {
                let mut regs = [YIELD, 0, 0, 0, 0, 0, 0, 0];
                regs[n] = 1;
                assert_eq!(guest.call(&regs), error(Status::InvalidParameters), "x{n}");
            }
            guest.call(&[YIELD, 0, 0xffff_ffff_0000_0001, 0x2345_6789]);
            let answer = guest.request(0x8002, &[]);
            guest.respond(&request, &answer.0[..4]);
        },
        |guest| {
            guest.wait();
            guest.call(&[YIELD, 0, 7, 8]);
        },
    );
    assert_eq!(bench.request(0x8001, &[]), Regs::new(&[YIELD, 0x8001_0000, 1, 0x2345_6789]));
    assert_eq!(bench.resume(0x8001, 0).0[3..7], [YIELD, 0x8002_0000, 7, 8]);
}

#[test]
fn a_partition_resumes_its_callee_that_yielded() {
    let mut bench = two(
        |guest| {
            let request = guest.wait();
            assert_eq!(guest.request(0x8002, &[]), Regs::new(&[YIELD, 0x8002_0000]));
            assert_eq!(guest.request(0x8002, &[]), error(Status::Busy));
            assert_eq!(guest.call(&[RUN, 0x8003_0000]), error(Status::Denied), "it is none of its callees");
            assert_eq!(guest.call(&[RUN, 0x8001_0000]), error(Status::Denied));
            let answer = guest.call(&[RUN, 0x8002_0000]);
            assert_eq!(answer.0[..4], [RESP, 0x8002_8001, 0, 4]);
            assert_eq!(guest.call(&[RUN, 0x8002_0000]), error(Status::Denied), "it waits");
            guest.respond(&request, &[5]);
        },
        |guest| {
            let request = guest.wait();
            assert_eq!(guest.call(&[YIELD]), Regs::success(&[]));
            guest.respond(&request, &[4]);
        },
    );
    bench.add(s_el1(0x8003), |_| {});
    assert_eq!(bench.request(0x8001, &[]).0[3], 5);
}

#[test]
fn a_yielded_partition_survives_its_caller() {
    let mut bench = two(
        |guest| {
            guest.wait();
            guest.request(0x8002, &[]);
            guest.crash();
        },
        |guest| {
            let request = guest.wait();
            guest.call(&[YIELD]);
            let next = guest.respond(&request, &[4]);
            guest.respond(&next, &[5]);
        },
    );
    assert_eq!(bench.request(0x8001, &[]), error(Status::Aborted));
    assert_eq!(bench.request(0x8002, &[]), error(Status::Busy));
    assert_eq!(bench.resume(0x8002, 0), error(Status::Aborted), "its answer was for another");
    assert_eq!(bench.request(0x8002, &[]).0[3], 5);
}

#[test]
fn ffa_run_checks_its_target() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(PartitionConfig { vcpus: 4, ..s_el1(0x8001) }, |_| {});
    bench.boot();
    assert_eq!(bench.resume(0x8002, 0), error(Status::InvalidParameters));
    assert_eq!(bench.resume(0x8001, 4), error(Status::InvalidParameters));
    assert_eq!(bench.resume(0x8001, 1), error(Status::InvalidParameters), "its core is another one");
    assert_eq!(bench.on(1).resume(0x8001, 1), error(Status::Denied), "it was never started");
    assert_eq!(bench.on(1).request(0x8001, &[]), error(Status::Denied));
}

#[test]
fn a_partition_may_not_run_or_yield_without_a_conversation() {
    two(
        |guest| {
            assert_eq!(guest.call(&[YIELD]), error(Status::Denied));
            assert_eq!(guest.call(&[RUN, 0x8002_0000]), error(Status::Denied));
            assert_eq!(guest.call(&[RUN, 0x8009_0000]), error(Status::InvalidParameters));
        },
        |_| {},
    );
}

#[test]
fn queued_normal_world_interrupts_wait_for_the_answer() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(PartitionConfig { normal_world_interrupts: NormalWorldInterrupts::Queued, ..s_el1(0x8001) }, |guest| {
        let request = guest.wait();
        assert!(guest.held());
        guest.stop(PREEMPTED);
        let answer = guest.request(0x8002, &[]);
        assert!(guest.held());
        guest.respond(&request, &[answer.0[3]]);
    });
    bench.add(s_el1(0x8002), |guest| {
        let request = guest.wait();
        assert!(guest.held(), "they also wait for a request that the first one nests");
        let request = guest.respond(&request, &[9]);
        assert!(!guest.held());
        guest.respond(&request, &[9]);
    });
    bench.boot();
    assert_eq!(bench.request(0x8001, &[]).0[3], 9);
    assert_eq!(bench.request(0x8002, &[]).0[3], 9);
}

#[test]
fn a_caller_makes_a_managed_exit_for_its_callee_and_goes_on_with_it_later() {
    let mut bench = Bench::new(Version::V1_2);
    let run = |id: u64| [u64::from(function::RUN), id << 16];
    let config = PartitionConfig { normal_world_interrupts: NormalWorldInterrupts::ManagedExit { irq: true }, ..s_el1(0x8001) };
    bench.add(config, move |guest| {
        let request = guest.wait();
        let interrupted = guest.request(0x8002, &[]);
        assert_eq!(interrupted, Regs::new(&[u64::from(function::INTERRUPT), 0x8002_0000]));
        assert!(guest.irq() && guest.held());
        assert_eq!(guest.interrupt(), 4);
        let request = guest.respond(&request, &[1]);
        assert!(!guest.held());
        assert_eq!(guest.request(0x8002, &[]), error(Status::Busy), "it is in the middle of the first");
        let answer = guest.call(&run(0x8002));
        let request = guest.respond(&request, &[answer.0[3]]);
        assert_eq!(guest.call(&run(0x8002)), error(Status::Denied), "nothing is left");
        guest.respond(&request, &[3]);
    });
    bench.add(s_el1(0x8002), |guest| {
        let request = guest.wait();
        guest.stop(PREEMPTED);
        guest.respond(&request, &[2]);
    });
    bench.boot();
    assert_eq!(bench.request(0x8001, &[]).0[3], 1, "the managed exit");
    assert_eq!(bench.request(0x8002, &[]), error(Status::Busy));
    assert_eq!(bench.resume(0x8002, 0), error(Status::Denied), "its caller goes on with it");
    assert_eq!(bench.request(0x8001, &[]).0[3], 2);
    assert_eq!(bench.request(0x8001, &[]).0[3], 3);
}

/// A Secure OS with a vCPU on each of two cores that leaves 0x8002 behind on the first; `elsewhere` is what its second vCPU does
/// then, with its requests there.
fn left_on_another_core(elsewhere: impl FnOnce(&mut Guest) + Send + 'static, here: impl FnOnce(&mut Guest, Regs) + Send + 'static) -> (Bench, Bench) {
    let mut bench = Bench::new(Version::V1_2);
    let config = PartitionConfig { vcpus: 2, normal_world_interrupts: NormalWorldInterrupts::ManagedExit { irq: true }, ..s_el1(0x8001) };
    let caller = bench.add(config, |guest| {
        assert!(guest.call(&[u64::from(function::SECONDARY_EP_REGISTER_64), SECURE_MEMORY]).as_error().is_none());
        let request = guest.wait();
        guest.request(0x8002, &[]);
        let request = guest.respond(&request, &[1]);
        here(guest, request);
    });
    bench.script(caller, 1, elsewhere);
    bench.add(s_el1(0x8002), |guest| {
        let request = guest.wait();
        guest.stop(PREEMPTED);
        let request = guest.respond(&request, &[2]);
        guest.respond(&request, &[4]);
    });
    bench.boot();
    let mut second = bench.on(1);
    second.core_on();
    assert_eq!(bench.request(0x8001, &[]).0[3], 1, "the managed exit");
    (bench, second)
}

const RUN_LEFT: [u64; 2] = [function::RUN as u64, 0x8002 << 16];

#[test]
fn another_vcpu_of_a_caller_goes_on_with_the_callee_that_it_left() {
    let elsewhere = |guest: &mut Guest| {
        let request = guest.wait();
        let answer = guest.call(&RUN_LEFT);
        let request = guest.respond(&request, &[answer.0[3]]);
        assert_eq!(guest.call(&RUN_LEFT), error(Status::Denied), "nothing is left");
        guest.respond(&request, &[3]);
    };
    let (mut bench, mut second) = left_on_another_core(elsewhere, |guest, request| {
        assert_eq!(guest.call(&RUN_LEFT), error(Status::Denied), "it went to the other vCPU");
        guest.respond(&request, &[5]);
    });
    assert_eq!(second.request(0x8001, &[]).0[3], 2, "a thread of a Secure OS goes on where it is scheduled");
    assert_eq!(bench.request(0x8001, &[]).0[3], 5);
    assert_eq!(bench.request(0x8002, &[]).0[3], 4);
    assert_eq!(second.request(0x8001, &[]).0[3], 3);
}

#[test]
fn a_callee_that_is_left_behind_survives_its_callers_core() {
    let mut bench = Bench::new(Version::V1_2);
    let config = PartitionConfig { vcpus: 2, normal_world_interrupts: NormalWorldInterrupts::ManagedExit { irq: true }, ..s_el1(0x8001) };
    let caller = bench.add(config, |guest| {
        assert!(guest.call(&[u64::from(function::SECONDARY_EP_REGISTER_64), SECURE_MEMORY]).as_error().is_none());
        let request = guest.wait();
        let answer = guest.call(&RUN_LEFT);
        guest.respond(&request, &[answer.0[3]]);
    });
    bench.script(caller, 1, |guest| {
        let request = guest.wait();
        guest.request(0x8002, &[]);
        guest.respond(&request, &[1]);
    });
    bench.add(s_el1(0x8002), |guest| {
        let request = guest.wait();
        guest.stop(PREEMPTED);
        guest.respond(&request, &[2]);
    });
    bench.boot();
    let mut second = bench.on(1);
    second.core_on();
    assert_eq!(second.request(0x8001, &[]).0[3], 1, "the managed exit");
    assert_eq!(second.core_off(), 0);
    bench.script(caller, 1, |guest| {
        guest.wait();
    });
    second.core_on();
    assert_eq!(bench.request(0x8001, &[]).0[3], 2, "the thread is still there");
}

#[test]
fn another_vcpu_learns_that_the_callee_left_has_failed() {
    let elsewhere = |guest: &mut Guest| {
        let request = guest.wait();
        assert_eq!(guest.call(&RUN_LEFT), error(Status::Aborted));
        guest.respond(&request, &[6]);
    };
    let (mut bench, mut second) = left_on_another_core(elsewhere, |guest, request| {
        guest.respond(&request, &[7]);
    });
    let (partition, _) = bench.spmc.partition(1).expect("there");
    assert!(partition.fail());
    assert_eq!(second.request(0x8001, &[]).0[3], 6);
    assert_eq!(bench.request(0x8001, &[]).0[3], 7);
    assert_eq!(bench.spmc.vcpu(crate::VcpuId { partition: 0, index: 0 }).1.left(), None, "it may leave another one behind");
}

#[test]
fn a_callee_that_is_left_behind_survives_its_caller() {
    let mut bench = Bench::new(Version::V1_2);
    let config = PartitionConfig { normal_world_interrupts: NormalWorldInterrupts::ManagedExit { irq: true }, ..s_el1(0x8001) };
    bench.add(config, |guest| {
        let request = guest.wait();
        guest.request(0x8002, &[]);
        guest.respond(&request, &[1]);
        guest.crash();
    });
    bench.add(s_el1(0x8002), |guest| {
        let request = guest.wait();
        guest.stop(PREEMPTED);
        let request = guest.respond(&request, &[2]);
        guest.respond(&request, &[4]);
    });
    bench.boot();
    assert_eq!(bench.request(0x8001, &[]).0[3], 1);
    assert_eq!(bench.request(0x8001, &[]), error(Status::Aborted));
    assert_eq!(bench.resume(0x8002, 0), error(Status::Aborted), "its answer has nobody to go to");
    assert_eq!(bench.request(0x8002, &[]).0[3], 4);
}

#[test]
fn a_managed_exit_is_asked_for_by_fiq() {
    let mut bench = Bench::new(Version::V1_2);
    let config = PartitionConfig { normal_world_interrupts: NormalWorldInterrupts::ManagedExit { irq: false }, ..s_el1(0x8001) };
    bench.add(config, |guest| {
        let request = guest.wait();
        assert!(!guest.fiq() && !guest.held());
        guest.stop(PREEMPTED);
        assert!(guest.fiq() && !guest.irq() && guest.held());
        let request = guest.respond(&request, &[1]);
        assert!(!guest.fiq() && !guest.held(), "the request to end has ended");
        guest.stop(PREEMPTED);
        assert_eq!(guest.interrupt(), 4);
        assert!(!guest.fiq(), "it was taken");
        guest.respond(&request, &[2]);
    });
    bench.boot();
    assert_eq!(bench.request(0x8001, &[]).0[3], 1);
    assert_eq!(bench.request(0x8001, &[]).0[3], 2);
}

#[test]
fn who_keeps_the_normal_worlds_interrupts_waiting_has_a_time_limit() {
    for action in [NormalWorldInterrupts::Queued, NormalWorldInterrupts::ManagedExit { irq: false }] {
        let mut bench = Bench::new(Version::V1_2);
        bench.add(PartitionConfig { normal_world_interrupts: action, ..s_el1(0x8001) }, |guest| {
            guest.wait();
            guest.stop(PREEMPTED);
            assert!(guest.held());
            guest.bench.world().time_is_up = true;
            guest.stop(Exit::SecureInterrupt);
        });
        bench.boot();
        assert_eq!(bench.request(0x8001, &[]), error(Status::Aborted), "{action:?}");
    }
}

#[test]
fn a_managed_exit_is_asked_for_by_irq_where_the_manifest_says_so() {
    let mut bench = Bench::new(Version::V1_2);
    let config = PartitionConfig { normal_world_interrupts: NormalWorldInterrupts::ManagedExit { irq: true }, ..s_el1(0x8001) };
    bench.add(config, |guest| {
        let request = guest.wait();
        guest.stop(PREEMPTED);
        assert!(guest.irq() && !guest.fiq());
        assert_eq!(guest.interrupt(), 4);
        assert!(!guest.irq());
        guest.respond(&request, &[]);
    });
    bench.boot();
    assert_eq!(bench.request(0x8001, &[]).0[0], RESP);
}

#[test]
fn a_partition_that_was_only_run_is_preempted_even_with_managed_exit() {
    let mut bench = Bench::new(Version::V1_2);
    let config = PartitionConfig { normal_world_interrupts: NormalWorldInterrupts::ManagedExit { irq: false }, ..s_el1(0x8001) };
    bench.add(config, |guest| {
        guest.wait();
        guest.stop(PREEMPTED);
    });
    bench.boot();
    assert_eq!(bench.resume(0x8001, 0), interrupted(0x8001_0000));
    assert_eq!(bench.resume(0x8001, 0), Regs::new(&[u64::from(function::MSG_WAIT)]));
}

#[test]
fn a_callee_that_was_left_at_a_managed_exit_may_wait_while_its_caller_handles_an_interrupt() {
    let mut bench = Bench::new(Version::V1_2);
    let interrupts = arrayvec::ArrayVec::from_iter([40]);
    let config = PartitionConfig { normal_world_interrupts: NormalWorldInterrupts::ManagedExit { irq: false }, interrupts, ..s_el1(0x8001) };
    bench.add(config, |guest| {
        guest.call(&[0xff03, 40, 1]);
        let request = guest.wait();
        assert_eq!(guest.request(0x8002, &[]).function(), function::INTERRUPT);
        let message = guest.respond(&request, &[]);
        assert_eq!(message.function(), function::INTERRUPT);
        guest.interrupt();
        let request = guest.wait();
        let answer = guest.call(&[u64::from(function::RUN), 0x8002_0000]);
        guest.respond(&request, &[answer.0[3]]);
    });
    bench.add(s_el1(0x8002), |guest| {
        let request = guest.wait();
        guest.stop(PREEMPTED);
        guest.respond(&request, &[7]);
    });
    bench.boot();
    assert_eq!(bench.request(0x8001, &[]).function(), function::MSG_SEND_DIRECT_RESP_32);
    bench.assert_at_rest();
    bench.secure_interrupt(40);
    bench.assert_at_rest();
    assert_eq!(bench.request(0x8001, &[]).0[3], 7);
}
