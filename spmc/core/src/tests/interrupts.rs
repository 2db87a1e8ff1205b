//! Secure interrupts to owners in every state, and OP-TEE's paravirtual calls.

use crate::PartitionConfig;
use crate::fake::*;
use crate::machine::Exit;
use crate::partition::NormalWorldInterrupts;
use arrayvec::ArrayVec;
use bulkhead_ffa::{Regs, Status, Version, function};
use std::vec::Vec;

const ENABLE: u64 = 0xff03;
const GET: u64 = 0xff04;
const DEACTIVATE: u64 = 0xff08;
const RECONFIGURE: u64 = 0xff09;
const SEND_IPI: u64 = 0xff0a;
const NONE: u64 = 0xffff_ffff;
const INTERRUPT: u64 = function::INTERRUPT as u64;
/// The secure UART's, as in the manifest of OP-TEE.
const UART: u32 = 40;

fn owner() -> PartitionConfig {
    PartitionConfig { interrupts: ArrayVec::from_iter([UART, 41]), ..s_el1(0x8001) }
}

/// What OP-TEE's driver does with an interrupt.
fn handle(guest: &mut Guest) {
    assert!(guest.irq());
    assert_eq!(guest.interrupt(), u64::from(UART));
    assert!(!guest.irq());
    assert_eq!(guest.call(&[DEACTIVATE, u64::from(UART), u64::from(UART)]).0[0], 0);
}

fn enable(guest: &mut Guest) {
    assert_eq!(guest.call(&[ENABLE, u64::from(UART), 1, 0]).0[0], 0);
}

fn handled(bench: &Bench) -> usize {
    bench.world().events.iter().filter(|event| **event == Event::Deactivated(UART)).count()
}

#[test]
fn an_interrupt_in_the_normal_world_reaches_its_waiting_owner() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(owner(), |guest| {
        enable(guest);
        for _ in 0..2 {
            let message = guest.wait();
            assert_eq!(message, Regs::new(&[INTERRUPT, 0, u64::from(UART)]));
            assert!(guest.held());
            handle(guest);
        }
    });
    bench.boot();
    assert!(bench.world().saw(&Event::Enabled(UART, true)));
    bench.secure_interrupt(UART);
    bench.secure_interrupt(UART);
    assert_eq!(handled(&bench), 2);
}

/// Section 8.4: cycles of the SPMC are for one's own request to others, too; there is nobody to yield them to.
#[test]
fn a_handler_may_ask_another_partition_and_its_yield_does_nothing() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(owner(), |guest| {
        enable(guest);
        assert_eq!(guest.wait(), Regs::new(&[INTERRUPT, 0, u64::from(UART)]));
        assert_eq!(guest.call(&[u64::from(function::YIELD), 0, 1]), Regs::success(&[]));
        assert_eq!(guest.request(0x8002, &[1]).0[3], 2);
        for (answer, status) in [(function::MSG_SEND_DIRECT_RESP_32, Status::Denied), (function::RUN, Status::InvalidParameters), (function::ERROR, Status::Denied)] {
            assert_eq!(guest.call(&[u64::from(answer), 0x8001_0000 | if answer == function::RUN { 9 } else { 0 }]), error(status));
        }
        handle(guest);
    });
    bench.add(s_el1(0x8002), |guest| {
        let request = guest.wait();
        assert!(guest.held(), "the normal world's interrupts wait for the handler");
        guest.respond(&request, &[2]);
    });
    assert_eq!(bench.boot(), 0);
    bench.secure_interrupt(UART);
    assert_eq!(handled(&bench), 1);
}

#[test]
fn a_partition_chooses_the_line_that_an_interrupt_raises() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(owner(), |guest| {
        assert_eq!(guest.call(&[ENABLE, u64::from(UART), 1, 1]).0[0], 0);
        assert_eq!(guest.wait(), Regs::new(&[INTERRUPT, 0, u64::from(UART)]));
        assert!(guest.fiq() && !guest.irq());
        assert_eq!(guest.interrupt(), u64::from(UART));
        assert!(!guest.fiq());
        enable(guest);
        guest.call(&[DEACTIVATE, u64::from(UART), u64::from(UART)]);
        guest.wait();
        handle(guest);
    });
    bench.boot();
    bench.secure_interrupt(UART);
    bench.secure_interrupt(UART);
    assert_eq!(handled(&bench), 2);
}

