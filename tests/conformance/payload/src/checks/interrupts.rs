//! A secure device's interrupt: it reaches its partition wherever it fires.

use super::prelude::*;
use crate::probes::{ask, serves};
use crate::{cores, gic};
use conformance_testkit::spin::delay;
use crate::cores::MAX;
use bulkhead_sdk::Line;
use bulkhead_sdk::ffa::function;
use conformance_testkit::spin::ticks;
use conformance_testkit::{Command, Drive, PROBE_EL1, VICTIM_EL1};

checks! { "interrupts":
    "9.4" secure_interrupt_reaches_its_partition_while_it_runs [SEl1] ANY "the partition takes it";
    "9.4" secure_interrupt_reaches_its_partition_from_the_normal_world [Ns] ANY "the partition takes it, and the normal world goes on";
    "9.4" timer_reaches_its_partition_while_it_runs [SEl1] ANY "both timers' interrupts are taken";
    "9.4" timer_reaches_its_partition_from_the_normal_world [SEl1] ANY "the partition takes it while the normal world has the core";
    "9.4" timer_reaches_its_partition_while_another_runs [SEl1] ANY "the partition takes it before the other one ends";
    "9.4" interrupt_of_a_blocked_partition_interrupts_its_request [SEl1] ANY "FFA_INTERRUPT; FFA_RUN of the callee goes on to its response";
    "9.4" interrupt_waits_while_irqs_are_masked [SEl1] ANY "taken once they are unmasked";
    "9.4" vcpu_interrupts_another [SEl1] ANY "taken while the other runs, and while it waits";
    "9.1" interrupts_of_others_cannot_be_configured [SEl1] ANY "every call is refused";
    "9.1" interrupt_can_be_disabled_and_enabled [SEl1] ANY "none while it is disabled";
    "9.1" interrupt_goes_to_the_core_that_is_chosen [SEl1] ANY "taken by the vCPU of that core";
    "9.1" partition_does_not_silence_the_interrupts_of_others [SEl1] ANY "interrupts of both worlds still come";
}

/// Paravirtual calls of an interrupt driver: identifiers and interrupts that the SPMC makes itself.
const ENABLE: u64 = 0xff03;
const DEACTIVATE: u64 = 0xff08;
const RECONFIGURE: u64 = 0xff09;
const SEND_IPI: u64 = 0xff0a;
const PHYSICAL_TIMER: u64 = 3;
const INTER_PROCESSOR: u64 = 9;
const UART: u64 = 40;
/// The timers: which, and their interrupts.
const TIMERS: [(u64, u64); 3] = [(0, 27), (1, 30), (1, PHYSICAL_TIMER)];
/// Milliseconds that something is waited for on a busy machine.
const PATIENCE: u64 = 10_000;

/// An operation of an interrupt driver.
pub fn drive(arguments: &[u64]) -> Result<[u64; 14], Line> {
    ask(&PROBE_EL1, Command::Drive, arguments)
}

/// A paravirtual call: x0.
fn paravirtual(arguments: &[u64]) -> Result<u64, Line> {
    Ok(ask(&PROBE_EL1, Command::Call, arguments)?[0])
}

/// Enables an interrupt, and lets the partition take it; an SPMC without these calls is left alone.
pub fn enable(interrupt: u64) -> Result<(), Problem> {
    if paravirtual(&[ENABLE, interrupt, 1, 0])? != 0 {
        skip!("the SPMC has no paravirtual call that enables interrupt {interrupt}");
    }
    drive(&[Drive::ADMIT, 1])?;
    Ok(())
}

/// Takes that back.
pub fn disable(interrupt: u64) -> Result<(), Line> {
    paravirtual(&[ENABLE, interrupt, 0, 0])?;
    Ok(())
}

fn timer_reaches_its_partition_while_it_runs(_: Instance) -> Outcome {
    for (which, interrupt) in TIMERS {
        enable(interrupt)?;
        let before = drive(&[Drive::TAKEN])?[0];
        drive(&[Drive::TIMER, which, 5, PATIENCE])?;
        let after = drive(&[Drive::TAKEN])?;
        disable(interrupt)?;
        expect!((after[0] - before, after[1]), (1, interrupt), "interrupts and the last one");
    }
    pass!("27, 30 and 3")
}

