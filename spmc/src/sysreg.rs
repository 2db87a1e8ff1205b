//! System registers, barriers and TLB maintenance.
//!
//! aarch64-cpu lacks the registers of FEAT_SEL2, of the fine-grained traps and of the secure timers, so all accesses go
//! through one list here: `sysreg::hcr_el2::read()`, `sysreg::hcr_el2::write(value)`. A write is no context
//! synchronisation event: see [`isb`].
#![expect(unsafe_code, reason = "system register access")]

/// Reads a system register by its assembler name; for modules that may hold unsafe code.
macro_rules! read_sysreg {
    ($name:literal) => {{
        let value: u64;
        // SAFETY: reading this register has no side effect on memory; the caller names one that exists at S-EL2.
        unsafe { core::arch::asm!(concat!("mrs {}, ", $name), out(reg) value, options(nostack, preserves_flags)) };
        value
    }};
}

/// Writes a system register by its assembler name; for modules that may hold unsafe code.
macro_rules! write_sysreg {
    ($name:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: the registers written in this crate either belong to a lower exception level, or are set to values
        // that keep S-EL2's own memory mapped as it is.
        unsafe { core::arch::asm!(concat!("msr ", $name, ", {}"), in(reg) value, options(nostack, preserves_flags)) };
    }};
}

pub(crate) use {read_sysreg, write_sysreg};

