//! Direct messages in all conventions, between the worlds and between partitions.

use super::prelude::*;
use crate::probes::{SELF, ask, begin, describe, finish, results, resume, send, serves};
use crate::cores;
use bulkhead_sdk::ffa::{Regs, Status, Uuid, function};
use bulkhead_sdk::message::{Convention, request, response_payload};
use bulkhead_sdk::call;
use conformance_testkit::registers::pattern;
use conformance_testkit::spin::delay;
use conformance_testkit::{Command, PROBE_EL0, PROBE_EL1, Probe, VICTIM_EL1};

checks! { "messages":
    "15.2" every_payload_register_arrives_and_returns [Ns] ANY "x3 to x7, or x4 to x17, unchanged in both directions";
    "15.2" strange_requests_are_invalid [Ns] ANY "INVALID_PARAMETERS or DENIED";
    "14.2" partition_may_yield_and_is_run_again [Ns] ANY "FFA_YIELD that names the partition, BUSY for others meanwhile";
    "15.3" error_of_a_partition_reaches_its_caller [Ns] ANY "the partition's FFA_ERROR";
    "15.2" partitions_request_from_each_other [SEl1 SEl0] ANY "the other's response";
    "7.3" request_back_into_a_chain_is_refused [SEl1 SEl0] ANY "BUSY or DENIED";
    "15.2" partition_may_not_request_from_the_normal_world [SEl1 SEl0] ANY "DENIED or INVALID_PARAMETERS";
    "15.3" wrong_answers_are_refused [SEl1 SEl0] ANY "an error for each, and the right answer taken";
    "14.3" run_of_nobody_is_invalid [Ns] ANY "INVALID_PARAMETERS";
    "4.7" other_cores_come_up [Ns] ANY "a vCPU of the partition on each core";
    "15.2" one_vcpu_serves_one_core_at_a_time [Ns] ANY "BUSY";
    "8.2" vcpus_serve_cores_at_once [Ns] ANY "each core is served by its own vCPU";
    "4.7" migratable_vcpu_serves_every_core [Ns] ANY "the response, on whatever core";
    "18.2" core_goes_off_and_comes_again [Ns] ANY "the core's vCPU serves again";
}

const BOTH: [Probe; 2] = [PROBE_EL1, PROBE_EL0];

pub fn every_payload_register_arrives_and_returns(_: Instance) -> Outcome {
    let mut count = 0;
    for probe in BOTH {
        let most = if crate::probes::convention(&probe) == Convention::Direct2 { 3 } else { 2 };
        for convention in [Convention::Direct32, Convention::Direct64, Convention::Direct2].into_iter().take(most) {
            let narrow = convention == Convention::Direct32;
            let registers = convention.payload().len();
            let mut payload = [0; 14];
            for (n, word) in payload[..registers].iter_mut().enumerate() {
                *word = if n == 0 { Command::Echo as u64 } else { pattern(convention as u64, n as u64) };
            }
            let reply = send(&probe, convention, &payload[..registers]);
            let Some(echo) = response_payload(convention, &reply) else {
                fail!("{} {convention:?}: {}", probe.name, describe(&reply));
            };
            for (n, (sent, got)) in payload[..registers].iter().zip(echo).enumerate() {
                let expected = if narrow { u64::from(!(*sent as u32)) } else { !sent };
                ensure!(*got == expected, "{} {convention:?}: word {n} is {got:#x}, not {expected:#x}", probe.name);
                count += 1;
            }
            ensure!(reply.0[1] == u64::from(probe.id.0) << 16, "{} {convention:?}: x1 is {:#x}", probe.name, reply.0[1]);
        }
    }
    pass!("{count} registers")
}

fn strange_requests_are_invalid(_: Instance) -> Outcome {
    let good = request(Convention::Direct64, SELF, PROBE_EL1.id, Uuid::NIL, &[Command::Echo as u64]);
    let edit = |n: usize, value: u64| {
        let mut regs = good;
        regs.0[n] = value;
        regs
    };
    let id = u64::from(PROBE_EL1.id.0);
    let strange = [edit(1, 0x8002 << 16 | id), edit(1, id << 16 | id), edit(1, 0x80ee), edit(1, 0), edit(2, 1)];
    for (n, regs) in strange.iter().enumerate() {
        let reply = call(*regs);
        ensure!(matches!(reply.as_error(), Some(Status::InvalidParameters | Status::Denied)), "case {n}: {}", describe(&reply));
    }
    pass!("{} cases", strange.len())
}

