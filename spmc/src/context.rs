//! What a vCPU consists of while it does not run, and the EL1 registers of a whole world.
//!
//! | state | who saves it | when |
//! |---|---|---|
//! | x0 to x30, PC, PSTATE | `enter_guest` | every entry and exit |
//! | [`Common`]: the EL1 and EL0 registers that matter while EL0 runs | [`crate::cpu`] | when another vCPU or the normal world needs the core |
//! | [`El1Only`]: those that nothing below EL1 sees or changes | the same | when another vCPU at S-EL1 or the normal world needs the core |
//! | [`Keys`]: pointer authentication | the same | lazily, by trap; of a vCPU that has used them, with [`Common`] |
//! | FP/SIMD, and SVE of the normal world | `simd` | lazily, by trap |
//! | EL2 registers of the normal world | EL3 | every world switch |
//!
//! Registers that a partition may not write because their accesses trap (debug, PMU, SVE, SME, MTE, SCXTNUM, TPIDR2,
//! ACTLR, timers) need no place here.
#![expect(unsafe_code, reason = "entry into partitions, and the save areas that assembly fills")]

use bulkhead_core::{MAX_CORES, MAX_PARTITIONS, VcpuId};
use bulkhead_ffa::Regs;
use core::cell::UnsafeCell;
use core::mem::offset_of;

core::arch::global_asm!(include_str!("entry.s"));
core::arch::global_asm!(include_str!("mem.s"));

/// PSTATE at entry: EL1 with its own stack pointer, everything masked.
pub const PSTATE_EL1H: u64 = 0x3c5;
/// SCTLR_EL1 with the MMU off: its RES1 bits.
pub const SCTLR_RESET: u64 = 0x30d0_0800;

