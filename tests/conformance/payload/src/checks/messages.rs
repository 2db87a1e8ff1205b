//! Direct messages in all conventions, between the worlds and between partitions.

use super::checks;
use crate::check::Outcome;
use crate::probes::{SELF, ask, describe, finish, resume, send, serves};
use crate::{cores, ensure, pass};
use bulkhead_sdk::ffa::{Regs, Status, Uuid, function};
use bulkhead_sdk::message::{Convention, request, response_payload};
use bulkhead_sdk::{Line, call};
use bulkhead_testkit::registers::pattern;
use bulkhead_testkit::spin::delay;
use bulkhead_testkit::{Command, PROBE_EL0, PROBE_EL1, Probe, VICTIM_EL1};

checks! { "messages":
    every_payload_register_arrives_and_returns,
    strange_requests_are_invalid,
    partition_may_yield_and_is_run_again,
    error_of_a_partition_reaches_its_caller,
    partitions_request_from_each_other,
    request_back_into_a_chain_is_refused,
    partition_may_not_request_from_the_normal_world,
    wrong_answers_are_refused,
    run_of_nobody_is_invalid,
    other_cores_come_up,
    one_vcpu_serves_one_core_at_a_time,
    vcpus_serve_cores_at_once,
    migratable_vcpu_serves_every_core,
    core_goes_off_and_comes_again,
}

const BOTH: [Probe; 2] = [PROBE_EL1, PROBE_EL0];

fn every_payload_register_arrives_and_returns() -> Outcome {
    let mut count = 0;
    for probe in BOTH {
        for convention in [Convention::Direct32, Convention::Direct64, Convention::Direct2] {
            let narrow = convention == Convention::Direct32;
            let registers = convention.payload().len();
            let mut payload = [0; 14];
            for (n, word) in payload[..registers].iter_mut().enumerate() {
                *word = if n == 0 { Command::Echo as u64 } else { pattern(convention as u64, n as u64) };
            }
            let reply = send(&probe, convention, &payload[..registers]);
            let Some(echo) = response_payload(convention, &reply) else {
                return Err(Line::new(format_args!("{} {convention:?}: {}", probe.name, describe(&reply))));
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

fn strange_requests_are_invalid() -> Outcome {
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

fn partition_may_yield_and_is_run_again() -> Outcome {
    for probe in BOTH {
        let mut reply = send(&probe, Convention::Direct2, &[Command::Yield as u64, 3]);
        for n in 0..3 {
            ensure!(reply.function() == function::YIELD, "{} turn {n}: {}", probe.name, describe(&reply));
            ensure!(reply.w(1) >> 16 == u32::from(probe.id.0), "FFA_YIELD names {:#x}", reply.w(1));
            let busy = send(&probe, Convention::Direct64, &[Command::Echo as u64]);
            ensure!(busy.as_error() == Some(Status::Busy), "{}: a second request gives {}", probe.name, describe(&busy));
            reply = resume(&reply);
        }
        let words = response_payload(Convention::Direct2, &reply);
        ensure!(words.is_some_and(|w| w[0] == 3), "{}: {}", probe.name, describe(&reply));
    }
    pass!("3 times each")
}

fn error_of_a_partition_reaches_its_caller() -> Outcome {
    for probe in BOTH {
        for status in [Status::NoMemory, Status::InvalidParameters, Status::NotSupported] {
            let reply = send(&probe, Convention::Direct64, &[Command::Fail as u64, status.code()]);
            ensure!(reply.as_error() == Some(status), "{}: {} for {status:?}", probe.name, describe(&reply));
        }
        serves(&probe)?;
    }
    pass!("and the partition serves on")
}

fn partitions_request_from_each_other() -> Outcome {
    for (from, to) in [(PROBE_EL1, PROBE_EL0), (PROBE_EL0, PROBE_EL1), (PROBE_EL1, VICTIM_EL1), (PROBE_EL0, VICTIM_EL1)] {
        let words = ask(&from, Command::Nested, &[u64::from(to.id.0), 0x55])?;
        let response = u64::from(function::MSG_SEND_DIRECT_RESP_64);
        ensure!(words[0] == response && words[3] == !0x55, "{} to {}: {:#x} {:#x} {:#x}", from.name, to.name, words[0], words[1], words[3]);
    }
    pass!("4 pairs")
}

/// What a partition's own call answered: x0 to x13.
pub fn call_from(probe: &Probe, regs: &[u64]) -> Result<Regs, Line> {
    let mut arguments = [0; 9];
    arguments[..regs.len()].copy_from_slice(regs);
    Ok(Regs::new(&ask(probe, Command::Call, &arguments)?))
}

fn request_back_into_a_chain_is_refused() -> Outcome {
    for (head, tail) in [(PROBE_EL1, PROBE_EL0), (PROBE_EL0, PROBE_EL1)] {
        let (from, to) = (u64::from(head.id.0), u64::from(tail.id.0));
        let reply = call_from(&head, &[u64::from(function::MSG_SEND_DIRECT_REQ_64), from << 16 | to, 0, Command::CallBack as u64, from])?;
        ensure!(reply.function() == function::MSG_SEND_DIRECT_RESP_64, "{}: {}", head.name, describe(&reply));
        let back = Regs::new(&[reply.0[3], 0, reply.0[4]]);
        ensure!(matches!(back.as_error(), Some(Status::Busy | Status::Denied)), "{}: {}", head.name, describe(&back));
    }
    pass!("both ways round")
}

fn partition_may_not_request_from_the_normal_world() -> Outcome {
    for probe in BOTH {
        let reply = call_from(&probe, &[u64::from(function::MSG_SEND_DIRECT_REQ_64), u64::from(probe.id.0) << 16, 0, 1])?;
        ensure!(matches!(reply.as_error(), Some(Status::Denied | Status::InvalidParameters)), "{}: {}", probe.name, describe(&reply));
    }
    pass!("refused")
}

fn wrong_answers_are_refused() -> Outcome {
    let mut total = 0;
    for probe in BOTH {
        let words = ask(&probe, Command::AnswerNonsense, &[])?;
        ensure!(words[0] == words[1], "{}: {} of {} refused, first taken: number {}", probe.name, words[0], words[1], words[2]);
        total += words[1];
        serves(&probe)?;
    }
    pass!("{total} wrong answers")
}

fn run_of_nobody_is_invalid() -> Outcome {
    for target in [0x80ee_0000u64, 0x8002_0001, 0x8001_0040, 0] {
        let reply = call(Regs::new(&[u64::from(function::RUN), target]));
        ensure!(reply.as_error() == Some(Status::InvalidParameters), "{target:#x}: {}", describe(&reply));
    }
    pass!("4 targets")
}

fn other_cores_come_up() -> Outcome {
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
        let reply = finish(send(&PROBE_EL0, Convention::Direct2, &[Command::Spin as u64, milliseconds, 7]));
        if reply.as_error() != Some(Status::Busy) {
            return response_payload(Convention::Direct2, &reply).map_or(u64::MAX, |words| words[1]);
        }
    }
}

fn spin_el1(milliseconds: u64) -> u64 {
    ask(&PROBE_EL1, Command::Spin, &[milliseconds, 9]).map_or(u64::MAX, |words| words[1])
}

fn one_vcpu_serves_one_core_at_a_time() -> Outcome {
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

fn vcpus_serve_cores_at_once() -> Outcome {
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

fn migratable_vcpu_serves_every_core() -> Outcome {
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

fn core_goes_off_and_comes_again() -> Outcome {
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

