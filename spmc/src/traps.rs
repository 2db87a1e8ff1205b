//! System registers whose accesses trap: what partitions may see of them.
//!
//! Debug, PMU, profiling, trace, LORegion and error record registers read as zero and ignore writes: a partition finds nothing there,
//! and nothing there needs switching. The timers and the GIC's interface are the core logic's to emulate.

use crate::context::VcpuContext;
use crate::features;
use bulkhead_core::interface::{self, Interface};
use bulkhead_core::machine::{Access as Emulated, Register};
use bulkhead_core::timer::{TimerRegister, Which};

/// A trapped access (ISS of class 0x18, Arm ARM D24.2.40).
#[derive(Clone, Copy)]
struct Access(u64);

impl Access {
    /// op0, op1, CRn, CRm, op2.
    const fn register(self) -> (u64, u64, u64, u64, u64) {
        (self.0 >> 20 & 3, self.0 >> 14 & 7, self.0 >> 10 & 0xf, self.0 >> 1 & 0xf, self.0 >> 17 & 7)
    }

    const fn is_read(self) -> bool {
        self.0 & 1 != 0
    }

    const fn general_register(self) -> usize {
        (self.0 >> 5 & 0x1f) as usize
    }
}

/// The register of a trapped access that the core logic emulates.
pub fn emulated_by_core(context: &VcpuContext) -> Option<Emulated> {
    let trapped = Access(context.esr);
    let register = match trapped.register() {
        // CNTP_TVAL_EL0, CNTP_CTL_EL0, CNTP_CVAL_EL0; CNTV_*.
        (3, 3, 14, timer @ 2..=3, register @ 0..=2) => {
            let which = if timer == 2 { Which::Physical } else { Which::Virtual };
            Register::Timer(which, [TimerRegister::Value, TimerRegister::Control, TimerRegister::Compare][register as usize])
        }
        (3, 0, crn, crm, op2) => Register::Interface(Interface::decode(crn, crm, op2)?),
        _ => return None,
    };
    Some(access(context, register, trapped.is_read(), trapped.general_register()))
}

/// An access that was made a call ([`crate::interface_calls`]).
pub fn interface_call(context: &VcpuContext, immediate: u64) -> Option<Emulated> {
    let (register, read, target) = interface::access_of_call(immediate as u32)?;
    Some(access(context, Register::Interface(register), read, usize::from(target)))
}

/// An access of the core logic's, with what is written.
pub fn access(context: &VcpuContext, register: Register, read: bool, target: usize) -> Emulated {
    Emulated { register, write: (!read).then(|| general(context, target)), target: target as u8 }
}

/// Whether a trapped access is one to a pointer authentication key.
pub fn is_key(esr: u64) -> bool {
    matches!(Access(esr).register(), (3, 0, 2, 1..=3, _))
}

/// Carries out a trapped access; `false` for a register that partitions do not have.
pub fn emulate(context: &mut VcpuContext) -> bool {
    let access = Access(context.esr);
    let value = match access.register() {
        (3, 0, 0, register @ 1..=7, n) if access.is_read() => features::shown(register, n),
        // Debug and trace (op0 = 2); profiling; PMU; ACTLR_EL1; TRFCR_EL1; error records; LORegions; SCXTNUM_EL1 and _EL0; TPIDR2_EL0.
        (2, ..)
        | (3, 0, 9, 9..=10, _)
        | (3, 0 | 3, 9, 12..=14, _)
        | (3, 3, 14, 8..=15, _)
        | (3, 0, 1, 0, 1)
        | (3, 0, 1, 2, 1)
        | (3, 0, 5, 3..=5, _)
        | (3, 0, 10, 4, _)
        | (3, 0 | 3, 13, 0, 7)
        | (3, 3, 13, 0, 5) => 0,
        _ => return false,
    };
    if access.is_read() {
        set_general(context, access.general_register(), value);
    }
    true
}

/// x`n`; 31 is the zero register.
fn general(context: &VcpuContext, n: usize) -> u64 {
    match n {
        0..18 => context.regs.0[n],
        18..31 => context.high[n - 18],
        _ => 0,
    }
}

/// Sets x`n`; 31 is the zero register.
pub fn set_general(context: &mut VcpuContext, n: usize, value: u64) {
    match n {
        0..18 => context.regs.0[n] = value,
        18..31 => context.high[n - 18] = value,
        _ => {}
    }
}
