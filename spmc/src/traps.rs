//! System registers whose accesses trap: what partitions may see of them.
//!
//! Debug, PMU, profiling, trace, interrupt interface, LORegion and error record registers read as zero and ignore writes: a partition finds nothing there,
//! and nothing there needs switching. The physical timer keeps its values and never fires (partitions have the virtual one).

use crate::context::VcpuContext;
use crate::features;
use crate::sysreg;

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

/// CNTP_CTL_EL0: enable, mask, condition met.
const TIMER_WRITABLE: u64 = 3;
const TIMER_MET: u64 = 4;
/// What the acknowledge registers answer where nothing is pending.
const NO_INTERRUPT: u64 = 1023;

/// Whether a trapped access is one to a pointer authentication key.
pub fn is_key(esr: u64) -> bool {
    matches!(Access(esr).register(), (3, 0, 2, 1..=3, _))
}

/// Carries out a trapped access; `false` for a register that partitions do not have.
pub fn emulate(context: &mut VcpuContext) -> bool {
    let access = Access(context.esr);
    let written = if access.is_read() { 0 } else { general(context, access.general_register()) };
    let value = match access.register() {
        // CNTP_TVAL_EL0, CNTP_CTL_EL0, CNTP_CVAL_EL0.
        (3, 3, 14, 2, 0) => {
            let now = sysreg::cntpct_el0::read();
            if !access.is_read() {
                context.cntp_cval = now.wrapping_add(written as u32 as i32 as u64);
            }
            context.cntp_cval.wrapping_sub(now) & 0xffff_ffff
        }
        (3, 3, 14, 2, 1) => {
            if !access.is_read() {
                context.cntp_ctl = written & TIMER_WRITABLE;
            }
            let met = context.cntp_ctl & 1 != 0 && sysreg::cntpct_el0::read() >= context.cntp_cval;
            context.cntp_ctl | if met { TIMER_MET } else { 0 }
        }
        (3, 3, 14, 2, 2) => {
            if !access.is_read() {
                context.cntp_cval = written;
            }
            context.cntp_cval
        }
        (3, 0, 0, register @ 1..=7, n) if access.is_read() => features::shown(register, n),
        // IAR0, HPPIR0, IAR1, HPPIR1: nothing is pending.
        (3, 0, 12, 8 | 12, 0 | 2) => NO_INTERRUPT,
        // The rest of the interrupt interface, but the registers that send interrupts: that a partition cannot must not look
        // as if it could.
        (3, 0, 4, 6, 0) | (3, 0, 12, 8..=10 | 12, _) | (3, 0, 12, 11, 1 | 3) => 0,
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

fn set_general(context: &mut VcpuContext, n: usize, value: u64) {
    match n {
        0..18 => context.regs.0[n] = value,
        18..31 => context.high[n - 18] = value,
        _ => {}
    }
}
