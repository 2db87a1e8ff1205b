//! Notifications from partitions to the normal world.

use super::prelude::*;
use crate::probes::{ask, describe, status_of};
use crate::{board, cores, gic};
use bulkhead_sdk::ffa::{Status, function};
use conformance_testkit::spin::delay;
use conformance_testkit::{Command, PROBE_EL1};

checks! { "notifications":
    "16.1" bitmap_can_be_made_once [Ns] SINCE_1_1 "DENIED for the second";
    "16.5" bound_notification_arrives_with_its_interrupt [Ns] SINCE_1_1 "the bits once, and the schedule receiver interrupt";
    "16.5" unbound_notification_is_denied [SEl1] SINCE_1_1 "DENIED";
    "10.8" notification_reaches_a_vcpu_that_runs_on_another_core [Ns] SINCE_1_1 "the notification pending interrupt, at once";
}

const BITS: u64 = 0x21;

fn call(regs: &[u64]) -> Result<bulkhead_sdk::ffa::Regs, Status> {
    status_of(regs)
}

/// The normal world's bitmap exists from here on.
pub fn need_bitmap() -> Result<(), Problem> {
    let created = call(&[u64::from(function::NOTIFICATION_BITMAP_CREATE), 0, 4]);
    ensure!(matches!(created, Ok(_) | Err(Status::Denied)), "{created:?}");
    Ok(())
}

fn bitmap_can_be_made_once(_: Instance) -> Outcome {
    need_bitmap()?;
    let second = call(&[u64::from(function::NOTIFICATION_BITMAP_CREATE), 0, 4]);
    expect!(second.map(|_| ()), Err(Status::Denied));
    pass!("then DENIED")
}

fn bound_notification_arrives_with_its_interrupt(_: Instance) -> Outcome {
    need_bitmap()?;
    let id = u64::from(PROBE_EL1.id.0);
    let bind = call(&[u64::from(function::NOTIFICATION_BIND), id << 16, 0, BITS, 0]);
    ensure!(bind.is_ok(), "bind: {bind:?}");
    let before = gic::schedule_interrupts();
    board::interrupts(true);
    let set = call_from(&PROBE_EL1, &[u64::from(function::NOTIFICATION_SET), id << 16, 0, BITS, 0]);
    board::interrupts(false);
    let set = set?;
    ensure!(set.as_error().is_none(), "set: {}", describe(&set));
    ensure!(gic::schedule_interrupts() > before, "no schedule receiver interrupt came");
    let pending = call(&[u64::from(function::NOTIFICATION_INFO_GET_64)]);
    ensure!(pending.is_ok(), "info: {pending:?}");
    let get = call(&[u64::from(function::NOTIFICATION_GET), 0, 1]);
    let bits = get.map(|regs| u64::from(regs.w(2)) | u64::from(regs.w(3)) << 32);
    ensure!(bits == Ok(BITS), "get: {bits:x?}");
    let again = call(&[u64::from(function::NOTIFICATION_GET), 0, 1]).map(|regs| regs.w(2));
    ensure!(again == Ok(0), "got twice: {again:x?}");
    let unbind = call(&[u64::from(function::NOTIFICATION_UNBIND), id << 16, 0, BITS, 0]);
    ensure!(unbind.is_ok(), "unbind: {unbind:?}");
    pass!("bits {BITS:#x}")
}

fn unbound_notification_is_denied(_: Instance) -> Outcome {
    let id = u64::from(PROBE_EL1.id.0);
    let set = call_from(&PROBE_EL1, &[u64::from(function::NOTIFICATION_SET), id << 16, 0, 0x100, 0])?;
    ensure!(set.as_error() == Some(Status::Denied), "{}", describe(&set));
    pass!("DENIED")
}

/// The paravirtual call that lets a virtual interrupt in, or not.
const ENABLE: u64 = 0xff03;
/// The notification pending interrupt.
const PENDING: u64 = 5;

/// Lets the notification pending interrupt reach this core's vCPU, or not.
fn admit(enable: u64) -> u64 {
    // ListenUart unmasks IRQs.
    let unmasked = ask(&PROBE_EL1, Command::ListenUart, &[]).is_ok_and(|words| words[0] == 1);
    let enabled = call_from(&PROBE_EL1, &[ENABLE, PENDING, enable, 0]).is_ok_and(|reply| reply.0[0] == 0);
    u64::from(unmasked && enabled)
}

/// Whether a notification ended the spinning.
fn spin(milliseconds: u64) -> u64 {
    ask(&PROBE_EL1, Command::Spin, &[milliseconds, 7]).map_or(u64::MAX, |words| words[2])
}

fn on_core_1(job: cores::Job, argument: u64) -> Option<u64> {
    cores::ask(1, job, argument);
    cores::result(1)
}

fn notification_reaches_a_vcpu_that_runs_on_another_core(_: Instance) -> Outcome {
    let (id, bits) = (u64::from(PROBE_EL1.id.0), 0x200);
    ensure!(cores::start(1), "core 1 did not come");
    let bind = call_from(&PROBE_EL1, &[u64::from(function::NOTIFICATION_BIND), id, 1, bits, 0])?;
    ensure!(bind.as_error().is_none(), "bind: {}", describe(&bind));
    ensure!(on_core_1(admit, 1) == Some(1), "the interrupt was refused");
    cores::ask(1, spin, 3000);
    delay(100);
    let busy = cores::is_at_work(1);
    // Its schedule receiver interrupt, left pending, would preempt whoever runs next.
    board::interrupts(true);
    let set = call(&[u64::from(function::NOTIFICATION_SET), id, 1 | 1 << 16, bits, 0]);
    board::interrupts(false);
    let ended = cores::result(1);
    ensure!(on_core_1(admit, 0) == Some(1), "the interrupt could not be disabled");
    let get = call_from(&PROBE_EL1, &[u64::from(function::NOTIFICATION_GET), 1 << 16 | id, 2])?;
    let unbind = call_from(&PROBE_EL1, &[u64::from(function::NOTIFICATION_UNBIND), id, 0, bits, 0])?;
    ensure!(busy && set.is_ok(), "core 1 at work: {busy}; set: {set:?}");
    ensure!(ended == Some(1), "the vCPU went on: {ended:?}");
    ensure!(u64::from(get.w(4)) == bits && unbind.as_error().is_none(), "get: {}, unbind: {}", describe(&get), describe(&unbind));
    pass!("and was seen at once")
}
