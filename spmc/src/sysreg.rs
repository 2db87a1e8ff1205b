//! System registers and barriers.
//!
//! aarch64-cpu lacks the registers of FEAT_SEL2 and of the fine-grained traps, so all accesses go through two macros
//! that take the assembler's name (or the S<op0>_... form) of a register.
#![expect(unsafe_code, reason = "system register access")]

/// Reads a system register by its assembler name.
#[macro_export]
macro_rules! read_sysreg {
    ($name:literal) => {{
        let value: u64;
        // SAFETY: reading this register has no side effect on memory; the caller names one that exists at S-EL2.
        unsafe { core::arch::asm!(concat!("mrs {}, ", $name), out(reg) value, options(nostack, preserves_flags)) };
        value
    }};
}

/// Writes a system register by its assembler name. Not a context synchronisation event: see [`isb`].
#[macro_export]
macro_rules! write_sysreg {
    ($name:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: the registers written in this crate either belong to a lower exception level, or are set to values
        // that keep S-EL2's own memory mapped as it is.
        unsafe { core::arch::asm!(concat!("msr ", $name, ", {}"), in(reg) value, options(nostack, preserves_flags)) };
    }};
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

/// Invalidates stage 1 and 2 entries of the current VMID on all cores. The caller orders it with [`dsb_ish`] on both sides.
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
