//! Notifications that are bound, signalled and collected wrongly, from each side.

use super::notifications::need_bitmap;
use super::prelude::*;
use crate::board;
use crate::probes::status_of;
use bulkhead_sdk::Line;
use bulkhead_sdk::ffa::{EndpointId, Status, function};
use conformance_testkit::{PROBE_EL0, PROBE_EL1, VICTIM_EL1};

checks! { "bindings":
    "16.3" binding_for_another_is_invalid [Ns SEl1] SINCE_1_1 "INVALID_PARAMETERS";
    "16.3" binding_to_itself_is_invalid [SEl1] SINCE_1_1 "INVALID_PARAMETERS";
    "16.3" binding_to_nobody_is_invalid [Ns SEl1] SINCE_1_1 "INVALID_PARAMETERS";
    "16.3" binding_of_no_bits_is_invalid [Ns SEl1] SINCE_1_1 "INVALID_PARAMETERS";
    "16.3" reserved_flags_of_a_binding_are_invalid [Ns SEl1] SINCE_1_1 "INVALID_PARAMETERS";
    "16.3" bound_bits_are_not_bound_again [Ns SEl1] SINCE_1_1 "DENIED, for the same sender and another";
    "16.3" receiver_without_notifications_is_denied [SEl0] SINCE_1_1 "DENIED";
    "16.4" unbinding_from_another_sender_is_denied [Ns SEl1] SINCE_1_1 "DENIED";
    "16.4" unbinding_what_is_not_bound_is_denied [Ns SEl1] SINCE_1_1 "DENIED";
    "16.4" pending_bits_are_not_unbound [Ns] SINCE_1_1 "DENIED until they are collected";
    "16.5" only_the_bound_sender_signals [SEl0] SINCE_1_1 "DENIED";
    "16.5" signal_in_anothers_name_is_invalid [SEl1 SEl0] SINCE_1_1 "INVALID_PARAMETERS";
    "16.5" signal_of_no_bits_is_invalid [Ns SEl1] SINCE_1_1 "INVALID_PARAMETERS";
    "16.5" signal_of_the_other_kind_is_refused [SEl1] SINCE_1_1 "INVALID_PARAMETERS or DENIED, either way round";
    "16.5" signal_to_a_vcpu_out_of_range_is_invalid [SEl1] SINCE_1_1 "INVALID_PARAMETERS";
    "16.6" collecting_for_another_is_invalid [Ns SEl1] SINCE_1_1 "INVALID_PARAMETERS";
    "16.6" collecting_for_a_vcpu_out_of_range_is_invalid [Ns SEl1] SINCE_1_1 "INVALID_PARAMETERS";
    "16.6" reserved_flags_of_collecting_are_invalid [Ns SEl1] SINCE_1_1 "INVALID_PARAMETERS";
    "16.7" nothing_pending_is_no_data [Ns] SINCE_1_1 "NO_DATA in both conventions";
    "16.7" pending_is_reported_once [Ns] SINCE_1_1 "FFA_SUCCESS that names the receiver, then NO_DATA";
    "16.7" information_is_the_normal_worlds [SEl1 SEl0] SINCE_1_1 "NOT_SUPPORTED";
    "16.2" bitmap_in_use_is_not_destroyed [Ns] SINCE_1_1 "DENIED until nothing is bound";
    "16.1" bitmap_without_vcpus_is_invalid [Ns] SINCE_1_1 "INVALID_PARAMETERS";
    "16.2" bitmap_that_is_not_there_is_denied [Ns] SINCE_1_1 "DENIED";
    "16.1" bitmaps_are_the_normal_worlds [SEl1 SEl0] SINCE_1_1 "NOT_SUPPORTED";
}

/// Bits that no other check uses.
const BITS: u64 = 0x5_0000;
/// w2 of FFA_NOTIFICATION_BIND and FFA_NOTIFICATION_SET: for one vCPU.
const PER_VCPU: u64 = 1;
/// A virtual machine that is nobody's.
const MACHINE: u16 = 0x55;

