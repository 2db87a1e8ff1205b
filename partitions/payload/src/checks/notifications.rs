//! Notifications from partitions to the normal world.

use super::checks;
use super::messages::call_from;
use crate::check::Outcome;
use crate::probes::{describe, status_of};
use crate::{board, ensure, gic, pass};
use bulkhead_sdk::ffa::{Status, function};
use bulkhead_testkit::PROBE_EL1;

checks! { "notifications":
    bitmap_can_be_made_once,
    bound_notification_arrives_with_its_interrupt,
    unbound_notification_is_denied,
}

const BITS: u64 = 0x21;

fn call(regs: &[u64]) -> Result<bulkhead_sdk::ffa::Regs, Status> {
    status_of(regs)
}

fn bitmap_can_be_made_once() -> Outcome {
    let first = call(&[u64::from(function::NOTIFICATION_BITMAP_CREATE), 0, 4]);
    let second = call(&[u64::from(function::NOTIFICATION_BITMAP_CREATE), 0, 4]);
    ensure!(first.is_ok(), "{first:?}");
    ensure!(second == Err(Status::Denied), "the second gives {second:?}");
    pass!("then DENIED")
}

fn bound_notification_arrives_with_its_interrupt() -> Outcome {
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

fn unbound_notification_is_denied() -> Outcome {
    let id = u64::from(PROBE_EL1.id.0);
    let set = call_from(&PROBE_EL1, &[u64::from(function::NOTIFICATION_SET), id << 16, 0, 0x100, 0])?;
    ensure!(set.as_error() == Some(Status::Denied), "{}", describe(&set));
    pass!("DENIED")
}