/// Registers that move together: saved and loaded in pairs, as the core stores and loads them.
macro_rules! register_group {
    ($(#[$doc:meta])* $group:ident = $pairs:literal; $($first:literal $second:literal,)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        #[repr(transparent)]
        pub struct $group([[u64; 2]; $pairs]);

        impl $group {
            /// All zero, as a vCPU starts.
            pub const ZERO: Self = Self([[0; 2]; $pairs]);

            /// Reads this core's registers.
            #[inline]
            pub fn save(&mut self) {
                const { assert!([$($first),*].len() == $pairs) };
                // SAFETY: reading these registers has no side effect; the pointer runs over all of `self` and not beyond.
                unsafe {
                    core::arch::asm!(
                        $(concat!("mrs {a}, ", $first), concat!("mrs {b}, ", $second), "stp {a}, {b}, [{at}], #16",)*
                        a = out(reg) _, b = out(reg) _, at = inout(reg) self.0.as_mut_ptr() => _,
                        options(nostack, preserves_flags)
                    );
                }
            }

            /// Writes this core's registers.
            #[inline]
            pub fn load(&self) {
                // SAFETY: these registers belong to lower exception levels; the pointer runs over all of `self` and not beyond.
                unsafe {
                    core::arch::asm!(
                        $("ldp {a}, {b}, [{at}], #16", concat!("msr ", $first, ", {a}"), concat!("msr ", $second, ", {b}"),)*
                        a = out(reg) _, b = out(reg) _, at = inout(reg) self.0.as_ptr() => _,
                        options(nostack, preserves_flags, readonly)
                    );
                }
            }
        }
    };
}

register_group! {
    /// What EL0 sees or changes, or what decides how it runs. The first pair is all that a program at S-EL0 can change for
    /// good: the others it changes by exceptions to EL1 only, which nobody at EL1 remembers.
    Common = 8;
    "sp_el0" "tpidr_el0",
    "sctlr_el1" "cpacr_el1",
    "ttbr0_el1" "tcr_el1",
    "mair_el1" "amair_el1",
    "vbar_el1" "cntkctl_el1",
    // A pair of one.
    "tpidrro_el0" "tpidrro_el0",
    "elr_el1" "spsr_el1",
    "esr_el1" "far_el1",
}

register_group! {
    /// What only EL1 uses. While a partition at S-EL0 runs, they stay whose they are.
    El1Only = 4;
    "ttbr1_el1" "tpidr_el1",
    "sp_el1" "par_el1",
    "afsr0_el1" "afsr1_el1",
    "csselr_el1" "contextidr_el1",
}

register_group! {
    /// Pointer authentication keys, APIA to APGA: by encoding, as the baseline target does not name them.
    Keys = 5;
    "S3_0_C2_C1_0" "S3_0_C2_C1_1",
    "S3_0_C2_C1_2" "S3_0_C2_C1_3",
    "S3_0_C2_C2_0" "S3_0_C2_C2_1",
    "S3_0_C2_C2_2" "S3_0_C2_C2_3",
    "S3_0_C2_C3_0" "S3_0_C2_C3_1",
}

impl Common {
    /// [`Self::save`] of a partition at S-EL0.
    #[inline]
    pub fn save_el0(&mut self) {
        self.0[0] = [crate::sysreg::read_sysreg!("sp_el0"), crate::sysreg::read_sysreg!("tpidr_el0")];
    }
}

/// Place of a register in [`Common`], for those that the SPMC sets itself.
#[derive(Clone, Copy)]
pub enum CommonRegister {
    /// SCTLR_EL1.
    Sctlr = 2,
    /// CPACR_EL1.
    Cpacr = 3,
    /// TTBR0_EL1.
    Ttbr0 = 4,
    /// TCR_EL1.
    Tcr = 5,
    /// MAIR_EL1.
    Mair = 6,
    /// VBAR_EL1.
    Vbar = 8,
    /// CNTKCTL_EL1.
    Cntkctl = 9,
}

impl Common {
    /// One register of the group.
    pub fn register(&mut self, register: CommonRegister) -> &mut u64 {
        &mut self.0[register as usize / 2][register as usize % 2]
    }
}

/// FP/SIMD registers of a partition: v0 to v31, FPSR, FPCR.
#[repr(C, align(16))]
#[derive(Clone, Copy)]
pub struct Simd {
    /// v0 to v31.
    pub v: [u128; 32],
    /// FPSR.
    pub fpsr: u64,
    /// FPCR.
    pub fpcr: u64,
}

impl Simd {
    /// All zero, as a vCPU starts.
    pub const ZERO: Self = Self { v: [0; 32], fpsr: 0, fpcr: 0 };
}

/// A vCPU. The first seven fields are known to `entry.s`.
#[repr(C, align(64))]
pub struct VcpuContext {
    /// x0 to x17: the registers of the ABI.
    pub regs: Regs,
    /// x18 to x30.
    pub high: [u64; 13],
    /// Where to go on.
    pub pc: u64,
    /// PSTATE.
    pub pstate: u64,
    /// ESR_EL2 of the last exit.
    pub esr: u64,
    /// FAR_EL2 of the last exit.
    pub far: u64,
    /// HPFAR_EL2 of the last exit.
    pub hpfar: u64,
    /// HCR_EL2 while it runs.
    pub hcr: u64,
    /// VSTTBR_EL2 while it runs: the root of the secure stage 2.
    pub vsttbr: u64,
    /// VTTBR_EL2 while it runs: the root of the non-secure stage 2, and the VMID.
    pub vttbr: u64,
    /// It runs at S-EL0.
    pub s_el0: bool,
    /// It has an emulated distributor.
    pub distributor: bool,
    /// EL1 and EL0 registers, when not on a core.
    pub common: Common,
    /// The same, if it runs at S-EL1.
    pub el1: El1Only,
    /// Pointer authentication keys, when not on a core.
    pub keys: Keys,
    /// FP/SIMD, when not on a core.
    pub simd: Simd,
}

const _: () = assert!(offset_of!(VcpuContext, high) == 144);
const _: () = assert!(offset_of!(VcpuContext, pc) == 248);
const _: () = assert!(offset_of!(VcpuContext, esr) == 264);
const _: () = assert!(offset_of!(VcpuContext, hpfar) == 280);

impl VcpuContext {
    /// Nothing set: not runnable.
    pub const ZERO: Self = Self {
        regs: Regs([0; 18]),
        high: [0; 13],
        pc: 0,
        pstate: 0,
        esr: 0,
        far: 0,
        hpfar: 0,
        hcr: 0,
        vsttbr: 0,
        vttbr: 0,
        s_el0: false,
        distributor: false,
        common: Common::ZERO,
        el1: El1Only::ZERO,
        keys: Keys::ZERO,
        simd: Simd::ZERO,
    };
}

struct Slot(UnsafeCell<VcpuContext>);

// SAFETY: a slot is reached only through `context`, whose contract makes the core that claimed the vCPU its only user.
unsafe impl Sync for Slot {}

static CONTEXTS: [[Slot; MAX_CORES]; MAX_PARTITIONS] = [const { [const { Slot(UnsafeCell::new(VcpuContext::ZERO)) }; MAX_CORES] }; MAX_PARTITIONS];

/// The context of a vCPU that this core has claimed.
///
/// Every caller is the [`crate::cpu::Cpu`] machine, which is asked only about vCPUs that this core moved to running
/// (`bulkhead_core::vcpu`, module invariant); the borrow ends before the next call.
#[expect(clippy::mut_from_ref, reason = "the run state machine is the lock")]
pub fn context<'a>(vcpu: VcpuId) -> &'a mut VcpuContext {
    let slot = &CONTEXTS[usize::from(vcpu.partition) % MAX_PARTITIONS][usize::from(vcpu.index) % MAX_CORES];
    // SAFETY: the core that claimed the vCPU is its only user until it publishes another state (release), and the next
    // claim (acquire) happens after that; within one core calls do not nest borrows.
    unsafe { &mut *slot.0.get() }
}

unsafe extern "C" {
    fn enter_guest(context: *mut VcpuContext) -> u64;
    fn call_el3(regs: *mut Regs);
    fn guest_copy(to: *mut u8, from: *const u8, bytes: usize) -> u64;
}

/// What the hardware says about an exit, before its syndrome is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawExit {
    /// Synchronous exception: ESR_EL2 tells.
    Synchronous,
    /// IRQ: a secure interrupt.
    Irq,
    /// FIQ: a non-secure interrupt.
    Fiq,
    /// SError.
    SError,
}

