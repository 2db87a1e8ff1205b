//! The timers of partitions, and the GICv3's interface that they may drive.

use crate::PartitionConfig;
use crate::distributor::Place;
use crate::fake::*;
use crate::interface::Interface;
use crate::machine::{Access, Exit, Register};
use crate::timer::{TimerRegister, Which};
use arrayvec::ArrayVec;
use bulkhead_ffa::{Regs, Version, function};
use std::vec::Vec;

const INTERRUPT: u64 = function::INTERRUPT as u64;
const ENABLE: u64 = 0xff03;
const DEACTIVATE: u64 = 0xff08;
const NONE: u64 = 0xffff_ffff;
const SPURIOUS: u64 = 1023;
const VIRTUAL: u64 = 27;
const PHYSICAL: u64 = 30;
const UART: u64 = 40;

impl Guest {
    fn write(&mut self, register: Register, value: u64) {
        self.stop(Exit::Register(Access { register, write: Some(value), target: 31 }));
    }

    /// x9 gets it.
    fn read(&mut self, register: Register) -> u64 {
        self.emulated(Exit::Register(Access { register, write: None, target: 9 }));
        self.regs().0[9]
    }

    fn set_timer(&mut self, which: Which, register: TimerRegister, value: u64) {
        self.write(Register::Timer(which, register), value);
    }

    fn timer(&mut self, which: Which, register: TimerRegister) -> u64 {
        self.read(Register::Timer(which, register))
    }

    fn set(&mut self, register: Interface, value: u64) {
        self.write(Register::Interface(register), value);
    }

    fn get(&mut self, register: Interface) -> u64 {
        self.read(Register::Interface(register))
    }

    fn enable(&mut self, interrupt: u64) {
        assert_eq!(self.call(&[ENABLE, interrupt, 1, 0]).0[0], 0);
    }

    /// What a driver does at its start.
    fn start_interface(&mut self) {
        assert_eq!(self.get(Interface::SRE) & 1, 1);
        self.set(Interface::PMR, 0xff);
        self.set(Interface::IGRPEN1, 1);
    }

    fn raise_here(&mut self, interrupt: u64) {
        self.bench.raise(interrupt as u32);
        self.stop(Exit::SecureInterrupt);
    }
}

/// A partition on a bench whose counter stands at 1000.
fn bench(config: PartitionConfig, script: impl FnOnce(&mut Guest) + Send + 'static) -> Bench {
    let bench = Bench::new(Version::V1_2);
    bench.world().ticks = 1000;
    bench.add(config, script);
    bench
}

fn owner() -> PartitionConfig {
    let mut priorities = [0; 32];
    (priorities[0], priorities[1]) = (0x40, 0x20);
    PartitionConfig { interrupts: ArrayVec::from_iter([UART as u32, 41]), priorities, ..s_el1(0x8001) }
}

/// The fake hardware's timer has fired in the normal world.
fn at(bench: &mut Bench, ticks: u64) {
    bench.world().ticks = ticks;
    bench.own_interrupt();
}

#[test]
fn timer_registers_read_as_the_architecture_says() {
    let mut bench = bench(s_el1(0x8001), |guest| {
        for which in [Which::Virtual, Which::Physical] {
            guest.set_timer(which, TimerRegister::Value, 500);
            assert_eq!(guest.timer(which, TimerRegister::Compare), 1500);
            assert_eq!(guest.timer(which, TimerRegister::Value), 500);
            guest.set_timer(which, TimerRegister::Value, 0xffff_ff9c);
            assert_eq!(guest.timer(which, TimerRegister::Compare), 900);
            assert_eq!(guest.timer(which, TimerRegister::Value), 0xffff_ff9c);
            assert_eq!(guest.timer(which, TimerRegister::Control), 0);
            guest.set_timer(which, TimerRegister::Control, 0xff);
            assert_eq!(guest.timer(which, TimerRegister::Control), 7);
            guest.set_timer(which, TimerRegister::Compare, 2000);
            assert_eq!(guest.timer(which, TimerRegister::Control), 3);
        }
    });
    assert_eq!(bench.boot(), 0);
    assert_eq!(bench.world().alarms[0], None, "masked ones are not due");
}