fn partition_may_yield_and_is_run_again(_: Instance) -> Outcome {
    for probe in BOTH {
        let mut reply = begin(&probe, Command::Yield, &[3]);
        for n in 0..3 {
            ensure!(reply.function() == function::YIELD, "{} turn {n}: {}", probe.name, describe(&reply));
            ensure!(reply.w(1) >> 16 == u32::from(probe.id.0), "FFA_YIELD names {:#x}", reply.w(1));
            let busy = send(&probe, Convention::Direct64, &[Command::Echo as u64]);
            ensure!(busy.as_error() == Some(Status::Busy), "{}: a second request gives {}", probe.name, describe(&busy));
            reply = resume(&reply);
        }
        let words = results(&probe, &reply);
        ensure!(words.is_some_and(|w| w[0] == 3), "{}: {}", probe.name, describe(&reply));
    }
    pass!("3 times each")
}

fn error_of_a_partition_reaches_its_caller(_: Instance) -> Outcome {
    for probe in BOTH {
        for status in [Status::NoMemory, Status::InvalidParameters, Status::NotSupported] {
            let reply = send(&probe, Convention::Direct64, &[Command::Fail as u64, status.code()]);
            ensure!(reply.as_error() == Some(status), "{}: {} for {status:?}", probe.name, describe(&reply));
        }
        serves(&probe)?;
    }
    pass!("and the partition serves on")
}

pub fn partitions_request_from_each_other(at: Instance) -> Outcome {
    let from = at.partition();
    for to in [at.other(), VICTIM_EL1] {
        let words = ask(&from, Command::Nested, &[u64::from(to.id.0), 0x55])?;
        let response = u64::from(function::MSG_SEND_DIRECT_RESP_64);
        ensure!(words[0] == response && words[3] == !0x55, "{} to {}: {:#x} {:#x} {:#x}", from.name, to.name, words[0], words[1], words[3]);
    }
    pass!("of two partitions")
}

fn request_back_into_a_chain_is_refused(at: Instance) -> Outcome {
    for (head, tail) in [(at.partition(), at.other())] {
        let (from, to) = (u64::from(head.id.0), u64::from(tail.id.0));
        let reply = call_from(&head, &[u64::from(function::MSG_SEND_DIRECT_REQ_64), from << 16 | to, 0, Command::CallBack as u64, from])?;
        ensure!(reply.function() == function::MSG_SEND_DIRECT_RESP_64, "{}: {}", head.name, describe(&reply));
        let back = Regs::new(&[reply.0[3], 0, reply.0[4]]);
        ensure!(matches!(back.as_error(), Some(Status::Busy | Status::Denied)), "{}: {}", head.name, describe(&back));
    }
    pass!("refused")
}

fn partition_may_not_request_from_the_normal_world(at: Instance) -> Outcome {
    for probe in [at.partition()] {
        let reply = call_from(&probe, &[u64::from(function::MSG_SEND_DIRECT_REQ_64), u64::from(probe.id.0) << 16, 0, 1])?;
        ensure!(matches!(reply.as_error(), Some(Status::Denied | Status::InvalidParameters)), "{}: {}", probe.name, describe(&reply));
    }
    pass!("refused")
}

fn wrong_answers_are_refused(at: Instance) -> Outcome {
    let mut total = 0;
    for probe in [at.partition()] {
        let words = ask(&probe, Command::AnswerNonsense, &[])?;
        ensure!(words[0] == words[1], "{}: {} of {} refused, first taken: number {}", probe.name, words[0], words[1], words[2]);
        total += words[1];
        serves(&probe)?;
    }
    pass!("{total} wrong answers")
}

