//! A partition that drives a GICv3 by itself: its interface by ICC_* registers, and its distributor.

use super::interrupts::drive;
use super::prelude::*;
use crate::cores;
use crate::probes::ask;
use conformance_testkit::spin::{delay, ticks};
use conformance_testkit::{Command, Drive, PROBE_EL1, VICTIM_EL1};

checks! { "interface":
    "8.1" distributor_shows_the_partition_its_own_interrupts [SEl1] ANY "GICv3; its own interrupts can be enabled, others not";
    "8.1" interface_registers_keep_what_is_written [SEl1] ANY "ICC_PMR_EL1, ICC_CTLR_EL1, ICC_IGRPEN1_EL1";
    "9.4" device_interrupt_is_acknowledged_by_the_interface [SEl1] ANY "taken once each time it is raised";
    "9.4" device_interrupt_comes_while_the_normal_world_runs [SEl1] ANY "taken before the partition is asked";
    "9.4" device_interrupt_comes_while_another_partition_runs [SEl1] ANY "taken before the other one ends";
    "9.4" timers_interrupt_a_driver_of_the_interface [SEl1] ANY "27 and 30";
    "9.4" priority_mask_holds_interrupts_back [SEl1] ANY "none while masked, then one";
    "9.4" deactivation_may_be_separate [SEl1] ANY "with EOImode, too";
    "9.4" software_interrupt_reaches_the_vcpu_itself [SEl1] ANY "taken at once";
    "9.4" software_interrupt_reaches_another_vcpu [SEl1] ANY "taken on another core";
}

const DISTRIBUTOR: u64 = 0x0800_0000;
const REDISTRIBUTOR: u64 = 0x080a_0000;
const SGI_FRAME: u64 = 0x1_0000;
const ENABLE_SET: u64 = 0x100;
const ENABLE_CLEAR: u64 = 0x180;
const PRIORITY: u64 = 0x400;
const UART: u64 = 40;
const PATIENCE: u64 = 10_000;
/// Numbers of [`Drive::READ`].
const MASK: u64 = 0;
const RUNNING: u64 = 1;
const CONTROL: u64 = 4;
const GROUP: u64 = 5;

fn word(address: u64, write: Option<u64>) -> Result<u64, Problem> {
    let got = drive(&[Drive::WORD, address, u64::from(write.is_some()), write.unwrap_or(0)])?;
    ensure!(got[0] == 1, "the partition has no access to {address:#x}");
    Ok(got[1])
}

/// As a driver starts on the vCPU of core `core`.
fn start_on(core: u64, control: u64) -> Result<(), Problem> {
    let frame = REDISTRIBUTOR + core * 0x2_0000 + SGI_FRAME;
    word(frame + ENABLE_SET, Some(1 << 27 | 1 << 30 | 1 << 10))?;
    for interrupt in [8, 24, 28] {
        word(frame + PRIORITY + interrupt, Some(0x4040_4040))?;
    }
    let system_registers = drive(&[Drive::BY_INTERFACE, control])?[0];
    ensure!(system_registers & 1 == 1, "ICC_SRE_EL1 is {system_registers:#x}");
    Ok(())
}

fn start() -> Result<(), Problem> {
    start_on(0, 0)?;
    ask(&PROBE_EL1, Command::ListenUart, &[])?;
    word(DISTRIBUTOR + PRIORITY + UART, Some(0x40))?;
    word(DISTRIBUTOR + ENABLE_SET + 4, Some(1 << (UART - 32)))?;
    Ok(())
}

fn taken() -> Result<(u64, u64, u64), Problem> {
    let words = drive(&[Drive::TAKEN])?;
    Ok((words[0], words[1], words[2]))
}

fn distributor_shows_the_partition_its_own_interrupts(_: Instance) -> Outcome {
    let revision = word(DISTRIBUTOR + 0xffe8, None)? >> 4 & 0xf;
    expect!(revision, 3, "revision");
    ensure!(word(REDISTRIBUTOR + 0x14, None)? & 4 == 0, "the redistributor sleeps");
    word(DISTRIBUTOR + ENABLE_CLEAR + 4, Some(u64::from(u32::MAX)))?;
    expect!(word(DISTRIBUTOR + ENABLE_SET + 4, None)?, 0, "disabled");
    word(DISTRIBUTOR + ENABLE_SET + 4, Some(u64::from(u32::MAX)))?;
    let enabled = word(DISTRIBUTOR + ENABLE_SET + 4, None)?;
    expect!(enabled, 1 << (UART - 32), "enabled of 32 to 63");
    expect!(word(DISTRIBUTOR + ENABLE_SET + 8, Some(u64::from(u32::MAX)))?, 0, "enabled of 64 to 95");
    pass!("its one of 64")
}

fn interface_registers_keep_what_is_written(_: Instance) -> Outcome {
    start()?;
    for mask in [0xf8, 0x80, 0] {
        drive(&[Drive::MASK, mask])?;
        expect!(drive(&[Drive::READ, MASK])?[0], mask, "ICC_PMR_EL1");
    }
    drive(&[Drive::MASK, 0xff])?;
    for control in [2, 0] {
        drive(&[Drive::BY_INTERFACE, control])?;
        expect!(drive(&[Drive::READ, CONTROL])?[0] & 3, control, "ICC_CTLR_EL1");
    }
    expect!(drive(&[Drive::READ, GROUP])?[0], 1, "ICC_IGRPEN1_EL1");
    expect!(drive(&[Drive::READ, RUNNING])?[0], 0xff, "ICC_RPR_EL1");
    pass!("as written")
}

