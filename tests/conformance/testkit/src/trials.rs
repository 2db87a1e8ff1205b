//! FFA_VERSION before any other call: what is asked while the version may still change.

use bulkhead_sdk::call;
use bulkhead_sdk::ffa::{Regs, function};

/// Versions that are asked for, in this order: bit 31 set, another major version twice, a later minor, and each that there is.
pub const ASKED: [u32; 7] = [0x8001_0002, 0x2_0000, 0x0_0001, 0x1_0003, 0x1_0000, 0x1_0001, 0x1_0002];

/// Asks for each; the caller settles its own version afterwards.
#[must_use]
pub fn ask_versions() -> [u32; ASKED.len()] {
    ASKED.map(|version| call(Regs::new(&[function::VERSION.into(), version.into()])).w(0))
}