#[test]
fn a_timer_reaches_its_waiting_partition() {
    let mut bench = bench(s_el1(0x8001), |guest| {
        guest.enable(VIRTUAL);
        guest.set_timer(Which::Virtual, TimerRegister::Compare, 1500);
        guest.set_timer(Which::Virtual, TimerRegister::Control, 1);
        assert_eq!(guest.wait(), Regs::new(&[INTERRUPT, 0, VIRTUAL]));
        assert!(guest.irq());
        assert_eq!(guest.interrupt(), VIRTUAL);
        guest.set_timer(Which::Virtual, TimerRegister::Control, 0);
        assert_eq!(guest.call(&[DEACTIVATE, VIRTUAL, VIRTUAL]).0[0], 0);
        assert!(!guest.irq());
    });
    bench.boot();
    assert_eq!(bench.world().alarms[0], Some(1500));
    at(&mut bench, 1499);
    assert_eq!(bench.world().alarms[0], Some(1500), "not yet");
    at(&mut bench, 1500);
    assert_eq!(bench.world().alarms[0], None);
}

#[test]
fn the_physical_timer_has_two_numbers() {
    for (number, at) in [(3, 1100), (PHYSICAL, 1200)] {
        let mut bench = bench(s_el1(0x8001), move |guest| {
            guest.enable(number);
            let request = guest.wait();
            guest.set_timer(Which::Physical, TimerRegister::Value, at - 1000);
            guest.set_timer(Which::Physical, TimerRegister::Control, 1);
            guest.bench.world().ticks = at;
            guest.bench.raise_own();
            guest.stop(Exit::SecureInterrupt);
            assert!(guest.irq());
            assert_eq!(guest.interrupt(), number);
            assert_eq!(guest.interrupt(), NONE);
            guest.respond(&request, &[]);
        });
        bench.boot();
        bench.request(0x8001, &[]);
    }
}

#[test]
fn a_timer_that_is_due_at_the_next_entry_needs_no_alarm() {
    let mut bench = bench(s_el1(0x8001), |guest| {
        guest.enable(VIRTUAL);
        guest.set_timer(Which::Virtual, TimerRegister::Compare, 1500);
        guest.set_timer(Which::Virtual, TimerRegister::Control, 1);
        let request = guest.wait();
        assert!(guest.irq());
        guest.respond(&request, &[]);
    });
    bench.boot();
    bench.world().ticks = 1600;
    bench.request(0x8001, &[]);
}

#[test]
fn a_timers_interrupt_is_a_level() {
    let mut bench = bench(s_el1(0x8001), |guest| {
        guest.enable(VIRTUAL);
        guest.set_timer(Which::Virtual, TimerRegister::Compare, 900);
        guest.set_timer(Which::Virtual, TimerRegister::Control, 1);
        assert!(guest.irq(), "at once");
        guest.set_timer(Which::Virtual, TimerRegister::Control, 3);
        assert!(!guest.irq(), "masked before it was taken");
        guest.set_timer(Which::Virtual, TimerRegister::Control, 1);
        assert_eq!(guest.interrupt(), VIRTUAL);
        assert!(!guest.irq());
        guest.call(&[DEACTIVATE, VIRTUAL, VIRTUAL]);
        assert!(guest.irq(), "the condition is still met");
        guest.set_timer(Which::Virtual, TimerRegister::Compare, 1500);
        assert!(!guest.irq());
    });
    assert_eq!(bench.boot(), 0);
}

#[test]
fn the_earliest_timer_sets_the_alarm_and_each_partition_gets_its_own() {
    let mut bench = bench(s_el1(0x8001), |guest| {
        guest.enable(VIRTUAL);
        guest.set_timer(Which::Virtual, TimerRegister::Compare, 1700);
        guest.set_timer(Which::Virtual, TimerRegister::Control, 1);
        assert_eq!(guest.wait().0[2], VIRTUAL);
        guest.call(&[0xff04]);
    });
    bench.add(s_el1(0x8002), |guest| {
        guest.enable(VIRTUAL);
        guest.set_timer(Which::Virtual, TimerRegister::Compare, 1500);
        guest.set_timer(Which::Virtual, TimerRegister::Control, 1);
        assert_eq!(guest.wait().0[2], VIRTUAL);
        guest.call(&[0xff04]);
    });
    bench.boot();
    assert_eq!(bench.world().alarms[0], Some(1500));
    at(&mut bench, 1500);
    assert_eq!(bench.world().alarms[0], Some(1700));
    at(&mut bench, 1700);
    assert_eq!(bench.world().alarms[0], None);
}