#[test]
fn an_interrupt_reaches_the_owner_that_runs() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(owner(), |guest| {
        enable(guest);
        let request = guest.wait();
        guest.bench.raise(UART);
        guest.stop(Exit::SecureInterrupt);
        handle(guest);
        guest.respond(&request, &[1]);
    });
    bench.boot();
    assert_eq!(bench.request(0x8001, &[]).0[3], 1);
}

#[test]
fn an_interrupt_takes_the_core_from_another_partition_for_a_while() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(owner(), |guest| {
        enable(guest);
        assert_eq!(guest.wait().0[0], INTERRUPT);
        assert!(guest.held());
        handle(guest);
    });
    bench.add(s_el1(0x8002), |guest| {
        let request = guest.wait();
        guest.bench.raise(UART);
        guest.stop(Exit::SecureInterrupt);
        assert!(!guest.held());
        assert_eq!(handled(&guest.bench), 1);
        guest.respond(&request, &[2]);
    });
    bench.boot();
    assert_eq!(bench.request(0x8002, &[]).0[3], 2);
}

#[test]
fn a_blocked_owner_is_resumed_and_goes_on_with_its_callee_by_run() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(owner(), |guest| {
        enable(guest);
        let request = guest.wait();
        let interrupted = guest.request(0x8002, &[]);
        assert_eq!(interrupted, Regs::new(&[INTERRUPT, 0x8002_0000]));
        handle(guest);
        // It has to go on with its callee before anything else.
        assert_eq!(guest.call(&[u64::from(function::MSG_WAIT)]), error(Status::Denied));
        assert_eq!(guest.request(0x8003, &[]), error(Status::Denied));
        assert_eq!(guest.respond(&request, &[]), error(Status::Denied));
        assert_eq!(guest.call(&[u64::from(function::ERROR), 0, 1]), error(Status::Denied));
        assert_eq!(guest.bench.on(1).resume(0x8002, 0), error(Status::Denied));
        assert_eq!(guest.call(&[u64::from(function::RUN), 0x8003_0000]), error(Status::Denied));
        let answer = guest.call(&[u64::from(function::RUN), interrupted.0[1]]);
        guest.respond(&request, &[answer.0[3]]);
    });
    bench.add(s_el1(0x8002), |guest| {
        let request = guest.wait();
        let answer = guest.request(0x8003, &[]);
        guest.respond(&request, &[answer.0[3] + 1]);
    });
    bench.add(s_el1(0x8003), |guest| {
        let request = guest.wait();
        guest.bench.raise(UART);
        guest.stop(Exit::SecureInterrupt);
        guest.respond(&request, &[3]);
    });
    bench.boot();
    assert_eq!(bench.request(0x8001, &[]).0[3], 4);
    assert_eq!(handled(&bench), 1);
}

#[test]
fn the_callee_of_a_resumed_owner_that_fails_is_left_to_the_normal_world() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(owner(), |guest| {
        enable(guest);
        guest.wait();
        assert_eq!(guest.request(0x8002, &[]).0[0], INTERRUPT);
        guest.crash();
    });
    bench.add(s_el1(0x8002), |guest| {
        let request = guest.wait();
        guest.bench.raise(UART);
        guest.stop(Exit::SecureInterrupt);
        let request = guest.respond(&request, &[3]);
        guest.respond(&request, &[4]);
    });
    bench.boot();
    assert_eq!(bench.request(0x8001, &[]), error(Status::Aborted));
    assert_eq!(bench.request(0x8002, &[]), error(Status::Busy));
    assert_eq!(bench.resume(0x8002, 0), error(Status::Aborted), "its answer has nobody to go to");
    assert_eq!(bench.request(0x8002, &[]).0[3], 4);
}

