//! x0 to x7 of a call or of its reply: most have no more.

use crate::{Status, function};

/// x0 to x7. A 32-bit call uses the low halves.
pub type Message = [u64; 8];

/// A message that starts with `x`; the other registers are zero.
#[must_use]
pub fn new(x: &[u64]) -> Message {
    let mut message = [0; 8];
    message[..x.len()].copy_from_slice(x);
    message
}

/// FFA_SUCCESS (32-bit) with `results` from x2 on.
#[must_use]
pub fn success(results: &[u64]) -> Message {
    let mut message = new(&[function::SUCCESS_32 as u64]);
    message[2..2 + results.len()].copy_from_slice(results);
    message
}

/// FFA_ERROR with `status`.
#[must_use]
pub fn error(status: Status) -> Message {
    new(&[function::ERROR as u64, 0, status.code()])
}
