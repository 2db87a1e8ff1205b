//! The benchmark's markers: hints that are NOPs to the CPU, and that the host's plugin sees (`qemu/plugin/count.c`).
#![expect(unsafe_code, reason = "the markers are instructions")]

/// Does `work` between the two markers.
#[inline(always)]
pub fn marked<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: HINT #0x7e does nothing.
    unsafe { core::arch::asm!("hint #0x7e", options(nostack, preserves_flags)) };
    let result = work();
    // SAFETY: HINT #0x7f does nothing.
    unsafe { core::arch::asm!("hint #0x7f", options(nostack, preserves_flags)) };
    result
}
