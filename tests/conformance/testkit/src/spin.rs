//! Work that takes time and notices when a register changes meanwhile.
#![expect(unsafe_code, reason = "a loop over all general registers, and the counter")]

core::arch::global_asm!(include_str!("spin.s"));

unsafe extern "C" {
    fn spin_registers(turns: u64, seed: u64) -> u64;
}

/// Turns of the inner loop between two looks at the clock.
const TURNS: u64 = 20_000;

/// Ticks of the virtual counter.
#[must_use]
pub fn ticks() -> u64 {
    let ticks: u64;
    // SAFETY: reads a counter.
    unsafe { core::arch::asm!("isb", "mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack)) };
    ticks
}

/// Ticks in a millisecond.
#[must_use]
pub fn ticks_per_millisecond() -> u64 {
    let frequency: u64;
    // SAFETY: reads a constant.
    unsafe { core::arch::asm!("mrs {}, cntfrq_el0", out(reg) frequency, options(nomem, nostack)) };
    (frequency / 1000).max(1)
}

/// Computes for so long, or until `stop` says so; returns the turns made, and how often a register was not what it should be.
#[must_use]
pub fn spin(milliseconds: u64, seed: u64, stop: impl Fn() -> bool) -> (u64, u64) {
    let end = ticks() + milliseconds * ticks_per_millisecond();
    let (mut turns, mut wrong) = (0, 0);
    loop {
        // SAFETY: a function by the procedure call standard that touches only registers and its own stack frame.
        wrong += unsafe { spin_registers(TURNS, seed) };
        turns += TURNS;
        if ticks() >= end || stop() {
            return (turns, wrong);
        }
    }
}

/// Waits.
pub fn delay(milliseconds: u64) {
    let end = ticks() + milliseconds * ticks_per_millisecond();
    while ticks() < end {
        core::hint::spin_loop();
    }
}