#[test]
fn a_reset_turns_timers_off() {
    let mut bench = bench(s_el1(0x8001), |guest| {
        guest.set_timer(Which::Virtual, TimerRegister::Compare, 1500);
        guest.set_timer(Which::Virtual, TimerRegister::Control, 1);
        guest.crash();
    });
    assert_eq!(bench.boot(), 1);
    at(&mut bench, 1500);
    assert_eq!(bench.world().alarms[0], None, "a failed partition has none");
}

#[test]
fn an_interrupt_goes_through_the_interface() {
    let mut bench = bench(owner(), |guest| {
        guest.start_interface();
        assert!(guest.bench.world().saw(&Event::Enabled(UART as u32, true)), "it needs no distributor");
        let message = guest.wait();
        assert_eq!(message, Regs::new(&[INTERRUPT, 0, UART]));
        assert!(guest.irq());
        assert_eq!([guest.get(Interface::HPPIR1), guest.get(Interface::RPR)], [UART, 0xff]);
        assert_eq!(guest.get(Interface::IAR1), UART);
        assert!(!guest.irq());
        assert_eq!([guest.get(Interface::IAR1), guest.get(Interface::RPR)], [SPURIOUS, 0x40]);
        assert!(!guest.bench.world().saw(&Event::Deactivated(UART as u32)));
        guest.set(Interface::EOIR1, UART);
        assert!(guest.bench.world().saw(&Event::Deactivated(UART as u32)));
        assert_eq!(guest.get(Interface::RPR), 0xff);
    });
    bench.boot();
    bench.secure_interrupt(UART as u32);
}

#[test]
fn a_higher_priority_preempts_a_handler_and_an_equal_one_waits() {
    let mut bench = bench(owner(), |guest| {
        guest.start_interface();
        let request = guest.wait();
        guest.raise_here(UART);
        assert_eq!(guest.get(Interface::IAR1), UART);
        guest.raise_here(UART);
        assert!(!guest.irq());
        guest.raise_here(41);
        assert!(guest.irq());
        assert_eq!(guest.get(Interface::IAR1), 41);
        assert_eq!([guest.get(Interface::RPR), guest.get(Interface::AP1R0)], [0x20, 1 << 4 | 1 << 8]);
        guest.set(Interface::EOIR1, 41);
        assert_eq!(guest.get(Interface::RPR), 0x40);
        assert!(!guest.irq());
        guest.set(Interface::EOIR1, UART);
        assert!(guest.irq());
        guest.respond(&request, &[]);
        guest.get(Interface::IAR1);
    });
    bench.boot();
    bench.request(0x8001, &[]);
}

#[test]
fn the_priority_mask_and_the_group_hold_interrupts_back() {
    let mut bench = bench(owner(), |guest| {
        guest.start_interface();
        let request = guest.wait();
        guest.set(Interface::PMR, 0x40);
        guest.raise_here(UART);
        assert!(!guest.irq());
        assert_eq!(guest.get(Interface::IAR1), SPURIOUS);
        guest.set(Interface::PMR, 0x48);
        assert!(guest.irq());
        guest.set(Interface::IGRPEN1, 0);
        assert_eq!([guest.get(Interface::IAR1), guest.get(Interface::IGRPEN1)], [SPURIOUS, 0]);
        guest.set(Interface::IGRPEN1, 1);
        assert_eq!(guest.get(Interface::IAR1), UART);
        guest.respond(&request, &[]);
    });
    bench.boot();
    bench.request(0x8001, &[]);
}

