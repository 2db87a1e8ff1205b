//! A secure device's interrupt: it reaches its partition wherever it fires.

use super::prelude::*;
use crate::probes::{ask, serves};
use crate::{cores, gic};
use conformance_testkit::spin::delay;
use conformance_testkit::{Command, PROBE_EL1};

checks! { "interrupts":
    "9.4" secure_interrupt_reaches_its_partition_while_it_runs [SEl1] ANY "the partition takes it";
    "9.4" secure_interrupt_reaches_its_partition_from_the_normal_world [Ns] ANY "the partition takes it, and the normal world goes on";
    "9.1" partition_does_not_silence_the_interrupts_of_others [SEl1] ANY "interrupts of both worlds still come";
}

fn secure_interrupt_reaches_its_partition_while_it_runs(_: Instance) -> Outcome {
    let listening = ask(&PROBE_EL1, Command::ListenUart, &[])?;
    ensure!(listening[0] == 1, "the interrupt was refused");
    for turn in 0..3 {
        let before = ask(&PROBE_EL1, Command::Interrupts, &[])?[0];
        ask(&PROBE_EL1, Command::TouchUart, &[])?;
        let after = ask(&PROBE_EL1, Command::Interrupts, &[])?[0];
        ensure!(after > before, "turn {turn}: taken {before} times before, {after} times after");
    }
    pass!("3 times")
}

fn listen_el1(_: u64) -> u64 {
    ask(&PROBE_EL1, Command::ListenUart, &[]).map_or(0, |words| words[0])
}

fn taken_el1(_: u64) -> u64 {
    ask(&PROBE_EL1, Command::Interrupts, &[]).map_or(u64::MAX, |words| words[0])
}

/// Stays in the normal world, by the clock.
fn stay(milliseconds: u64) -> u64 {
    delay(milliseconds);
    1
}

fn on_core_1(job: cores::Job, argument: u64) -> Option<u64> {
    cores::ask(1, job, argument);
    cores::result(1)
}

fn secure_interrupt_reaches_its_partition_from_the_normal_world(_: Instance) -> Outcome {
    ensure!(cores::start(1), "core 1 did not come");
    // The interrupt goes to the core that enabled it last; the UART is touched by another.
    ensure!(on_core_1(listen_el1, 0) == Some(1), "the interrupt was refused");
    let before = on_core_1(taken_el1, 0);
    cores::ask(1, stay, 100);
    delay(10);
    ask(&PROBE_EL1, Command::TouchUart, &[])?;
    let stayed = cores::result(1);
    let after = on_core_1(taken_el1, 0);
    let here = ask(&PROBE_EL1, Command::Interrupts, &[])?[0];
    ensure!(stayed == Some(1), "core 1 did not go on");
    let more = before.zip(after).is_some_and(|(before, after)| after > before && after != u64::MAX);
    ensure!(more, "taken {before:?} times before, {after:?} times after; by core 0 {here} times");
    serves(&PROBE_EL1)?;
    pass!("core 1 was in the normal world")
}

fn partition_does_not_silence_the_interrupts_of_others(at: Instance) -> Outcome {
    ask(&PROBE_EL1, Command::SilenceInterrupts, &[])?;
    let before = gic::timer_interrupts();
    gic::start_timer(500);
    // As long as it takes on a busy machine.
    for _ in 0..300 {
        if gic::timer_interrupts() > before {
            break;
        }
        delay(10);
    }
    gic::stop_timer();
    ensure!(gic::timer_interrupts() > before, "the normal world's timer is silent");
    secure_interrupt_reaches_its_partition_while_it_runs(at)?;
    pass!("neither the normal world's timer nor a secure interrupt")
}
