//! The feature registers (ID_AA64*_EL1) as partitions see them: the core's own, without what a partition may not use.
//!
//! A partition that believed in an extension whose instructions or registers trap would end at its first use. AArch32's
//! feature registers read as zero: there is no AArch32 for partitions.
#![expect(unsafe_code, reason = "each register is read by its encoding")]

use crate::sysreg::read_sysreg;

/// The four bits of a field that starts at `bit`.
const fn field(bit: u32) -> u64 {
    0xf << bit
}

macro_rules! own {
    ($crm:ident, $op2:ident: $($register:literal $number:literal $name:literal,)*) => {
        match ($crm, $op2) {
            $(($register, $number) => read_sysreg!($name),)*
            _ => 0,
        }
    };
}

/// What a partition reads from the register with CRm `crm` and op2 `op2` (op0 3, op1 0, CRn 0).
pub fn shown(crm: u64, op2: u64) -> u64 {
    let own = own!(crm, op2:
        4 0 "S3_0_C0_C4_0", 4 1 "S3_0_C0_C4_1",
        5 0 "S3_0_C0_C5_0",
        6 0 "S3_0_C0_C6_0", 6 1 "S3_0_C0_C6_1", 6 2 "S3_0_C0_C6_2",
        7 0 "S3_0_C0_C7_0", 7 1 "S3_0_C0_C7_1", 7 2 "S3_0_C0_C7_2",
    );
    match (crm, op2) {
        // PFR0: EL0 and EL1 in AArch64 only, no EL2 and EL3; FP, SIMD, GIC, DIT, CSV2 and CSV3 as they are; no RAS, SVE, AMU.
        (4, 0) => 0x11 | own & (field(16) | field(20) | field(24) | field(48) | field(56) | field(60)),
        // PFR1: BTI and SSBS.
        (4, 1) => own & (field(0) | field(4)),
        // DFR0: a debug architecture, of which nothing works; no PMU, no trace.
        (5, 0) => own & field(0),
        // ISAR1: no LS64. ISAR2: no memory copy instructions, which need HCRX_EL2.
        (6, 1) => own & !field(60),
        (6, 2) => own & !field(16),
        // MMFR0: no ECV and FGT. MMFR1: no VHE, LORegions, HCX. MMFR2: no nested virtualisation, no EVT.
        (7, 0) => own & !(field(60) | field(56)),
        (7, 1) => own & !(field(8) | field(16) | field(40)),
        (7, 2) => own & !(field(24) | field(56)),
        (6, 0) => own,
        // The other registers describe SVE, SME, FP8, S1PIE and so on.
        _ => 0,
    }
}
