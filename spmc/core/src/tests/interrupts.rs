//! Secure interrupts to owners in every state, and OP-TEE's paravirtual calls.

use crate::PartitionConfig;
use crate::fake::*;
use crate::machine::Exit;
use arrayvec::ArrayVec;
use bulkhead_ffa::{Regs, Status, Version, function};

const ENABLE: u64 = 0xff03;
const GET: u64 = 0xff04;
const DEACTIVATE: u64 = 0xff08;
const RECONFIGURE: u64 = 0xff09;
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
            assert_eq!(message, Regs::new(&[INTERRUPT]));
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

#[test]
fn a_partition_chooses_the_line_that_an_interrupt_raises() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(owner(), |guest| {
        assert_eq!(guest.call(&[ENABLE, u64::from(UART), 1, 1]).0[0], 0);
        assert_eq!(guest.wait(), Regs::new(&[INTERRUPT]));
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
fn a_blocked_owner_sees_its_interrupt_with_the_answer() {
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
        guest.bench.raise(UART);
        guest.stop(Exit::SecureInterrupt);
        guest.respond(&request, &[3]);
    });
    bench.boot();
    assert_eq!(bench.request(0x8001, &[]).0[3], 3);
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
        assert_eq!(guest.call(&[RECONFIGURE, u64::from(UART), 1, 1]).0[0], u64::MAX, "only the status can be changed");
        assert_eq!(guest.call(&[RECONFIGURE, u64::from(UART), 2, 1]).0[0], 0);
        assert_eq!(guest.call(&[RECONFIGURE, u64::from(UART), 2, 0]).0[0], 0);
        assert_eq!(guest.call(&[GET]).0[..4], [NONE, 0, 0, 0]);
        assert_eq!(guest.call(&[DEACTIVATE, 5, 5]).0[0], 0, "a virtual one");
    });
    bench.add(s_el0(0x8002), |guest| {
        assert_eq!(guest.call(&[GET]).0[0], u64::MAX, "S-EL0 has no interrupt controller");
    });
    assert_eq!(bench.boot(), 0);
    let world = bench.world();
    assert!(world.saw(&Event::Enabled(UART, true)) && world.saw(&Event::Enabled(UART, false)));
    assert!(!world.saw(&Event::Enabled(99, true)));
}
