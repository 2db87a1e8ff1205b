//! Accesses to any address, for programs that probe what they may reach.
#![expect(unsafe_code, reason = "accesses to addresses that come from outside")]

unsafe extern "C" {
    fn attempt_read(address: u64, unused: u64, result: *mut u64) -> u64;
    fn attempt_write(address: u64, value: u64, unused: *mut u64) -> u64;
    fn attempt_execute(address: u64, unused: u64, unused2: *mut u64) -> u64;
}

/// Reads eight bytes; `None` after a fault that this program sees itself.
///
/// # Safety
/// Reading `address` must have no effect that this program does not want (device registers).
#[must_use]
pub unsafe fn read(address: u64) -> Option<u64> {
    let mut value = 0;
    // SAFETY: `value` is live and exclusive; the caller vouches for the address, and a fault is caught.
    (unsafe { attempt_read(address, 0, &raw mut value) } == 0).then_some(value)
}

/// Writes eight bytes; `None` after a fault that this program sees itself.
///
/// # Safety
/// Nothing that Rust knows of may lie at `address`.
#[must_use]
pub unsafe fn write(address: u64, value: u64) -> Option<()> {
    // SAFETY: the caller vouches for the address, and a fault is caught.
    (unsafe { attempt_write(address, value, core::ptr::null_mut()) } == 0).then_some(())
}

/// Calls `address`; `None` when nothing could be fetched there and this program saw the fault.
///
/// # Safety
/// If there is code at `address`, it must be a function without arguments that returns.
#[must_use]
pub unsafe fn execute(address: u64) -> Option<()> {
    // SAFETY: the caller vouches for the code, and a fault of the fetch is caught.
    (unsafe { attempt_execute(address, 0, core::ptr::null_mut()) } == 0).then_some(())
}
