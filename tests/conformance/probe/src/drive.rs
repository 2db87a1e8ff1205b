//! An interrupt driver at S-EL1: by paravirtual calls, or, once it was told so, by the registers of a GICv3; and the timers.
#![expect(unsafe_code, reason = "system registers, and the controller's own")]

use crate::place::{MAX_VCPUS, id, vcpu};
use bulkhead_sdk::ffa::{EndpointId, Regs, Uuid, function};
use bulkhead_sdk::message::{self, Convention};
use bulkhead_sdk::{call, interrupts};
use conformance_testkit::spin::{ticks, ticks_per_millisecond};
use conformance_testkit::{Command, Drive};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

macro_rules! read {
    ($register:literal) => {{
        let value: u64;
        // SAFETY: a register of this level's own.
        unsafe { core::arch::asm!(concat!("mrs {}, ", $register), out(reg) value, options(nostack)) };
        value
    }};
}

macro_rules! write {
    ($register:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: a register of this level's own, which nothing but this driver relies on.
        unsafe { core::arch::asm!(concat!("msr ", $register, ", {}"), "isb", in(reg) value, options(nostack)) };
    }};
}

/// Interrupts taken, the last one, and when.
struct Log {
    taken: AtomicU64,
    last: AtomicU64,
    at: AtomicU64,
    by_interface: AtomicBool,
    split: AtomicBool,
}

static LOGS: [Log; MAX_VCPUS] = [const {
    Log { taken: AtomicU64::new(0), last: AtomicU64::new(0), at: AtomicU64::new(0), by_interface: AtomicBool::new(false), split: AtomicBool::new(false) }
}; MAX_VCPUS];

/// ICC_IAR1_EL1 from here on: nothing is pending.
const SPECIAL: u64 = 1020;

fn log() -> &'static Log {
    &LOGS[vcpu()]
}

/// Takes the next pending interrupt.
pub fn take() -> Option<u32> {
    let log = log();
    let interrupt = if log.by_interface.load(Ordering::Relaxed) {
        let id = read!("S3_0_C12_C12_0"); // ICC_IAR1_EL1
        (id < SPECIAL).then_some(id as u32)
    } else {
        interrupts::take()
    }?;
    note(interrupt);
    Some(interrupt)
}

/// Remembers that an interrupt was taken, now.
pub fn note(interrupt: u32) {
    let log = log();
    log.last.store(u64::from(interrupt), Ordering::Relaxed);
    log.at.store(ticks(), Ordering::Relaxed);
    log.taken.fetch_add(1, Ordering::Relaxed);
}

/// What [`Drive::TAKEN`] answers.
pub fn log_of_this_vcpu() -> [u64; 4] {
    let log = log();
    [log.taken.load(Ordering::Relaxed), log.last.load(Ordering::Relaxed), log.at.load(Ordering::Relaxed), ticks()]
}

/// Ends the handling of an interrupt.
pub fn end(interrupt: u32) {
    let log = log();
    if !log.by_interface.load(Ordering::Relaxed) {
        return interrupts::deactivate(interrupt);
    }
    write!("S3_0_C12_C12_1", u64::from(interrupt)); // ICC_EOIR1_EL1
    if log.split.load(Ordering::Relaxed) {
        write!("S3_0_C12_C11_1", u64::from(interrupt)); // ICC_DIR_EL1
    }
}

/// Turns the timer off whose interrupt this is.
pub fn silence_timer(interrupt: u32) {
    match interrupt {
        27 => write!("cntv_ctl_el0", 0),
        3 | 30 => write!("cntp_ctl_el0", 0),
        _ => {}
    }
}

fn taken() -> u64 {
    log().taken.load(Ordering::Relaxed)
}

/// Computes for so long, or until an interrupt was taken.
fn compute(milliseconds: u64) {
    let (before, end) = (taken(), ticks() + milliseconds * ticks_per_millisecond());
    while taken() == before && ticks() < end {
        core::hint::spin_loop();
    }
}

/// What an interrupt driver is told to do.
pub fn drive(p: &[u64; 14]) -> [u64; 4] {
    match p[1] {
        Drive::BY_INTERFACE => {
            log().by_interface.store(true, Ordering::Relaxed);
            log().split.store(p[2] & 2 != 0, Ordering::Relaxed);
            write!("S3_0_C12_C12_4", p[2]); // ICC_CTLR_EL1
            write!("S3_0_C4_C6_0", 0xff); // ICC_PMR_EL1
            write!("S3_0_C12_C12_7", 1); // ICC_IGRPEN1_EL1
            // SAFETY: unmasks IRQs at EL1; the vectors save what the handler changes.
            unsafe { core::arch::asm!("msr daifclr, #2", options(nostack)) };
            [read!("S3_0_C12_C12_5"), 0, 0, 0]
        }
        Drive::TIMER => {
            let ticks = p[3] * ticks_per_millisecond();
            let before = taken();
            if p[2] == 0 {
                write!("cntv_tval_el0", ticks);
                write!("cntv_ctl_el0", 1);
            } else {
                write!("cntp_tval_el0", ticks);
                write!("cntp_ctl_el0", 1);
            }
            if taken() == before {
                compute(p[4]);
            }
            [1, taken() - before, 0, 0]
        }
        Drive::TAKEN => log_of_this_vcpu(),
        Drive::SEND => {
            write!("S3_0_C12_C11_5", p[2]);
            [1, 0, 0, 0]
        }
        Drive::READ => {
            let value = match p[2] {
                0 => read!("S3_0_C4_C6_0"),
                1 => read!("S3_0_C12_C11_3"),
                2 => read!("S3_0_C12_C12_2"),
                3 => read!("S3_0_C12_C12_3"),
                4 => read!("S3_0_C12_C12_4"),
                _ => read!("S3_0_C12_C12_7"),
            };
            [value, 0, 0, 0]
        }
        Drive::MASK => {
            write!("S3_0_C4_C6_0", p[2]);
            [1, 0, 0, 0]
        }
        Drive::FORWARD => forward(EndpointId(p[2] as u16), p[3]),
        Drive::WORD => {
            let word = p[2] as *mut u32;
            if p[3] != 0 {
                // SAFETY: a register of the controller that the manifest gives to this partition.
                unsafe { word.write_volatile(p[4] as u32) };
            }
            // SAFETY: as above.
            [1, u64::from(unsafe { word.read_volatile() }), 0, 0]
        }
        Drive::COMPUTE => {
            compute(p[2]);
            [1, 0, 0, 0]
        }
        Drive::ADMIT => {
            // SAFETY: the interrupt mask of this level; the vectors save what the handler changes.
            unsafe {
                if p[2] != 0 {
                    core::arch::asm!("msr daifclr, #2", options(nostack));
                } else {
                    core::arch::asm!("msr daifset, #2", options(nostack));
                }
            }
            [1, 0, 0, 0]
        }
        _ => [0; 4],
    }
}

fn forward(target: EndpointId, milliseconds: u64) -> [u64; 4] {
    let before = taken();
    let sent = [Command::Spin as u64, milliseconds, 1, 0, 0];
    let mut reply = call(message::request(Convention::Direct64, id(), target, Uuid::NIL, &sent));
    let mut interrupted = 0;
    while matches!(reply.function(), function::INTERRUPT) {
        interrupted += 1;
        reply = call(Regs::new(&[u64::from(function::RUN), u64::from(target.0) << 16]));
    }
    [interrupted, u64::from(reply.function()), taken() - before, reply.0[3]]
}
