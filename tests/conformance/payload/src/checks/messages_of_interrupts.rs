//! Secure interrupts of a partition at S-EL0, which is told of them by FFA_INTERRUPT, and of one whose neighbour holds them back.

use super::interrupts::{disable, drive, enable};
use super::prelude::*;
use crate::cores;
use crate::probes::ask;
use bulkhead_sdk::ffa::function;
use conformance_testkit::spin::{delay, ticks, ticks_per_millisecond};
use conformance_testkit::{Command, Drive, PROBE_EL0, PROBE_EL1, VICTIM_EL1};

checks! { "interrupt-messages":
    "9.4" interrupt_interrupts_another_partition_for_its_waiting_owner [SEl0] ANY "FFA_INTERRUPT with the interrupt in w2, before the other one ends";
    "9.4" interrupt_reaches_its_waiting_owner_from_the_normal_world [SEl0] ANY "FFA_INTERRUPT while the normal world has the core";
    "9.4" interrupt_waits_for_the_end_of_the_owners_request [SEl0] ANY "FFA_INTERRUPT after the response";
    "9.4" interrupt_waits_for_the_answer_to_the_owners_request [SEl0] ANY "the response first, FFA_INTERRUPT later";
    "9.4" interrupt_that_is_not_deactivated_comes_again [SEl0] ANY "each time that it is raised";
    "9.4" partition_holds_the_interrupts_of_others_back [SEl1] ANY "taken after the other one has ended";
}

const UART: u64 = 40;

/// How often the owner was told, by which interrupt last, and when.
fn told() -> Result<(u64, u64, u64), Problem> {
    let words = ask(&PROBE_EL0, Command::Drive, &[Drive::TAKEN])?;
    Ok((words[0], words[1], words[2]))
}

fn listen() -> Result<u64, Problem> {
    ask(&PROBE_EL0, Command::ListenUart, &[])?;
    Ok(told()?.0)
}

fn interrupt_interrupts_another_partition_for_its_waiting_owner(_: Instance) -> Outcome {
    let before = listen()?;
    ask(&PROBE_EL1, Command::TouchUart, &[20])?;
    let until = ticks();
    let after = told()?;
    expect!((after.0 - before, after.1), (1, UART), "messages, and the interrupt of the last");
    ensure!(after.2 < until, "it was told only when it was asked");
    pass!("once")
}

fn touch_uart(_: u64) -> u64 {
    ask(&PROBE_EL1, Command::TouchUart, &[]).map_or(0, |words| words[0])
}

fn interrupt_reaches_its_waiting_owner_from_the_normal_world(_: Instance) -> Outcome {
    ensure!(cores::start(1), "core 1 did not come");
    let before = listen()?;
    // By a vCPU on another core, while this one is here.
    cores::ask(1, touch_uart, 0);
    ensure!(cores::result(1) == Some(1), "the UART was not touched");
    delay(20);
    let until = ticks();
    let after = told()?;
    expect!((after.0 - before, after.1), (1, UART), "messages, and the interrupt of the last");
    ensure!(after.2 < until, "it was told only when it was asked");
    pass!("once")
}

fn interrupt_waits_for_the_end_of_the_owners_request(_: Instance) -> Outcome {
    let before = listen()?;
    let meanwhile = ask(&PROBE_EL0, Command::TouchUart, &[20])?;
    let after = told()?;
    expect!((meanwhile[0], after.0 - before, after.1), (1, 1, UART), "the request was served, messages, and the interrupt of the last");
    pass!("once, after the response")
}

fn interrupt_waits_for_the_answer_to_the_owners_request(_: Instance) -> Outcome {
    let before = listen()?;
    let (own, other) = (u64::from(PROBE_EL0.id.0), u64::from(PROBE_EL1.id.0));
    let request = [u64::from(function::MSG_SEND_DIRECT_REQ_64), own << 16 | other, 0, Command::TouchUart as u64, 20];
    let reply = ask(&PROBE_EL0, Command::Call, &request)?;
    expect!(reply[0], u64::from(function::MSG_SEND_DIRECT_RESP_64), "what the blocked partition got");
    let after = told()?;
    expect!((after.0 - before, after.1), (1, UART), "messages, and the interrupt of the last");
    pass!("once")
}

fn interrupt_that_is_not_deactivated_comes_again(_: Instance) -> Outcome {
    let before = listen()?;
    for _ in 0..3 {
        ask(&PROBE_EL1, Command::TouchUart, &[20])?;
    }
    expect!(told()?.0 - before, 3, "messages");
    pass!("3 times")
}

fn partition_holds_the_interrupts_of_others_back(_: Instance) -> Outcome {
    const SPIN: u64 = 200;
    enable(27)?;
    for _ in 0..20 {
        let before = drive(&[Drive::TAKEN])?[0];
        drive(&[Drive::TIMER, 0, 20, 0])?;
        let start = ticks();
        ask(&VICTIM_EL1, Command::Spin, &[SPIN, 3])?;
        drive(&[Drive::COMPUTE, 0])?;
        let after = drive(&[Drive::TAKEN])?;
        expect!((after[0] - before, after[1]), (1, 27), "interrupts and the last one");
        if after[2] < start {
            // A busy host stood still between the two, and the timer was due before the other partition ran.
            continue;
        }
        disable(27)?;
        let end = start + SPIN * ticks_per_millisecond();
        ensure!(after[2] >= end, "it was taken {} ms before the other one could end", (end - after[2]) / ticks_per_millisecond());
        return pass!("afterwards");
    }
    disable(27)?;
    fail!("the timer was due before the other partition ran, each time")
}