/// Has the UART raise its interrupt so often.
fn touch(times: u64) -> Outcome {
    for turn in 0..times {
        let before = ask(&PROBE_EL1, Command::Interrupts, &[])?[0];
        ask(&PROBE_EL1, Command::TouchUart, &[])?;
        let after = ask(&PROBE_EL1, Command::Interrupts, &[])?[0];
        ensure!(after > before, "turn {turn}: taken {before} times before, {after} times after");
    }
    ensure!(drive(&[Drive::READ, RUNNING])?[0] == 0xff, "a priority is still active");
    pass!("{times} times")
}

fn device_interrupt_is_acknowledged_by_the_interface(_: Instance) -> Outcome {
    start()?;
    touch(3)
}

fn deactivation_may_be_separate(_: Instance) -> Outcome {
    start()?;
    start_on(0, 2)?;
    let outcome = touch(3);
    start_on(0, 0)?;
    outcome
}

/// The partition's timer, or the UART by way of the timer: what is taken while `meanwhile` keeps the core.
fn timer_meanwhile(which: u64, interrupt: u64, meanwhile: impl Fn(u64) -> Result<(), Problem>) -> Result<(), Problem> {
    let (mut at, mut until) = (u64::MAX, 0);
    for milliseconds in [100, 1000, PATIENCE] {
        let before = taken()?;
        drive(&[Drive::TIMER, which, 20, 0])?;
        meanwhile(milliseconds)?;
        until = ticks();
        let after = taken()?;
        ensure!(after.0 > before.0 && after.1 == interrupt, "interrupt {interrupt}: {} times before, {} after, last {}", before.0, after.0, after.1);
        at = after.2;
        if at < until {
            break;
        }
    }
    ensure!(at < until, "interrupt {interrupt} was taken only when the partition was asked");
    Ok(())
}

fn device_interrupt_comes_while_the_normal_world_runs(_: Instance) -> Outcome {
    start()?;
    let stay = |milliseconds| {
        delay(milliseconds);
        Ok(())
    };
    timer_meanwhile(0, 27, stay)?;
    timer_meanwhile(1, 30, stay)?;
    pass!("27 and 30")
}

fn device_interrupt_comes_while_another_partition_runs(_: Instance) -> Outcome {
    start()?;
    timer_meanwhile(0, 27, |milliseconds| {
        ask(&VICTIM_EL1, Command::Spin, &[milliseconds, 3])?;
        Ok(())
    })?;
    pass!("while {} ran", VICTIM_EL1.name)
}

fn timers_interrupt_a_driver_of_the_interface(_: Instance) -> Outcome {
    start()?;
    for (which, interrupt) in [(0, 27), (1, 30)] {
        let before = taken()?.0;
        drive(&[Drive::TIMER, which, 5, PATIENCE])?;
        let after = taken()?;
        expect!((after.0 - before, after.1), (1, interrupt), "interrupts and the last one");
    }
    pass!("27 and 30")
}

fn priority_mask_holds_interrupts_back(_: Instance) -> Outcome {
    start()?;
    drive(&[Drive::MASK, 0x40])?;
    let before = taken()?.0;
    drive(&[Drive::TIMER, 0, 1, 50])?;
    delay(50);
    let masked = taken()?.0;
    drive(&[Drive::MASK, 0xff])?;
    let after = taken()?;
    expect!((masked - before, after.0 - before, after.1), (0, 1, 27), "taken while masked, taken, the last one");
    pass!("once")
}

fn software_interrupt_reaches_the_vcpu_itself(_: Instance) -> Outcome {
    start()?;
    let before = taken()?.0;
    drive(&[Drive::SEND, 10 << 24 | 1])?;
    let after = taken()?;
    expect!((after.0 - before, after.1), (1, 10), "interrupts and the last one");
    pass!("10")
}

fn start_here(core: u64) -> u64 {
    u64::from(start_on(core, 0).is_ok())
}

fn taken_here(_: u64) -> u64 {
    taken().map_or(u64::MAX, |(taken, last, _)| if taken == 0 || last == 10 { taken } else { u64::MAX })
}

fn compute_here(milliseconds: u64) -> u64 {
    drive(&[Drive::COMPUTE, milliseconds]).map_or(0, |words| words[0])
}

fn software_interrupt_reaches_another_vcpu(_: Instance) -> Outcome {
    start()?;
    ensure!(cores::start(1), "core 1 did not come");
    cores::ask(1, start_here, 1);
    ensure!(cores::result(1) == Some(1), "vCPU 1 cannot drive the interface");
    cores::ask(1, taken_here, 0);
    let before = cores::result(1);
    // While it computes, then while it waits.
    cores::ask(1, compute_here, PATIENCE);
    delay(20);
    drive(&[Drive::SEND, 10 << 24 | 2])?;
    ensure!(cores::result(1) == Some(1), "core 1 did not go on");
    drive(&[Drive::SEND, 10 << 24 | 1 << 40])?;
    cores::ask(1, taken_here, 0);
    let after = cores::result(1);
    ensure!(before.zip(after).is_some_and(|(before, after)| after == before + 2), "taken {before:?} times before, {after:?} times after");
    pass!("twice")
}