const BIND: u64 = function::NOTIFICATION_BIND as u64;
const UNBIND: u64 = function::NOTIFICATION_UNBIND as u64;
const SET: u64 = function::NOTIFICATION_SET as u64;
const GET: u64 = function::NOTIFICATION_GET as u64;
const CREATE: u64 = function::NOTIFICATION_BITMAP_CREATE as u64;
const DESTROY: u64 = function::NOTIFICATION_BITMAP_DESTROY as u64;

fn ends(sender: EndpointId, receiver: EndpointId) -> u64 {
    u64::from(sender.0) << 16 | u64::from(receiver.0)
}

/// The status of a call, without what it answers.
fn outcome(at: Instance, regs: &[u64]) -> Result<Result<(), Status>, Line> {
    // What is signalled interrupts the normal world, which takes it at once.
    board::interrupts(true);
    let status = at.status(regs);
    board::interrupts(false);
    Ok(status?.map(|_| ()))
}

/// Runs `check` with [`BITS`] bound for this receiver to [`sender`].
fn with_bound(at: Instance, flags: u64, check: impl FnOnce() -> Outcome) -> Outcome {
    if at == Instance::Ns {
        need_bitmap()?;
    }
    expect!(outcome(at, &[BIND, ends(sender(at), at.id()), flags, BITS, 0])?, Ok(()), "when binding");
    let checked = check();
    let collect = if flags & PER_VCPU == 0 { u64::from(at.id().0) } else { 1 << 16 | u64::from(at.id().0) };
    at.status(&[GET, collect, if sender(at).is_secure() { 1 } else { 2 }])?.ok();
    let unbound = outcome(at, &[UNBIND, ends(sender(at), at.id()), 0, BITS, 0])?;
    let found = checked?;
    expect!(unbound, Ok(()), "when unbinding");
    Ok(found)
}

/// Whom this receiver binds to.
fn sender(at: Instance) -> EndpointId {
    if at == Instance::Ns { PROBE_EL1.id } else { PROBE_EL0.id }
}

fn binding_for_another_is_invalid(at: Instance) -> Outcome {
    expect!(outcome(at, &[BIND, ends(sender(at), VICTIM_EL1.id), 0, BITS, 0])?, Err(Status::InvalidParameters));
    pass!("INVALID_PARAMETERS")
}

fn binding_to_itself_is_invalid(at: Instance) -> Outcome {
    expect!(outcome(at, &[BIND, ends(at.id(), at.id()), 0, BITS, 0])?, Err(Status::InvalidParameters));
    pass!("INVALID_PARAMETERS")
}

fn binding_to_nobody_is_invalid(at: Instance) -> Outcome {
    need_bitmap()?;
    expect!(outcome(at, &[BIND, ends(EndpointId(0x80ee), at.id()), 0, BITS, 0])?, Err(Status::InvalidParameters));
    pass!("INVALID_PARAMETERS")
}

fn binding_of_no_bits_is_invalid(at: Instance) -> Outcome {
    need_bitmap()?;
    expect!(outcome(at, &[BIND, ends(sender(at), at.id()), 0, 0, 0])?, Err(Status::InvalidParameters));
    pass!("INVALID_PARAMETERS")
}

fn reserved_flags_of_a_binding_are_invalid(at: Instance) -> Outcome {
    need_bitmap()?;
    for flags in [2, 0x8000_0000] {
        expect!(outcome(at, &[BIND, ends(sender(at), at.id()), flags, BITS, 0])?, Err(Status::InvalidParameters), "for {flags:#x}");
    }
    pass!("INVALID_PARAMETERS")
}

fn bound_bits_are_not_bound_again(at: Instance) -> Outcome {
    with_bound(at, 0, || {
        for other in [sender(at), VICTIM_EL1.id] {
            expect!(outcome(at, &[BIND, ends(other, at.id()), 0, BITS, 0])?, Err(Status::Denied), "to {:#x}", other.0);
        }
        pass!("DENIED")
    })
}