#[test]
fn split_end_of_interrupt_leaves_deactivation_to_dir() {
    let mut bench = bench(owner(), |guest| {
        guest.set(Interface::CTLR, 2);
        assert_eq!(guest.get(Interface::CTLR) & 3, 2);
        guest.start_interface();
        let request = guest.wait();
        guest.raise_here(UART);
        guest.get(Interface::IAR1);
        guest.set(Interface::EOIR1, UART);
        assert_eq!(guest.get(Interface::RPR), 0xff);
        assert!(!guest.bench.world().saw(&Event::Deactivated(UART as u32)));
        guest.set(Interface::DIR, UART);
        assert!(guest.bench.world().saw(&Event::Deactivated(UART as u32)));
        guest.respond(&request, &[]);
    });
    bench.boot();
    bench.request(0x8001, &[]);
}

#[test]
fn a_partition_cannot_end_what_is_not_its_own() {
    let mut bench = bench(owner(), |guest| {
        guest.start_interface();
        guest.set(Interface::EOIR1, 99);
        guest.set(Interface::EOIR1, SPURIOUS);
        guest.set(Interface::EOIR1, UART);
    });
    bench.boot();
    let touched = bench.world().events.iter().any(|event| matches!(event, Event::Deactivated(_)));
    assert!(!touched, "what is not active is not deactivated either");
}

#[test]
fn binary_points_have_a_least_value_and_decide_on_preemption() {
    let mut bench = bench(owner(), |guest| {
        guest.start_interface();
        assert_eq!([guest.get(Interface::BPR0), guest.get(Interface::BPR1)], [2, 3]);
        guest.set(Interface::BPR1, 7);
        assert_eq!(guest.get(Interface::BPR1), 7);
        let request = guest.wait();
        guest.raise_here(UART);
        guest.get(Interface::IAR1);
        guest.raise_here(41);
        assert!(!guest.irq(), "the same group priority");
        guest.set(Interface::BPR1, 3);
        assert!(guest.irq());
        guest.respond(&request, &[]);
        guest.get(Interface::IAR1);
    });
    bench.boot();
    bench.request(0x8001, &[]);
}

#[test]
fn software_interrupts_go_to_the_vcpus_of_the_list() {
    let mut bench = bench(PartitionConfig { vcpus: 3, ..owner() }, |guest| {
        let own = SECURE_MEMORY;
        guest.call(&[u64::from(function::SECONDARY_EP_REGISTER_64), own]);
        guest.start_interface();
        let request = guest.wait();
        // Interrupt 2 to vCPU 0 and 1; 3 to all others; one to another cluster.
        guest.set(Interface::SGI1R, 2 << 24 | 0b11);
        assert_eq!(guest.get(Interface::IAR1), 2);
        guest.set(Interface::EOIR1, 2);
        guest.set(Interface::SGI1R, 1 << 40 | 3 << 24);
        guest.set(Interface::SGI1R, 4 << 24 | 1 << 16 | 1);
        assert_eq!(guest.get(Interface::IAR1), SPURIOUS);
        guest.respond(&request, &[]);
    });
    for index in 1..3 {
        bench.script(0, index, move |guest| {
            guest.start_interface();
            assert_eq!(guest.wait().0[0], INTERRUPT);
            for expected in if index == 1 { [2, 3] } else { [3, SPURIOUS] } {
                assert_eq!(guest.get(Interface::IAR1), expected);
                guest.set(Interface::EOIR1, expected);
            }
        });
    }
    bench.boot();
    for core in 1..3 {
        bench.on(core).core_on();
    }
    bench.request(0x8001, &[]);
    for core in 1..3 {
        assert!(bench.world().saw(&Event::Interrupted(core)));
        bench.on(core).own_interrupt();
    }
}

#[test]
fn a_timer_reaches_a_driver_of_the_interface() {
    let mut bench = bench(owner(), |guest| {
        guest.start_interface();
        guest.set_timer(Which::Virtual, TimerRegister::Value, 10);
        guest.set_timer(Which::Virtual, TimerRegister::Control, 1);
        assert_eq!(guest.wait(), Regs::new(&[INTERRUPT, 0, VIRTUAL]));
        assert_eq!(guest.get(Interface::IAR1), VIRTUAL);
        guest.set_timer(Which::Virtual, TimerRegister::Control, 0);
        guest.set(Interface::EOIR1, VIRTUAL);
        assert!(!guest.irq());
    });
    bench.boot();
    at(&mut bench, 1010);
}