#[test]
fn an_owner_blocked_in_another_chain_sees_its_interrupt_with_the_answer() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(owner(), |guest| {
        enable(guest);
        let request = guest.wait();
        let answer = guest.request(0x8002, &[]);
        handle(guest);
        guest.respond(&request, &[answer.0[3]]);
    });
    bench.add(s_el1(0x8002), |guest| {
        let request = guest.wait();
        guest.bench.on(1).secure_interrupt(UART);
        guest.respond(&request, &[3]);
    });
    bench.boot();
    assert_eq!(bench.request(0x8001, &[]).0[3], 3);
}

#[test]
fn others_interrupts_wait_for_a_partition_that_holds_them() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(owner(), |guest| {
        enable(guest);
        assert_eq!(guest.wait().0[0], INTERRUPT);
        handle(guest);
    });
    bench.add(PartitionConfig { holds_other_secure: true, ..s_el1(0x8002) }, |guest| {
        let request = guest.wait();
        guest.bench.raise(UART);
        guest.stop(Exit::SecureInterrupt);
        assert_eq!(handled(&guest.bench), 0);
        let request = guest.respond(&request, &[2]);
        // Not while it waits for somebody else.
        guest.bench.raise(UART);
        guest.stop(Exit::SecureInterrupt);
        let answer = guest.request(0x8003, &[]);
        guest.respond(&request, &[answer.0[3]]);
    });
    bench.add(s_el1(0x8003), |guest| {
        let request = guest.wait();
        let handled = handled(&guest.bench) as u64;
        guest.respond(&request, &[handled]);
    });
    bench.boot();
    assert_eq!(bench.request(0x8002, &[]).0[3], 2);
    assert_eq!(handled(&bench), 1);
}

#[test]
fn its_own_interrupt_reaches_a_partition_that_holds_others() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(PartitionConfig { holds_other_secure: true, ..owner() }, |guest| {
        enable(guest);
        let request = guest.wait();
        guest.bench.raise(UART);
        guest.stop(Exit::SecureInterrupt);
        handle(guest);
        guest.respond(&request, &[1]);
    });
    bench.boot();
    assert_eq!(bench.request(0x8001, &[]).0[3], 1);
}

#[test]
fn a_preempted_owner_sees_its_interrupt_when_it_is_resumed() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(owner(), |guest| {
        enable(guest);
        let request = guest.wait();
        guest.stop(Exit::NormalWorldInterrupt);
        handle(guest);
        guest.respond(&request, &[4]);
    });
    bench.boot();
    bench.request(0x8001, &[]);
    bench.secure_interrupt(UART);
    assert_eq!(handled(&bench), 0);
    assert_eq!(bench.on(1).resume(0x8001, 0).0[3], 4);
    assert_eq!(handled(&bench), 1);
}

#[test]
fn an_interrupt_left_pending_is_served_before_the_normal_world_runs() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(owner(), |guest| {
        enable(guest);
        let request = guest.wait();
        guest.bench.raise(UART);
        guest.stop(Exit::SecureInterrupt);
        // It has interrupts masked, and answers without a look at them.
        let message = guest.respond(&request, &[5]);
        assert_eq!(message.0[0], INTERRUPT);
        handle(guest);
        let request = guest.wait();
        guest.respond(&request, &[6]);
    });
    bench.boot();
    assert_eq!(bench.request(0x8001, &[]).0[3], 5);
    assert_eq!(handled(&bench), 1);
    assert_eq!(bench.request(0x8001, &[]).0[3], 6);
}

#[test]
fn an_owner_that_never_takes_its_interrupt_is_entered_once_for_it() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(owner(), |guest| {
        enable(guest);
        let request = guest.wait();
        guest.bench.raise(UART);
        guest.stop(Exit::SecureInterrupt);
        assert_eq!(guest.respond(&request, &[]).0[0], INTERRUPT);
        let request = guest.wait();
        handle(guest);
        guest.respond(&request, &[]);
    });
    bench.boot();
    bench.request(0x8001, &[]);
    bench.request(0x8001, &[]);
    assert_eq!(handled(&bench), 1);
}