fn receiver_without_notifications_is_denied(at: Instance) -> Outcome {
    expect!(outcome(at, &[BIND, ends(PROBE_EL1.id, at.id()), 0, BITS, 0])?, Err(Status::Denied));
    pass!("DENIED")
}

fn unbinding_from_another_sender_is_denied(at: Instance) -> Outcome {
    with_bound(at, 0, || {
        expect!(outcome(at, &[UNBIND, ends(VICTIM_EL1.id, at.id()), 0, BITS, 0])?, Err(Status::Denied));
        pass!("DENIED")
    })
}

fn unbinding_what_is_not_bound_is_denied(at: Instance) -> Outcome {
    need_bitmap()?;
    expect!(outcome(at, &[UNBIND, ends(sender(at), at.id()), 0, BITS, 0])?, Err(Status::Denied));
    pass!("DENIED")
}

/// The sender signals.
fn signal(receiver: Instance, flags: u64, bits: u64) -> Result<Result<(), Status>, Line> {
    let from = if receiver == Instance::Ns { Instance::SEl1 } else { Instance::SEl0 };
    outcome(from, &[SET, ends(from.id(), receiver.id()), flags, bits, 0])
}

fn pending_bits_are_not_unbound(at: Instance) -> Outcome {
    with_bound(at, 0, || {
        expect!(signal(at, 0, BITS)?, Ok(()), "when signalling");
        expect!(outcome(at, &[UNBIND, ends(sender(at), at.id()), 0, BITS, 0])?, Err(Status::Denied));
        pass!("DENIED")
    })
}

fn only_the_bound_sender_signals(at: Instance) -> Outcome {
    with_bound(Instance::Ns, 0, || {
        expect!(outcome(at, &[SET, ends(at.id(), Instance::Ns.id()), 0, BITS, 0])?, Err(Status::Denied));
        pass!("DENIED")
    })
}

fn signal_in_anothers_name_is_invalid(at: Instance) -> Outcome {
    with_bound(Instance::Ns, 0, || {
        expect!(outcome(at, &[SET, ends(VICTIM_EL1.id, Instance::Ns.id()), 0, BITS, 0])?, Err(Status::InvalidParameters));
        pass!("INVALID_PARAMETERS")
    })
}

fn signal_of_no_bits_is_invalid(at: Instance) -> Outcome {
    need_bitmap()?;
    let receiver = if at == Instance::Ns { PROBE_EL1.id } else { Instance::Ns.id() };
    expect!(outcome(at, &[SET, ends(at.id(), receiver), 0, 0, 0])?, Err(Status::InvalidParameters));
    pass!("INVALID_PARAMETERS")
}

fn signal_of_the_other_kind_is_refused(_: Instance) -> Outcome {
    for (bound, signalled) in [(0, PER_VCPU), (PER_VCPU, 0)] {
        with_bound(Instance::Ns, bound, || {
            let result = signal(Instance::Ns, signalled, BITS)?;
            ensure!(matches!(result, Err(Status::InvalidParameters | Status::Denied)), "bound with {bound}, signalled with {signalled}: {result:?}");
            pass!("refused")
        })?;
    }
    pass!("both ways round")
}

fn signal_to_a_vcpu_out_of_range_is_invalid(_: Instance) -> Outcome {
    with_bound(Instance::Ns, PER_VCPU, || {
        expect!(signal(Instance::Ns, PER_VCPU | 0x40 << 16, BITS)?, Err(Status::InvalidParameters));
        pass!("INVALID_PARAMETERS")
    })
}

fn collecting_for_another_is_invalid(at: Instance) -> Outcome {
    expect!(outcome(at, &[GET, VICTIM_EL1.id.0.into(), 1])?, Err(Status::InvalidParameters));
    pass!("INVALID_PARAMETERS")
}