/// Sets the partition's timer and stays away from the partition until it must have fired; when it was taken, and until when
/// this program was away, by the virtual counter.
fn timer_meanwhile(which: u64, interrupt: u64, meanwhile: impl Fn(u64) -> Result<(), Line>) -> Result<(u64, u64), Problem> {
    enable(interrupt)?;
    let mut last = (u64::MAX, 0);
    // The emulator's timers come late when the machine is busy.
    for milliseconds in [100, 1000, PATIENCE] {
        let before = drive(&[Drive::TAKEN])?[0];
        drive(&[Drive::TIMER, which, 20, 0])?;
        meanwhile(milliseconds)?;
        let until = ticks();
        let after = drive(&[Drive::TAKEN])?;
        ensure!(after[0] > before && after[1] == interrupt, "interrupt {interrupt} was not taken: {before} before, {} after, last {}", after[0], after[1]);
        last = (after[2], until);
        if last.0 < last.1 {
            break;
        }
    }
    disable(interrupt)?;
    Ok(last)
}

fn timer_reaches_its_partition_from_the_normal_world(_: Instance) -> Outcome {
    for (which, interrupt) in TIMERS {
        let stay = |milliseconds| {
            delay(milliseconds);
            Ok(())
        };
        let (taken, until) = timer_meanwhile(which, interrupt, stay)?;
        ensure!(taken < until, "interrupt {interrupt} was taken only when the partition was asked");
    }
    pass!("27, 30 and 3")
}

fn timer_reaches_its_partition_while_another_runs(_: Instance) -> Outcome {
    let run_other = |milliseconds| ask(&VICTIM_EL1, Command::Spin, &[milliseconds, 3]).map(|_| ());
    let (taken, until) = timer_meanwhile(0, 27, run_other)?;
    ensure!(taken < until, "it was taken only when its partition was asked");
    pass!("while {} ran", VICTIM_EL1.name)
}

fn interrupt_of_a_blocked_partition_interrupts_its_request(_: Instance) -> Outcome {
    enable(27)?;
    let mut seen = [0; 14];
    for milliseconds in [100, 1000, PATIENCE] {
        drive(&[Drive::TIMER, 0, 20, 0])?;
        seen = drive(&[Drive::FORWARD, u64::from(VICTIM_EL1.id.0), milliseconds])?;
        if seen[2] != 0 {
            break;
        }
    }
    disable(27)?;
    ensure!(seen[0] >= 1, "the request was not interrupted, and {} interrupts were taken", seen[2]);
    expect!((seen[1], seen[2]), (u64::from(function::MSG_SEND_DIRECT_RESP_64), 1), "function of the answer, interrupts taken");
    ensure!(seen[3] > 0, "the callee made no turn");
    pass!("interrupted {} times, then the answer", seen[0])
}

fn interrupt_waits_while_irqs_are_masked(_: Instance) -> Outcome {
    enable(27)?;
    drive(&[Drive::ADMIT, 0])?;
    let before = drive(&[Drive::TAKEN])?[0];
    drive(&[Drive::TIMER, 0, 1, 50])?;
    delay(50);
    let masked = drive(&[Drive::TAKEN])?[0];
    drive(&[Drive::ADMIT, 1])?;
    drive(&[Drive::COMPUTE, 0])?;
    let after = drive(&[Drive::TAKEN])?;
    disable(27)?;
    expect!((masked - before, after[0] - before, after[1]), (0, 1, 27), "taken while masked, taken, the last one");
    pass!("once")
}

fn enable_here(interrupt: u64) -> u64 {
    u64::from(enable(interrupt).is_ok())
}

fn taken_here(_: u64) -> u64 {
    drive(&[Drive::TAKEN]).map_or(u64::MAX, |words| words[0])
}

fn taken_at(_: u64) -> u64 {
    drive(&[Drive::TAKEN]).map_or(u64::MAX, |words| if words[1] == INTER_PROCESSOR { words[2] } else { u64::MAX })
}

fn compute_here(milliseconds: u64) -> u64 {
    drive(&[Drive::COMPUTE, milliseconds]).map_or(0, |words| words[0])
}