#[test]
fn s_el0_gets_interrupts_as_messages() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(PartitionConfig { s_el0: true, ..owner() }, |guest| {
        let message = guest.wait();
        assert_eq!(message, Regs::new(&[INTERRUPT, 0, u64::from(UART)]));
        guest.bench.raise(41);
        guest.stop(Exit::SecureInterrupt);
        let message = guest.wait();
        assert_eq!(message, Regs::new(&[INTERRUPT, 0, 41]), "the second takes the place of the wait");
        let request = guest.wait();
        guest.bench.raise(UART);
        guest.stop(Exit::SecureInterrupt);
        let message = guest.respond(&request, &[7]);
        assert_eq!(message, Regs::new(&[INTERRUPT, 0, u64::from(UART)]));
    });
    bench.boot();
    bench.secure_interrupt(UART);
    assert_eq!(bench.request(0x8001, &[]).0[3], 7);
    assert_eq!(handled(&bench), 2);
}

#[test]
fn an_interrupt_of_nobody_is_disabled() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(owner(), |_| {});
    bench.boot();
    bench.secure_interrupt(99);
    assert!(bench.world().saw(&Event::Enabled(99, false)));
    assert!(bench.world().saw(&Event::Deactivated(99)));
}

#[test]
fn an_interrupt_of_a_failed_partition_is_disabled() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(owner(), |guest| {
        enable(guest);
        guest.crash();
    });
    bench.boot();
    bench.secure_interrupt(UART);
    assert!(bench.world().saw(&Event::Enabled(UART, false)));
}

#[test]
fn a_crash_in_a_handler_gives_the_core_back() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(owner(), |guest| {
        enable(guest);
        guest.wait();
        guest.crash();
    });
    bench.add(s_el1(0x8002), |guest| {
        let request = guest.wait();
        guest.bench.raise(UART);
        guest.stop(Exit::SecureInterrupt);
        guest.respond(&request, &[8]);
    });
    bench.boot();
    assert_eq!(bench.request(0x8002, &[]).0[3], 8);
    assert_eq!(bench.request(0x8001, &[]), error(Status::Aborted));
}

#[test]
fn an_interrupt_that_is_not_enabled_stays_pending() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(owner(), |guest| {
        let request = guest.wait();
        assert!(!guest.irq());
        assert_eq!(guest.interrupt(), NONE);
        enable(guest);
        handle(guest);
        guest.respond(&request, &[]);
    });
    bench.boot();
    bench.secure_interrupt(UART);
    assert_eq!(bench.request(0x8001, &[]).function(), function::MSG_SEND_DIRECT_RESP_32);
}

#[test]
fn paravirtual_calls_refuse_what_is_not_the_partitions() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(owner(), |guest| {
        for call in [ENABLE, RECONFIGURE, DEACTIVATE] {
            assert_eq!(guest.call(&[call, 99, 2, 1]).0[0], u64::MAX, "{call:#x}");
        }
        for (command, value) in [(0, 8), (0, 1), (1, 2), (2, 2), (3, 0)] {
            assert_eq!(guest.call(&[RECONFIGURE, u64::from(UART), command, value]).0[0], u64::MAX, "{command} {value}");
        }
        assert_eq!(guest.call(&[RECONFIGURE, 5, 2, 1]).0[0], u64::MAX, "a virtual one");
        assert_eq!(guest.call(&[SEND_IPI, 1]).0[0], u64::MAX, "it has one vCPU");
        assert_eq!(guest.call(&[RECONFIGURE, u64::from(UART), 2, 1]).0[0], 0);
        assert_eq!(guest.call(&[RECONFIGURE, u64::from(UART), 2, 0]).0[0], 0);
        assert_eq!(guest.call(&[GET]).0[..4], [NONE, 0, 0, 0]);
        assert_eq!(guest.call(&[DEACTIVATE, 5, 5]).0[0], 0, "a virtual one");
    });
    bench.add(s_el0(0x8002), |guest| {
        assert_eq!(guest.call(&[GET]).0[0], NONE);
        assert_eq!(guest.call(&[DEACTIVATE, u64::from(UART), u64::from(UART)]).0[0], u64::MAX);
    });
    assert_eq!(bench.boot(), 0);
    let world = bench.world();
    assert!(world.saw(&Event::Enabled(UART, true)) && world.saw(&Event::Enabled(UART, false)));
    assert!(!world.saw(&Event::Enabled(99, true)));
}