macro_rules! registers {
    ($($(#[$doc:meta])* $module:ident = $name:literal;)*) => {
        $(
            $(#[$doc])*
            #[allow(dead_code, reason = "both directions are made for every register, not all are used")]
            pub mod $module {
                /// The register's value on this core.
                pub fn read() -> u64 {
                    super::read_sysreg!($name)
                }
                /// Sets the register on this core.
                pub fn write(value: u64) {
                    super::write_sysreg!($name, value)
                }
            }
        )*
    };
}

registers! {
    /// Memory attributes of S-EL2's stage 1.
    mair_el2 = "mair_el2";
    /// Translation control of S-EL2's stage 1.
    tcr_el2 = "tcr_el2";
    /// Root of S-EL2's stage 1.
    ttbr0_el2 = "ttbr0_el2";
    /// S-EL2's system control.
    sctlr_el2 = "sctlr_el2";
    /// Virtual address of the abort that was taken to S-EL2.
    far_el2 = "far_el2";
    /// Page of the stage 2 fault that was taken to S-EL2.
    hpfar_el2 = "hpfar_el2";
    /// This core's index, set by `entry.s`.
    tpidr_el2 = "tpidr_el2";
    /// Traps and routing for the partition on this core.
    hcr_el2 = "hcr_el2";
    /// Extended HCR_EL2 (FEAT_HCX).
    hcrx_el2 = "S3_4_C1_C2_2";
    /// Fine-grained traps of register reads (FEAT_FGT).
    hfgrtr_el2 = "S3_4_C1_C1_4";
    /// Fine-grained traps of register writes.
    hfgwtr_el2 = "S3_4_C1_C1_5";
    /// Fine-grained traps of instructions.
    hfgitr_el2 = "S3_4_C1_C1_6";
    /// Fine-grained traps of debug register reads.
    hdfgrtr_el2 = "S3_4_C3_C1_4";
    /// Fine-grained traps of debug register writes.
    hdfgwtr_el2 = "S3_4_C3_C1_5";
    /// Traps of FP, SVE and SME.
    cptr_el2 = "cptr_el2";
    /// Debug and PMU traps.
    mdcr_el2 = "mdcr_el2";
    /// AArch32 system register traps.
    hstr_el2 = "hstr_el2";
    /// MIDR_EL1 as EL1 sees it.
    vpidr_el2 = "vpidr_el2";
    /// MPIDR_EL1 as EL1 sees it.
    vmpidr_el2 = "vmpidr_el2";
    /// Stage 2 control; NS IPA space.
    vtcr_el2 = "vtcr_el2";
    /// Stage 2 root of the NS IPA space, and VMID.
    vttbr_el2 = "vttbr_el2";
    /// Stage 2 control of the secure IPA space (FEAT_SEL2).
    vstcr_el2 = "S3_4_C2_C6_2";
    /// Stage 2 root of the secure IPA space.
    vsttbr_el2 = "S3_4_C2_C6_0";
    /// What EL1 may do with timers.
    cnthctl_el2 = "cnthctl_el2";
    /// Offset of the virtual counter.
    cntvoff_el2 = "cntvoff_el2";
    /// Secure EL2 physical timer: control.
    cnthps_ctl_el2 = "S3_4_C14_C5_1";
    /// Secure EL2 physical timer: compare value.
    cnthps_cval_el2 = "S3_4_C14_C5_2";
    /// Physical counter.
    cntpct_el0 = "cntpct_el0";
    /// Counter frequency.
    cntfrq_el0 = "cntfrq_el0";
    /// Syndrome of the exception that EL1 took.
    esr_el1 = "esr_el1";
    /// Fault address of the exception that EL1 took.
    far_el1 = "far_el1";
    /// Where the exception that EL1 took came from.
    elr_el1 = "elr_el1";
    /// PSTATE of where it came from.
    spsr_el1 = "spsr_el1";
    /// EL1 virtual timer: control.
    cntv_ctl_el0 = "cntv_ctl_el0";
    /// EL1 virtual timer: compare value.
    cntv_cval_el0 = "cntv_cval_el0";
    /// Processor features 0.
    id_aa64pfr0_el1 = "id_aa64pfr0_el1";
    /// Processor features 1.
    id_aa64pfr1_el1 = "id_aa64pfr1_el1";
    /// Memory model features 0.
    id_aa64mmfr0_el1 = "id_aa64mmfr0_el1";
    /// Memory model features 1.
    id_aa64mmfr1_el1 = "id_aa64mmfr1_el1";
    /// Main id.
    midr_el1 = "midr_el1";
    /// Affinity of this core.
    mpidr_el1 = "mpidr_el1";
    /// GIC: system register access at EL2.
    icc_sre_el2 = "S3_4_C12_C9_5";
    /// GIC: control of this core's interface, secure instance.
    icc_ctlr_el1 = "S3_0_C12_C12_4";
    /// GIC: priority mask.
    icc_pmr_el1 = "S3_0_C4_C6_0";
    /// GIC: acknowledge, group 1.
    icc_iar1_el1 = "S3_0_C12_C12_0";
    /// GIC: highest priority pending interrupt, group 0.
    icc_hppir0_el1 = "S3_0_C12_C8_2";
    /// GIC: end of interrupt (priority drop), group 1.
    icc_eoir1_el1 = "S3_0_C12_C12_1";
    /// GIC: group 1 enable, secure instance.
    icc_igrpen1_el1 = "S3_0_C12_C12_7";
    /// GIC: active priorities of group 1, secure instance.
    icc_ap1r0_el1 = "S3_0_C12_C9_0";
    /// GIC: SGIs for this security state.
    icc_sgi1r_el1 = "S3_0_C12_C11_5";
    /// GIC: SGIs for the other security state.
    icc_asgi1r_el1 = "S3_0_C12_C11_6";
    /// GIC: control of the virtual interface.
    ich_hcr_el2 = "S3_4_C12_C11_0";
    /// SVE vector length limit at EL2.
    zcr_el2 = "S3_4_C1_C2_0";
    /// SME vector length limit at EL2, and FA64.
    smcr_el2 = "S3_4_C1_C2_6";
    /// Streaming mode and ZA.
    svcr = "S3_3_C4_C2_2";
}

/// Orders system register writes before what follows.
pub fn isb() {
    // SAFETY: a barrier.
    unsafe { core::arch::asm!("isb", options(nostack, preserves_flags)) };
}

/// Completes earlier stores and TLB maintenance, for all cores of the inner shareable domain.
pub fn dsb_ish() {
    // SAFETY: a barrier.
    unsafe { core::arch::asm!("dsb ish", options(nostack, preserves_flags)) };
}

/// Invalidates stage 1 and 2 entries of the current VMID, of both IPA spaces, on all cores. The caller orders it with
/// [`dsb_ish`] on both sides.
pub fn tlbi_vmalls12e1is() {
    // SAFETY: TLB maintenance only costs time.
    unsafe { core::arch::asm!("tlbi vmalls12e1is", options(nostack, preserves_flags)) };
}

/// Invalidates S-EL2's own entries on all cores. The caller orders it with [`dsb_ish`] on both sides.
pub fn tlbi_alle2is() {
    // SAFETY: TLB maintenance only costs time.
    unsafe { core::arch::asm!("tlbi alle2is", options(nostack, preserves_flags)) };
}

/// Makes instructions written to memory visible to fetches on all cores.
pub fn invalidate_instruction_caches() {
    // SAFETY: cache maintenance only costs time.
    unsafe { core::arch::asm!("dsb ish", "ic ialluis", "dsb ish", "isb", options(nostack, preserves_flags)) };
}

/// Waits for an interrupt; for a core that has nothing left to do.
pub fn wait_for_interrupt() {
    // SAFETY: the core sleeps and goes on.
    unsafe { core::arch::asm!("wfi", options(nostack, preserves_flags)) };
}