fn vcpu_interrupts_another(_: Instance) -> Outcome {
    ensure!(cores::start(1), "core 1 did not come");
    if on_core_1(enable_here, INTER_PROCESSOR) != Some(1) {
        skip!("the SPMC has no paravirtual call that enables interrupt {INTER_PROCESSOR}");
    }
    for target in [MAX as u64, u64::from(u32::MAX)] {
        ensure!(paravirtual(&[SEND_IPI, target])? as u32 == u32::MAX, "vCPU {target} does not exist, and was accepted");
    }
    // While it runs: it computes until it is interrupted.
    let before = on_core_1(taken_here, 0);
    cores::ask(1, compute_here, PATIENCE);
    delay(20);
    ensure!(paravirtual(&[SEND_IPI, 1])? == 0, "vCPU 1 was refused");
    ensure!(cores::result(1) == Some(1), "core 1 did not go on");
    let after = on_core_1(taken_here, 0);
    ensure!(before.zip(after).is_some_and(|(before, after)| after == before + 1), "taken {before:?} times before, {after:?} times after, while it ran");
    // While it waits: it takes it before it is asked for anything, or when it is given cycles.
    ensure!(paravirtual(&[SEND_IPI, 1])? == 0, "vCPU 1 was refused");
    let again = on_core_1(taken_here, 0);
    ensure!(after.zip(again).is_some_and(|(before, after)| after == before + 1), "taken {after:?} times before, {again:?} times after, while it waited");
    ensure!(on_core_1(taken_at, 0) != Some(u64::MAX), "the last interrupt was another one");
    pass!("both")
}

fn interrupts_of_others_cannot_be_configured(_: Instance) -> Outcome {
    const NOBODYS: u64 = 50;
    for call in [[DEACTIVATE, NOBODYS, NOBODYS, 0], [RECONFIGURE, NOBODYS, 0, 0], [RECONFIGURE, NOBODYS, 1, 1], [RECONFIGURE, NOBODYS, 2, 1]] {
        let answer = paravirtual(&call)?;
        ensure!(answer as u32 == u32::MAX, "{:#x} with interrupt {NOBODYS}, command {}: {answer:#x}", call[0], call[2]);
    }
    for (command, value) in [(0, 64), (1, 2), (2, 2), (3, 0)] {
        let answer = paravirtual(&[RECONFIGURE, UART, command, value])?;
        ensure!(answer as u32 == u32::MAX, "command {command} with value {value}: {answer:#x}");
    }
    pass!("4 calls, and 4 wrong values")
}

fn interrupt_can_be_disabled_and_enabled(_: Instance) -> Outcome {
    enable(UART)?;
    ask(&PROBE_EL1, Command::ListenUart, &[])?;
    if paravirtual(&[RECONFIGURE, UART, 2, 0])? != 0 {
        skip!("the SPMC has no paravirtual call that disables an interrupt");
    }
    let before = ask(&PROBE_EL1, Command::Interrupts, &[])?[0];
    ask(&PROBE_EL1, Command::TouchUart, &[])?;
    delay(50);
    let disabled = ask(&PROBE_EL1, Command::Interrupts, &[])?[0];
    expect!(paravirtual(&[RECONFIGURE, UART, 2, 1])?, 0, "enabled again");
    ask(&PROBE_EL1, Command::TouchUart, &[])?;
    let after = ask(&PROBE_EL1, Command::Interrupts, &[])?[0];
    ensure!(disabled == before && after > disabled, "taken {before} times before, {disabled} while it was disabled, {after} after");
    pass!("{} after", after - disabled)
}

fn interrupt_goes_to_the_core_that_is_chosen(_: Instance) -> Outcome {
    ensure!(cores::start(1), "core 1 did not come");
    ensure!(on_core_1(listen_el1, 0) == Some(1), "the interrupt was refused");
    ask(&PROBE_EL1, Command::ListenUart, &[])?;
    if paravirtual(&[RECONFIGURE, UART, 0, 1])? != 0 {
        skip!("the SPMC has no paravirtual call that sends an interrupt to a core");
    }
    let mut counts = [(0, 0); 3];
    for (turn, count) in counts.iter_mut().enumerate() {
        if turn == 2 {
            expect!(paravirtual(&[RECONFIGURE, UART, 0, 0])?, 0, "back to core 0");
        }
        if turn > 0 {
            ask(&PROBE_EL1, Command::TouchUart, &[20])?;
        }
        *count = (ask(&PROBE_EL1, Command::Interrupts, &[])?[0], on_core_1(taken_el1, 0).unwrap_or(u64::MAX));
    }
    let [before, there, here] = counts;
    ensure!(there.0 == before.0 && there.1 > before.1, "sent to core 1: {before:?} before, {there:?} after, on cores 0 and 1");
    ensure!(here.0 > there.0 && here.1 == there.1, "sent to core 0: {there:?} before, {here:?} after, on cores 0 and 1");
    pass!("core 1, then core 0")
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
