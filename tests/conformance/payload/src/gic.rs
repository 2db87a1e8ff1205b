//! The normal world's half of the GICv3, and the EL2 physical timer whose interrupts preempt partitions.
#![expect(unsafe_code, reason = "interrupt controller and timer registers")]

use conformance_testkit::spin::ticks_per_millisecond;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const GICD: usize = 0x0800_0000;
const GICR: usize = 0x080A_0000;
const GICR_STRIDE: usize = 0x2_0000;
const GICR_SGI: usize = 0x1_0000;
const GICR_WAKER: usize = 0x14;
const ISENABLER0: usize = 0x100;
const PRIORITIES: usize = 0x400;
/// The EL2 physical timer's private interrupt.
const TIMER: u32 = 26;
/// The SGI that the SPMC raises for notifications.
pub const SCHEDULE_RECEIVER: u32 = 8;
const SPURIOUS: u32 = 1020;

/// Interrupts taken, over all cores: timer, and schedule receiver.
static TIMER_TAKEN: AtomicU64 = AtomicU64::new(0);
static SCHEDULE_TAKEN: AtomicU64 = AtomicU64::new(0);
/// Microseconds between two timer interrupts; 0: one only.
static PERIOD: AtomicU64 = AtomicU64::new(0);
static RUNNING: AtomicBool = AtomicBool::new(false);

fn write32(address: usize, value: u32) {
    // SAFETY: registers of the normal world's view of QEMU virt's GIC.
    unsafe { (address as *mut u32).write_volatile(value) };
}

fn read32(address: usize) -> u32 {
    // SAFETY: as above.
    unsafe { (address as *const u32).read_volatile() }
}

/// Turns on group 1 of the normal world.
pub fn start_distributor() {
    // EnableGrp1 and ARE as the normal world sees them.
    write32(GICD, read32(GICD) | 1 << 1 | 1 << 4);
}

/// This core's redistributor and CPU interface: the timer, and the SGI for notifications.
pub fn start_core(core: usize) {
    let frame = GICR + core * GICR_STRIDE;
    write32(frame + GICR_WAKER, read32(frame + GICR_WAKER) & !2);
    while read32(frame + GICR_WAKER) & 4 != 0 {}
    let sgi = frame + GICR_SGI;
    for interrupt in [SCHEDULE_RECEIVER, TIMER] {
        let address = sgi + PRIORITIES + interrupt as usize;
        // SAFETY: one byte of the priority registers.
        unsafe { (address as *mut u8).write_volatile(0x80) };
    }
    write32(sgi + ISENABLER0, 1 << TIMER | 1 << SCHEDULE_RECEIVER);
    // SAFETY: this core's CPU interface: system registers on, every priority, group 1.
    unsafe {
        core::arch::asm!(
            "mrs {0}, S3_4_C12_C9_5", // ICC_SRE_EL2
            "orr {0}, {0}, #0xf",
            "msr S3_4_C12_C9_5, {0}",
            "isb",
            "mov {0}, #0xff",
            "msr S3_0_C4_C6_0, {0}", // ICC_PMR_EL1
            "mov {0}, #1",
            "msr S3_0_C12_C12_7, {0}", // ICC_IGRPEN1_EL1
            "isb",
            out(reg) _,
            options(nostack)
        );
    }
}

/// Makes the timer fire every `microseconds` on this core, and lets interrupts in.
pub fn start_timer(microseconds: u64) {
    PERIOD.store(microseconds, Ordering::Relaxed);
    RUNNING.store(true, Ordering::Relaxed);
    arm(microseconds);
    crate::board::interrupts(true);
}

/// Makes the timer fire once, later; interrupts stay masked here, so that a partition meets it first.
pub fn start_timer_once(microseconds: u64) {
    PERIOD.store(0, Ordering::Relaxed);
    RUNNING.store(true, Ordering::Relaxed);
    arm(microseconds);
}

/// Stops the timer and masks interrupts again.
pub fn stop_timer() {
    RUNNING.store(false, Ordering::Relaxed);
    crate::board::interrupts(true);
    crate::board::interrupts(false);
    // SAFETY: this core's own timer.
    unsafe { core::arch::asm!("msr cnthp_ctl_el2, xzr", "isb", options(nostack)) };
}

fn arm(microseconds: u64) {
    let ticks = microseconds * ticks_per_millisecond() / 1000;
    // SAFETY: this core's own timer.
    unsafe { core::arch::asm!("msr cnthp_tval_el2, {0}", "msr cnthp_ctl_el2, {1}", "isb", in(reg) ticks, in(reg) 1u64, options(nostack)) };
}

/// Timer interrupts taken so far.
pub fn timer_interrupts() -> u64 {
    TIMER_TAKEN.load(Ordering::Relaxed)
}

/// Notifications of pending notifications taken so far.
pub fn schedule_interrupts() -> u64 {
    SCHEDULE_TAKEN.load(Ordering::Relaxed)
}

/// IRQ or FIQ at EL2.
pub fn handle() {
    loop {
        let interrupt: u64;
        // SAFETY: acknowledges at this core's CPU interface (ICC_IAR1_EL1).
        unsafe { core::arch::asm!("mrs {}, S3_0_C12_C12_0", "dsb sy", out(reg) interrupt, options(nostack)) };
        let id = interrupt as u32;
        if id >= SPURIOUS {
            return;
        }
        match id {
            TIMER => {
                TIMER_TAKEN.fetch_add(1, Ordering::Relaxed);
                let period = PERIOD.load(Ordering::Relaxed);
                if period != 0 && RUNNING.load(Ordering::Relaxed) {
                    arm(period);
                } else {
                    // SAFETY: this core's own timer.
                    unsafe { core::arch::asm!("msr cnthp_ctl_el2, xzr", "isb", options(nostack)) };
                }
            }
            SCHEDULE_RECEIVER => {
                SCHEDULE_TAKEN.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
        // SAFETY: ends what was acknowledged (ICC_EOIR1_EL1).
        unsafe { core::arch::asm!("msr S3_0_C12_C12_1, {}", "isb", in(reg) interrupt, options(nostack)) };
    }
}
