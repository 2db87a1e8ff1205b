//! The core and the machine: PSCI, vector registers, interrupts masked or not.
#![expect(unsafe_code, reason = "system registers")]

use bulkhead_sdk::call_by_smc;
use bulkhead_sdk::ffa::Regs;

const CPU_ON: u64 = 0xC400_0003;
const CPU_OFF: u64 = 0x8400_0002;
const SYSTEM_OFF: u64 = 0x8400_0008;
const SYSTEM_RESET: u64 = 0x8400_0009;

/// CPTR_EL2 without E2H: RES1 bits, nothing trapped.
const NOTHING_TRAPPED: u64 = 0x22ff;
/// SCTLR_EL2: RES1 bits, MMU and caches off.
const SCTLR_EL2: u64 = 0x30c5_0830;

/// Makes FP/SIMD, SVE and SME usable at this level, each at its full length, and enables pointer authentication keys.
pub fn enable_vectors() {
    // SAFETY: this program's own controls; nothing of it depends on what they trap.
    unsafe {
        core::arch::asm!("msr sctlr_el2, {0}", "msr cptr_el2, {1}", "isb", in(reg) SCTLR_EL2, in(reg) NOTHING_TRAPPED, options(nostack));
        if has_sve() {
            // ZCR_EL2
            core::arch::asm!("msr S3_4_C1_C2_0, {0}", "isb", in(reg) 0xfu64, options(nostack));
        }
        if has_sme() {
            // SMCR_EL2
            core::arch::asm!("msr S3_4_C1_C2_6, {0}", "isb", in(reg) 0xfu64, options(nostack));
        }
    }
}

/// Whether the CPU has SVE.
pub fn has_sve() -> bool {
    let features: u64;
    // SAFETY: an identification register.
    unsafe { core::arch::asm!("mrs {}, id_aa64pfr0_el1", out(reg) features, options(nomem, nostack)) };
    features >> 32 & 0xf != 0
}

/// Whether the CPU has SME.
pub fn has_sme() -> bool {
    let features: u64;
    // SAFETY: an identification register.
    unsafe { core::arch::asm!("mrs {}, id_aa64pfr1_el1", out(reg) features, options(nomem, nostack)) };
    features >> 24 & 0xf != 0
}

/// Lets interrupts in, or not.
pub fn interrupts(on: bool) {
    // SAFETY: the vectors save what the handler changes.
    unsafe {
        if on {
            core::arch::asm!("msr daifclr, #3", options(nostack));
        } else {
            core::arch::asm!("msr daifset, #3", options(nostack));
        }
    }
}

/// Sleeps until an interrupt is pending for this core, in whichever world: masked here or not.
pub fn wait_for_interrupt() {
    // SAFETY: it changes nothing.
    unsafe { core::arch::asm!("wfi", options(nomem, nostack, preserves_flags)) };
}

/// PSCI CPU_ON: the core enters `entry` with `argument` in x0.
pub fn cpu_on(core: usize, entry: u64, argument: u64) -> bool {
    call_by_smc(Regs::new(&[CPU_ON, core as u64, entry, argument])).w(0) == 0
}

/// PSCI CPU_OFF: does not return where it succeeds.
pub fn cpu_off() {
    let _ = call_by_smc(Regs::new(&[CPU_OFF]));
}

/// PSCI SYSTEM_OFF.
pub fn power_off() -> ! {
    loop {
        let _ = call_by_smc(Regs::new(&[SYSTEM_OFF]));
    }
}

/// PSCI SYSTEM_RESET.
pub fn reset() -> ! {
    loop {
        let _ = call_by_smc(Regs::new(&[SYSTEM_RESET]));
    }
}

/// Where the firmware enters this program.
const ENTRY: usize = 0x6000_0000;

/// Enters this program anew, without the firmware.
pub fn start_again() -> ! {
    // SAFETY: the entry code takes nothing over from before.
    unsafe { core::arch::asm!("br {}", in(reg) ENTRY, options(noreturn)) }
}
