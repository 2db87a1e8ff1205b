//! The paravirtual interrupt calls of an S-EL1 partition (Hafnium's numbers, which OP-TEE uses too).

use crate::call_by_hvc;
use bulkhead_ffa::Regs;

const ENABLE: u64 = 0xff03;
const GET: u64 = 0xff04;
const DEACTIVATE: u64 = 0xff08;
const NONE: u32 = 0xffff_ffff;

/// Lets a virtual or physical interrupt of this partition's reach this vCPU, or not. `false`: refused.
#[must_use]
pub fn enable(interrupt: u32, enable: bool) -> bool {
    call_by_hvc(Regs::new(&[ENABLE, u64::from(interrupt), u64::from(enable), 0])).0[0] == 0
}

/// Takes the next pending interrupt.
#[must_use]
pub fn take() -> Option<u32> {
    let id = call_by_hvc(Regs::new(&[GET])).w(0);
    (id != NONE).then_some(id)
}

/// Ends the handling of a physical interrupt.
pub fn deactivate(interrupt: u32) {
    let _ = call_by_hvc(Regs::new(&[DEACTIVATE, u64::from(interrupt), u64::from(interrupt)]));
}
