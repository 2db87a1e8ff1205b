//! Time, by the counter that every exception level may read.
#![expect(unsafe_code, reason = "reads of the counter")]

/// A moment in the future.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(u64);

impl Deadline {
    /// So many seconds from now.
    pub fn after(seconds: u64) -> Self {
        let frequency: u64;
        // SAFETY: reads a constant.
        unsafe { core::arch::asm!("mrs {}, cntfrq_el0", out(reg) frequency, options(nomem, nostack)) };
        Self(ticks() + seconds * frequency)
    }

    /// Whether it has come.
    pub fn passed(self) -> bool {
        ticks() >= self.0
    }
}

fn ticks() -> u64 {
    let ticks: u64;
    // SAFETY: reads the counter; the barrier keeps it from being read before what comes before.
    unsafe { core::arch::asm!("isb", "mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack)) };
    ticks
}
