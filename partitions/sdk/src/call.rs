//! Calls to whoever is above: the SPMC, or EL3.
#![expect(unsafe_code, reason = "the instructions that make calls")]

use bulkhead_ffa::Regs;

core::arch::global_asm!(include_str!("entry.s"));

unsafe extern "C" {
    fn conduit(regs: *mut Regs);
    fn conduit_hvc(regs: *mut Regs);
    fn conduit_smc(regs: *mut Regs);
    fn conduit_svc(regs: *mut Regs);
    fn s_el1_secondary_start();
    fn ns_el2_secondary_start();
}

/// Makes a call with x0 to x17 and returns x0 to x17 after it; by SVC, HVC or SMC as the linker script says.
pub fn call(mut regs: Regs) -> Regs {
    // SAFETY: `regs` is a live, exclusive array of 18 registers; whoever is called preserves x18 to x30, and changes no
    // memory of this program but what it was given by address, which Rust reaches through volatile accesses only.
    unsafe { conduit(&raw mut regs) };
    regs
}

/// As [`call()`], by HVC.
pub fn call_by_hvc(mut regs: Regs) -> Regs {
    // SAFETY: as in `call`.
    unsafe { conduit_hvc(&raw mut regs) };
    regs
}

/// As [`call()`], by SMC.
pub fn call_by_smc(mut regs: Regs) -> Regs {
    // SAFETY: as in `call`.
    unsafe { conduit_smc(&raw mut regs) };
    regs
}

/// As [`call()`], by SVC: for S-EL0.
pub fn call_by_svc(mut regs: Regs) -> Regs {
    // SAFETY: as in `call`.
    unsafe { conduit_svc(&raw mut regs) };
    regs
}

/// Where a secondary vCPU (S-EL1: FFA_SECONDARY_EP_REGISTER) or core (normal world: PSCI CPU_ON) enters this program.
#[must_use]
pub fn secondary_entry(normal_world: bool) -> u64 {
    let entry: unsafe extern "C" fn() = if normal_world { ns_el2_secondary_start } else { s_el1_secondary_start };
    entry as usize as u64
}