#[test]
fn an_interrupt_can_be_given_a_core_and_a_security_state() {
    let mut bench = Bench::new(Version::V1_2);
    let index = bench.add(PartitionConfig { vcpus: 8, routed: 2, ..owner() }, |guest| {
        enable(guest);
        assert_eq!(guest.call(&[RECONFIGURE, u64::from(UART), 0, 3]).0[0], 0);
        enable(guest);
        assert_eq!(guest.call(&[ENABLE, 41, 1, 0]).0[0], 0);
        assert_eq!(guest.call(&[RECONFIGURE, 41, 1, 0]).0[0], 0);
        assert_eq!(guest.call(&[RECONFIGURE, 41, 1, 1]).0[0], 0);
    });
    assert_eq!(bench.boot(), 0);
    assert_eq!(index, 0);
    let routed: Vec<Event> = bench.world().events.iter().filter(|e| matches!(e, Event::Routed(..) | Event::Security(..))).cloned().collect();
    let expected = [Event::Routed(UART, 0), Event::Routed(UART, 3), Event::Security(41, false), Event::Security(41, true)];
    assert_eq!(routed, expected, "where the manifest or the partition has chosen a core, enabling does not");
}

#[test]
fn a_partition_that_never_deactivates_gets_its_next_interrupt_too() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(owner(), |guest| {
        enable(guest);
        guest.wait();
        assert_eq!(guest.interrupt(), u64::from(UART));
        assert_eq!(handled(&guest.bench), 0, "active while it may be at work on it");
        assert_eq!(guest.interrupt(), NONE);
        assert_eq!(handled(&guest.bench), 1);
        guest.wait();
        assert_eq!(guest.interrupt(), u64::from(UART));
    });
    bench.boot();
    bench.secure_interrupt(UART);
    bench.secure_interrupt(UART);
    assert_eq!(handled(&bench), 2);
}

#[test]
fn a_partition_that_deactivates_decides_when() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(owner(), |guest| {
        enable(guest);
        guest.wait();
        handle(guest);
        guest.wait();
        assert_eq!(guest.interrupt(), u64::from(UART));
        assert_eq!(guest.interrupt(), NONE);
    });
    bench.boot();
    bench.secure_interrupt(UART);
    bench.secure_interrupt(UART);
    assert_eq!(handled(&bench), 1);
}

#[test]
fn the_highest_priority_comes_first() {
    let mut bench = Bench::new(Version::V1_2);
    let mut priorities = [0; 32];
    (priorities[0], priorities[1]) = (0x40, 0x20);
    bench.add(PartitionConfig { priorities, ..owner() }, |guest| {
        let request = guest.wait();
        for interrupt in [UART, 41] {
            guest.call(&[ENABLE, u64::from(interrupt), 1, 0]);
            guest.bench.raise(interrupt);
            guest.stop(Exit::SecureInterrupt);
        }
        assert_eq!([guest.interrupt(), guest.interrupt(), guest.interrupt()], [41, u64::from(UART), NONE]);
        guest.respond(&request, &[]);
    });
    bench.boot();
    bench.request(0x8001, &[]);
}

#[test]
fn interrupts_of_s_el0_are_enabled_when_it_is_up() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(PartitionConfig { s_el0: true, ..owner() }, |_| {});
    bench.boot();
    for interrupt in [UART, 41] {
        assert!(bench.world().saw(&Event::Enabled(interrupt, true)));
    }
}