/// The same with a distributor.
fn whole() -> PartitionConfig {
    PartitionConfig { distributor: true, vcpus: 2, ..owner() }
}

impl Guest {
    fn place(redistributor: Option<u8>, offset: u32) -> Register {
        Register::Distributor(Place { redistributor, offset, bytes: 4 })
    }

    fn see(&mut self, redistributor: Option<u8>, offset: u32) -> u64 {
        self.read(Self::place(redistributor, offset))
    }

    fn put(&mut self, redistributor: Option<u8>, offset: u32, value: u64) {
        self.write(Self::place(redistributor, offset), value);
    }
}

#[test]
fn a_partition_drives_the_whole_controller() {
    let mut bench = bench(whole(), |guest| {
        // As a driver starts: what is there, then its interrupts.
        assert_eq!(guest.see(None, 0xffe8) >> 4, 3, "revision");
        assert_eq!(guest.see(None, 0), 0x37);
        assert_eq!([guest.see(Some(0), 8), guest.see(Some(1), 8), guest.see(Some(1), 0xc)], [0, 0x110, 1]);
        assert_eq!(guest.read(Register::Distributor(Place { redistributor: Some(1), offset: 8, bytes: 8 })), 1 << 32 | 0x110);
        guest.put(Some(0), 0x14, 0);
        assert_eq!(guest.see(Some(0), 0x14), 0, "awake");
        guest.start_interface();
        assert!(!guest.bench.world().saw(&Event::Enabled(UART as u32, true)));
        // All of its word are written, its own change.
        guest.put(None, 0x104, 0xffff_ffff);
        assert_eq!(guest.see(None, 0x104), 0b11 << 8);
        assert_eq!(guest.see(None, 0x184), 0b11 << 8);
        guest.put(None, 0x184, 1 << 9);
        assert_eq!(guest.see(None, 0x104), 1 << 8);
        assert!(guest.bench.world().saw(&Event::Enabled(41, false)));
        assert_eq!(guest.see(None, 0x108), 0);
        // Priorities, by word and by byte.
        assert_eq!(guest.see(None, 0x428), 0x2040);
        guest.write(Register::Distributor(Place { redistributor: None, offset: 0x428, bytes: 1 }), 0x1_70);
        assert_eq!(guest.see(None, 0x428), 0x2070);
        // The private ones: SGIs, the timers.
        guest.put(Some(0), 0x1_0100, 1 << 27 | 1 << 30 | 0xffff);
        assert_eq!(guest.see(Some(0), 0x1_0100), 1 << 27 | 1 << 30 | 0xffff);
        assert_eq!([guest.see(None, 0x100), guest.see(Some(1), 0x1_0100) & 1 << 27, guest.see(Some(2), 0x1_0100)], [0, 0, 0]);
        // Routing.
        guest.put(None, 0x6000 + 8 * 40, 1);
        guest.put(None, 0x6000 + 8 * 40, 2);
        guest.put(None, 0x6000 + 8 * 99, 1);
        let routed: Vec<Event> = guest.bench.world().events.iter().filter(|e| matches!(e, Event::Routed(_, 1 | 2))).cloned().collect();
        assert_eq!(routed, [Event::Routed(UART as u32, 1)]);
        // By software, and the active state.
        let request = guest.wait();
        guest.put(None, 0x204, 1 << 8);
        assert_eq!(guest.see(None, 0x204), 1 << 8);
        assert!(guest.irq());
        assert_eq!(guest.get(Interface::IAR1), UART);
        assert_eq!([guest.see(None, 0x204), guest.see(None, 0x304)], [0, 1 << 8]);
        guest.put(None, 0x384, 1 << 8);
        assert_eq!(guest.see(None, 0x304), 0);
        guest.put(None, 0x204, 1 << 8);
        guest.put(None, 0x284, 1 << 8);
        assert!(!guest.irq());
        guest.respond(&request, &[]);
    });
    bench.boot();
    bench.request(0x8001, &[]);
    assert_eq!(bench.spmc.partition(0).expect("there").0.has_failed(), false);
}