fn run_of_nobody_is_invalid(_: Instance) -> Outcome {
    for target in [0x80ee_0000u64, 0x8002_0001, 0x8001_0040, 0] {
        let reply = call(Regs::new(&[u64::from(function::RUN), target]));
        ensure!(reply.as_error() == Some(Status::InvalidParameters), "{target:#x}: {}", describe(&reply));
    }
    pass!("4 targets")
}

fn other_cores_come_up(_: Instance) -> Outcome {
    let mut count = 0;
    for core in 1..4 {
        ensure!(cores::start(core), "core {core} did not come");
        cores::ask(core, echo_el1, core as u64);
        let result = cores::result(core);
        ensure!(result == Some(core as u64), "core {core}: {result:x?}");
        count += 1;
    }
    pass!("{count} cores, each with its vCPU")
}

/// On another core: asks probe-el1 on which vCPU it runs; u64::MAX: it did not say.
fn echo_el1(_: u64) -> u64 {
    ask(&PROBE_EL1, Command::Places, &[]).map_or(u64::MAX, |words| words[4])
}

/// On another core: computes in probe-el0, as soon as that is free; registers that changed meanwhile.
fn spin_el0(milliseconds: u64) -> u64 {
    loop {
        let reply = finish(begin(&PROBE_EL0, Command::Spin, &[milliseconds, 7]));
        if reply.as_error() != Some(Status::Busy) {
            return results(&PROBE_EL0, &reply).map_or(u64::MAX, |words| words[1]);
        }
    }
}

fn spin_el1(milliseconds: u64) -> u64 {
    ask(&PROBE_EL1, Command::Spin, &[milliseconds, 9]).map_or(u64::MAX, |words| words[1])
}

fn one_vcpu_serves_one_core_at_a_time(_: Instance) -> Outcome {
    ensure!(cores::start(1), "core 1 did not come");
    cores::ask(1, spin_el0, 150);
    let mut reply = send(&PROBE_EL0, Convention::Direct64, &[Command::Echo as u64]);
    while reply.as_error().is_none() && cores::is_at_work(1) {
        reply = send(&PROBE_EL0, Convention::Direct64, &[Command::Echo as u64]);
    }
    let result = cores::result(1);
    ensure!(reply.as_error() == Some(Status::Busy), "{}", describe(&reply));
    ensure!(result == Some(0), "the other core's request: {result:x?}");
    serves(&PROBE_EL0)?;
    pass!("BUSY meanwhile")
}

fn vcpus_serve_cores_at_once(_: Instance) -> Outcome {
    ensure!(cores::start(1) && cores::start(2), "no more cores");
    cores::ask(1, spin_el1, 100);
    cores::ask(2, spin_el1, 100);
    delay(20);
    let here = ask(&PROBE_EL1, Command::Places, &[]);
    let (first, second) = (cores::result(1), cores::result(2));
    let here = here?;
    ensure!(here[4] == 0, "core 0 was served by vCPU {}", here[4]);
    ensure!(first == Some(0) && second == Some(0), "{first:x?} {second:x?}");
    pass!("3 cores")
}

fn echo_el0(word: u64) -> u64 {
    ask(&PROBE_EL0, Command::Echo, &[word]).map_or(0, |words| words[1])
}

fn migratable_vcpu_serves_every_core(_: Instance) -> Outcome {
    for turn in 0..8u64 {
        let core = 1 + turn as usize % 3;
        ensure!(cores::start(core), "core {core} did not come");
        cores::ask(core, echo_el0, turn);
        let result = cores::result(core);
        ensure!(result == Some(!turn), "core {core}: {result:x?}");
        serves(&PROBE_EL0)?;
    }
    pass!("8 moves")
}

fn core_goes_off_and_comes_again(_: Instance) -> Outcome {
    ensure!(cores::start(3), "core 3 did not come");
    for turn in 0..2 {
        ensure!(cores::stop(3), "turn {turn}: core 3 did not go");
        ensure!(cores::start(3), "turn {turn}: core 3 did not come again");
        cores::ask(3, echo_el1, 0);
        let result = cores::result(3);
        ensure!(result == Some(3), "turn {turn}: {result:x?}");
    }
    pass!("twice")
}