/// Runs a vCPU whose EL1 registers, tables and trap controls are on this core.
pub fn enter(context: &mut VcpuContext) -> RawExit {
    // SAFETY: the context belongs to this core (see `context`); `enter_guest` preserves what the procedure call standard
    // asks for and touches no memory but the context and its own stack frame.
    match unsafe { enter_guest(context) } {
        0 => RawExit::Synchronous,
        1 => RawExit::Irq,
        2 => RawExit::Fiq,
        _ => RawExit::SError,
    }
}

/// One SMC to EL3: a reply or a request to the SPMD, and what comes back.
pub fn smc(regs: &mut Regs) {
    // SAFETY: `regs` is a live, exclusive array of 18 registers; EL3 preserves x18 to x30.
    unsafe { call_el3(regs) };
}

/// Copies guest memory at `from` into `out`; `false` when the bus or the SPMC's own tables refused.
pub fn copy_from_guest(from: u64, out: &mut [u8]) -> bool {
    // SAFETY: `out` is exclusive; `from` is guest memory, of which Rust holds no reference, and a fault there ends the
    // copy instead of the program (`guest_copy_fault`).
    unsafe { guest_copy(out.as_mut_ptr(), from as *const u8, out.len()) == 0 }
}

/// Copies `data` to guest memory at `to`; `false` when the bus or the SPMC's own tables refused.
pub fn copy_to_guest(to: u64, data: &[u8]) -> bool {
    // SAFETY: as `copy_from_guest`, with the sides exchanged: the caller has checked that `to` is guest memory.
    unsafe { guest_copy(to as *mut u8, data.as_ptr(), data.len()) == 0 }
}