#[test]
fn a_vcpu_interrupts_another_that_runs() {
    let mut bench = Bench::new(Version::V1_2);
    let index = bench.add(PartitionConfig { vcpus: 2, ..owner() }, |guest| {
        let sixty_four = [u64::from(function::SECONDARY_EP_REGISTER_64), SECURE_MEMORY];
        assert_eq!(guest.call(&sixty_four), Regs::success(&[]));
        guest.call(&[ENABLE, 9, 1, 0]);
        let request = guest.wait();
        // The other vCPU sends while this one runs.
        guest.bench.on(1).request(0x8001, &[]);
        assert!(guest.bench.world().saw(&Event::Interrupted(0)));
        guest.bench.raise_own();
        guest.stop(Exit::SecureInterrupt);
        assert!(guest.irq());
        assert_eq!([guest.interrupt(), guest.interrupt()], [9, NONE]);
        guest.respond(&request, &[]);
    });
    bench.script(index, 1, |guest| {
        let request = guest.wait();
        assert_eq!(guest.call(&[SEND_IPI, 2]).0[0], u64::MAX);
        assert_eq!(guest.call(&[SEND_IPI, 0]).0[0], 0);
        guest.respond(&request, &[]);
    });
    bench.boot();
    bench.on(1).core_on();
    assert_eq!(bench.request(0x8001, &[]).function(), function::MSG_SEND_DIRECT_RESP_32);
}

#[test]
fn a_vcpu_interrupts_another_that_waits() {
    let mut bench = Bench::new(Version::V1_2);
    let index = bench.add(PartitionConfig { vcpus: 2, ..owner() }, |guest| {
        assert_eq!(guest.call(&[u64::from(function::SECONDARY_EP_REGISTER_64), SECURE_MEMORY]), Regs::success(&[]));
        let request = guest.wait();
        assert_eq!(guest.call(&[SEND_IPI, 1]).0[0], 0);
        guest.respond(&request, &[]);
    });
    bench.script(index, 1, |guest| {
        guest.call(&[ENABLE, 9, 1, 0]);
        assert_eq!(guest.wait(), Regs::new(&[INTERRUPT, 0, 9]));
        assert_eq!([guest.interrupt(), guest.interrupt()], [9, NONE]);
        let request = guest.wait();
        guest.respond(&request, &[5]);
    });
    bench.boot();
    let mut other = bench.on(1);
    other.core_on();
    bench.request(0x8001, &[]);
    assert!(bench.world().saw(&Event::Interrupted(1)));
    other.own_interrupt();
    assert_eq!(other.request(0x8001, &[]).0[3], 5);
}

#[test]
fn a_handler_has_its_own_time() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(owner(), |guest| {
        enable(guest);
        assert_eq!(guest.wait().0[0], INTERRUPT);
        handle(guest);
    });
    bench.add(PartitionConfig { normal_world_interrupts: NormalWorldInterrupts::Queued, init_time_limit_ms: 7, ..s_el1(0x8002) }, |guest| {
        let request = guest.wait();
        guest.bench.raise(UART);
        guest.stop(Exit::SecureInterrupt);
        guest.respond(&request, &[2]);
    });
    bench.boot();
    bench.world().events.clear();
    assert_eq!(bench.request(0x8002, &[]).0[3], 2);
    let limits: Vec<Event> = bench.world().events.iter().filter(|e| matches!(e, Event::TimeLimit(_) | Event::TimeLimitStopped | Event::TimeLimitResumed(_))).cloned().collect();
    let Event::TimeLimitResumed(left) = limits[3] else { panic!("{limits:?}") };
    assert_eq!(limits[..3], [Event::TimeLimit(Some(7)), Event::TimeLimitStopped, Event::TimeLimit(Some(100))]);
    assert_eq!(left, 1001, "what was left when it was stopped");
    assert_eq!(limits[4..], [Event::TimeLimit(None)]);
}