fn collecting_for_a_vcpu_out_of_range_is_invalid(at: Instance) -> Outcome {
    need_bitmap()?;
    // The normal world has a bitmap for four.
    let first = if at == Instance::Ns { 4 } else { 8 };
    for vcpu in [first, 0xffff] {
        expect!(outcome(at, &[GET, vcpu << 16 | u64::from(at.id().0), 1])?, Err(Status::InvalidParameters), "for vCPU {vcpu:#x}");
    }
    pass!("INVALID_PARAMETERS")
}

fn reserved_flags_of_collecting_are_invalid(at: Instance) -> Outcome {
    need_bitmap()?;
    for flags in [0x10, 0x8000_0000] {
        expect!(outcome(at, &[GET, at.id().0.into(), flags])?, Err(Status::InvalidParameters), "for flags {flags:#x}");
    }
    pass!("INVALID_PARAMETERS")
}

const INFORMATION: [u32; 2] = [function::NOTIFICATION_INFO_GET_32, function::NOTIFICATION_INFO_GET_64];

fn nothing_pending_is_no_data(_: Instance) -> Outcome {
    for call in INFORMATION {
        // What an earlier check left is reported first.
        let _ = status_of(&[call.into()]);
        expect!(status_of(&[call.into()]).map(|_| ()), Err(Status::NoData), "for {call:#x}");
    }
    pass!("NO_DATA")
}

fn pending_is_reported_once(at: Instance) -> Outcome {
    for call in INFORMATION {
        with_bound(at, 0, || {
            let _ = status_of(&[call.into()]);
            expect!(signal(at, 0, BITS)?, Ok(()), "when signalling");
            // One list, of the normal world's id alone, and no more to report.
            let reported = status_of(&[call.into()]).map(|regs| (regs.0[2], regs.0[3]));
            expect!(reported, Ok((1 << 7, 0)), "for {call:#x}");
            expect!(status_of(&[call.into()]).map(|_| ()), Err(Status::NoData), "for {call:#x} again");
            pass!("once")
        })?;
    }
    pass!("in both conventions")
}

fn information_is_the_normal_worlds(at: Instance) -> Outcome {
    for call in INFORMATION {
        expect!(outcome(at, &[call.into()])?, Err(Status::NotSupported), "for {call:#x}");
    }
    pass!("NOT_SUPPORTED")
}

fn bitmap_in_use_is_not_destroyed(at: Instance) -> Outcome {
    let machine = EndpointId(MACHINE);
    expect!(outcome(at, &[CREATE, MACHINE.into(), 1])?, Ok(()), "when creating");
    let bound = outcome(at, &[BIND, ends(PROBE_EL1.id, machine), 0, BITS, 0])?;
    let early = outcome(at, &[DESTROY, MACHINE.into()])?;
    let unbound = outcome(at, &[UNBIND, ends(PROBE_EL1.id, machine), 0, BITS, 0])?;
    let destroyed = outcome(at, &[DESTROY, MACHINE.into()])?;
    expect!(bound, Ok(()), "when binding");
    expect!(early, Err(Status::Denied), "while a notification is bound");
    expect!((unbound, destroyed), (Ok(()), Ok(())), "afterwards");
    pass!("DENIED, then FFA_SUCCESS")
}

fn bitmap_without_vcpus_is_invalid(at: Instance) -> Outcome {
    expect!(outcome(at, &[CREATE, MACHINE.into(), 0])?, Err(Status::InvalidParameters));
    pass!("INVALID_PARAMETERS")
}

fn bitmap_that_is_not_there_is_denied(at: Instance) -> Outcome {
    expect!(outcome(at, &[DESTROY, MACHINE.into()])?, Err(Status::Denied));
    pass!("DENIED")
}

fn bitmaps_are_the_normal_worlds(at: Instance) -> Outcome {
    for call in [CREATE, DESTROY] {
        expect!(outcome(at, &[call, MACHINE.into(), 1])?, Err(Status::NotSupported), "for {call:#x}");
    }
    pass!("NOT_SUPPORTED")
}
