//! What a vCPU consists of while it does not run, and the EL1 registers of a whole world.
//!
//! | state | who saves it | when |
//! |---|---|---|
//! | x0 to x30, PC, PSTATE | `enter_guest`, and the vectors behind it | every entry and exit |
//! | [`Common`]: the EL1 and EL0 registers that matter while EL0 runs | [`crate::cpu`] | when another vCPU or the normal world needs the core |
//! | [`Exception`]: those that an exception to EL1 changes | the same | with `Common`; not of an S-EL0 partition that stopped at EL0 |
//! | [`El1Only`]: those that nothing below EL1 sees or changes | the same | when another vCPU at S-EL1 or the normal world needs the core |
//! | [`Keys`]: pointer authentication | the same | lazily, by trap; of a vCPU that has used them, with `Common` |
//! | FP/SIMD, and SVE of the normal world | `simd` | lazily, by trap |
//! | x0 to x17 of the normal world | [`call_el3`] | every call; its x18 to x30 EL3 keeps |
//! | EL2 registers of the normal world | EL3 | every world switch |
//!
//! Registers that a partition may not write because their accesses trap (debug, PMU, SVE, SME, MTE, SCXTNUM, TPIDR2,
//! ACTLR, timers) need no place here.
#![expect(unsafe_code, reason = "entry into partitions, and the save areas that assembly fills")]

use bulkhead_core::{MAX_CORES, MAX_PARTITIONS, VcpuId};
use crate::holders::Holders;
use crate::sysreg;
use crate::table_pool::POOL;
use bulkhead_ffa::{Message, Regs};
use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};

core::arch::global_asm!(include_str!("entry.s"));
core::arch::global_asm!(include_str!("mem.s"));

/// PSTATE at entry: EL1 with its own stack pointer, everything masked.
pub const PSTATE_EL1H: u64 = 0x3c5;
/// SCTLR_EL1 with the MMU off: its RES1 bits.
pub const SCTLR_RESET: u64 = 0x30d0_0800;

/// Registers that move together: saved and loaded in pairs, as the core stores and loads them. There may be a last one without
/// a partner.
macro_rules! register_group {
    ($(#[$doc:meta])* $group:ident = $registers:literal; $($first:literal $second:literal,)* $(and $last:literal)?) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        #[repr(transparent)]
        pub struct $group([u64; $registers]);

        impl $group {
            /// All zero, as a vCPU starts.
            pub const ZERO: Self = Self([0; $registers]);

            /// Reads this core's registers.
            #[inline(always)]
            pub fn save(&mut self) {
                // SAFETY: `self` is as long as the group.
                unsafe { Self::save_at(self.0.as_mut_ptr()) };
            }

            /// Writes this core's registers.
            #[inline(always)]
            pub fn load(&self) {
                // SAFETY: `self` is as long as the group.
                unsafe { Self::load_at(self.0.as_ptr()) };
            }

            /// Reads this core's registers to `at` and returns the address behind them.
            ///
            /// # Safety
            /// There is room for the group at `at`, which is the caller's.
            #[inline(always)]
            unsafe fn save_at(at: *mut u64) -> *mut u64 {
                const { assert!([$($first, $second,)* $($last)?].len() == $registers) };
                let end;
                // SAFETY: reading these registers has no side effect; the room is there.
                unsafe {
                    core::arch::asm!(
                        $(concat!("mrs {a}, ", $first), concat!("mrs {b}, ", $second), "stp {a}, {b}, [{at}], #16",)*
                        $(concat!("mrs {a}, ", $last), "str {a}, [{at}], #8",)?
                        a = out(reg) _, b = out(reg) _, at = inout(reg) at => end,
                        options(nostack, preserves_flags)
                    );
                }
                end
            }

            /// Writes this core's registers from `at` and returns the address behind them.
            ///
            /// # Safety
            /// What lies at `at` is a group.
            #[inline(always)]
            unsafe fn load_at(at: *const u64) -> *const u64 {
                let end;
                // SAFETY: these registers belong to lower exception levels; the group is there.
                unsafe {
                    core::arch::asm!(
                        $("ldp {a}, {b}, [{at}], #16", concat!("msr ", $first, ", {a}"), concat!("msr ", $second, ", {b}"),)*
                        $("ldr {a}, [{at}], #8", concat!("msr ", $last, ", {a}"),)?
                        a = out(reg) _, b = out(reg) _, at = inout(reg) at => end,
                        options(nostack, preserves_flags, readonly)
                    );
                }
                end
            }
        }
    };
}

register_group! {
    /// What EL0 sees or changes, or what decides how it runs. The first pair is all that a program at S-EL0 can change.
    Common = 11;
    "sp_el0" "tpidr_el0",
    "sctlr_el1" "cpacr_el1",
    "ttbr0_el1" "tcr_el1",
    "mair_el1" "amair_el1",
    "vbar_el1" "cntkctl_el1",
    and "tpidrro_el0"
}

register_group! {
    /// What an exception to EL1 changes.
    Exception = 4;
    "elr_el1" "spsr_el1",
    "esr_el1" "far_el1",
}

register_group! {
    /// What only EL1 uses. While a partition at S-EL0 runs, they stay whose they are.
    El1Only = 8;
    "ttbr1_el1" "tpidr_el1",
    "sp_el1" "par_el1",
    "afsr0_el1" "afsr1_el1",
    "csselr_el1" "contextidr_el1",
}

register_group! {
    /// Pointer authentication keys, APIA to APGA: by encoding, as the baseline target does not name them.
    Keys = 10;
    "S3_0_C2_C1_0" "S3_0_C2_C1_1",
    "S3_0_C2_C1_2" "S3_0_C2_C1_3",
    "S3_0_C2_C2_0" "S3_0_C2_C2_1",
    "S3_0_C2_C2_2" "S3_0_C2_C2_3",
    "S3_0_C2_C3_0" "S3_0_C2_C3_1",
}

impl Common {
    /// [`Self::save`] of a partition at S-EL0.
    #[inline(always)]
    pub fn save_el0(&mut self) {
        self.0[0] = crate::sysreg::read_sysreg!("sp_el0");
        self.0[1] = crate::sysreg::read_sysreg!("tpidr_el0");
    }
}

/// The EL1 and EL0 registers of a vCPU or of the normal world, while they are not in the core.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Lower {
    /// What matters while EL0 runs.
    pub common: Common,
    /// What an exception to EL1 changes.
    pub exception: Exception,
    /// What matters to EL1 only.
    pub el1: El1Only,
}

const _: () = assert!(size_of::<Lower>() == size_of::<Common>() + size_of::<Exception>() + size_of::<El1Only>());

impl Lower {
    /// All zero, as a vCPU starts.
    pub const ZERO: Self = Self { common: Common::ZERO, exception: Exception::ZERO, el1: El1Only::ZERO };

    /// Reads this core's registers that matter while EL0 runs, and what may happen to EL1's meanwhile.
    #[inline(always)]
    pub fn save_for_el0(&mut self) {
        // SAFETY: the groups follow each other without a gap, all within `self`.
        unsafe { Exception::save_at(Common::save_at(core::ptr::from_mut(self).cast())) };
    }

    /// Reads all of this core's registers.
    #[inline(always)]
    pub fn save(&mut self) {
        // SAFETY: the groups follow each other without a gap, all within `self`.
        unsafe { El1Only::save_at(Exception::save_at(Common::save_at(core::ptr::from_mut(self).cast()))) };
    }

    /// Writes all of this core's registers.
    #[inline(always)]
    pub fn load(&self) {
        // SAFETY: the groups follow each other without a gap, all within `self`.
        unsafe { El1Only::load_at(Exception::load_at(Common::load_at(core::ptr::from_ref(self).cast()))) };
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
        &mut self.0[register as usize]
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

/// A vCPU. The fields up to `stack` are known to `entry.s`.
///
/// A direct request touches the cache lines up to the end of `lower` once each, in order, and no other: 0 to 3 hold x0 to x30;
/// 4 what entry and exit need beside them; 5 to 7 the EL1 registers. The rest is for what is rare.
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
    /// The stack pointer of S-EL2 while the vCPU runs.
    stack: u64,
    /// ESR_EL2 of its usual way to call: see [`crate::exit::usual_call`].
    pub call: u64,
    /// HCR_EL2 while it runs, without the virtual lines.
    pub hcr: u64,
    /// Whose registers the core holds while it runs, if these are the normal world's as far as it does not need the place.
    pub holders: Holders,
    /// It runs at S-EL0.
    pub s_el0: bool,
    /// It is at S-EL0 and was not saved in an exception that its EL1 vectors were about to forward: [`Exception`] is nothing to it.
    pub rests_at_el0: bool,
    /// It has an emulated distributor.
    pub distributor: bool,
    /// EL1 and EL0 registers, when not on a core; the last group if it runs at S-EL1.
    pub lower: Lower,
    /// HCR_EL2.VI and VF while it runs.
    pub lines: u64,
    /// VSTTBR_EL2 while it runs: the root of the secure stage 2.
    pub vsttbr: u64,
    /// VTTBR_EL2 while it runs: the root of the non-secure stage 2, and the VMID.
    pub vttbr: u64,
    /// ESR_EL2 of the last exit that was not a usual call.
    pub esr: u64,
    /// FAR_EL2 of that exit.
    pub far: u64,
    /// HPFAR_EL2 of that exit.
    pub hpfar: u64,
    /// Pointer authentication keys, when not on a core.
    pub keys: Keys,
    /// FP/SIMD, when not on a core.
    pub simd: Simd,
}

/// Bytes of a cache line, as the layout assumes it.
const LINE: usize = 64;
const _: () = assert!(offset_of!(VcpuContext, high) == 144);
const _: () = assert!(offset_of!(VcpuContext, pc) == 248);
const _: () = assert!(offset_of!(VcpuContext, stack) == 264);
const _: () = assert!(offset_of!(VcpuContext, pstate) == 4 * LINE && offset_of!(VcpuContext, lower) <= 5 * LINE);
const _: () = assert!(offset_of!(VcpuContext, lower) + size_of::<Lower>() <= 8 * LINE);

impl VcpuContext {
    /// Nothing set: not runnable.
    pub const ZERO: Self = Self {
        regs: Regs([0; 18]),
        high: [0; 13],
        pc: 0,
        pstate: 0,
        stack: 0,
        call: 0,
        hcr: 0,
        holders: Holders::UNKNOWN,
        s_el0: false,
        rests_at_el0: false,
        distributor: false,
        lower: Lower::ZERO,
        lines: 0,
        vsttbr: 0,
        vttbr: 0,
        esr: 0,
        far: 0,
        hpfar: 0,
        keys: Keys::ZERO,
        simd: Simd::ZERO,
    };

    /// Whether an S-EL0 partition is at EL0: not in an exception that its EL1 vectors are about to forward.
    pub const fn is_at_el0(&self) -> bool {
        self.s_el0 && self.pstate & 0xf == 0
    }

    /// Keeps what the hardware says about an exit that is not a usual call. Nothing else may have been taken to S-EL2 since.
    pub fn note_syndrome(&mut self, esr: u64) {
        self.esr = esr;
        self.far = sysreg::far_el2::read();
        self.hpfar = sysreg::hpfar_el2::read();
    }
}

struct Slot(UnsafeCell<VcpuContext>);

// SAFETY: a slot is reached only through `context`, whose contract makes the core that claimed the vCPU its only user.
unsafe impl Sync for Slot {}

/// Where the contexts of partitions' vCPUs are; behind a partition's last one, that one. It changes before the first of them
/// exists, and never again.
static PLACES: [[AtomicPtr<Slot>; MAX_CORES]; MAX_PARTITIONS] = [const { [const { AtomicPtr::new(null_mut()) }; MAX_CORES] }; MAX_PARTITIONS];

/// Makes the contexts of partitions that have so many vCPUs each, at boot. Whether there is memory for them.
pub fn make(vcpus: &[usize]) -> bool {
    let all = vcpus.iter().sum::<usize>() * size_of::<Slot>();
    let Some(start) = POOL.lock().keep(all as u64) else { return false };
    let mut next = start as *mut Slot;
    for (places, vcpus) in PLACES.iter().zip(vcpus) {
        let mut last = null_mut();
        for (index, place) in places.iter().enumerate() {
            if index < *vcpus {
                last = next;
                // SAFETY: the pool gave memory for as many slots as all partitions have vCPUs, whole pages, mapped and nobody else's.
                next = unsafe {
                    next.write(Slot(UnsafeCell::new(VcpuContext::ZERO)));
                    next.add(1)
                };
            }
            place.store(last, Ordering::Relaxed);
        }
    }
    true
}

/// Where a vCPU's context is: see [`context`].
#[derive(Clone, Copy)]
pub struct Handle(&'static Slot);

impl Handle {
    /// A vCPU's.
    #[inline(always)]
    pub fn of(vcpu: VcpuId) -> Self {
        let place = &PLACES[usize::from(vcpu.partition) % MAX_PARTITIONS][usize::from(vcpu.index) % MAX_CORES];
        // SAFETY: whoever has the id of a vCPU has it of a partition that was added at boot, after `make` had put a slot there, for
        // good.
        Self(unsafe { &*place.load(Ordering::Relaxed) })
    }

    /// The context, for the core that has claimed the vCPU.
    #[inline(always)]
    pub fn get<'a>(self) -> &'a mut VcpuContext {
        // SAFETY: the core that claimed the vCPU is its only user until it publishes another state (release), and the next
        // claim (acquire) happens after that; within one core calls do not nest borrows.
        unsafe { &mut *self.0.0.get() }
    }
}

/// The context of a vCPU that this core has claimed.
///
/// Every caller is the [`crate::cpu::Cpu`] machine, which is asked only about vCPUs that this core moved to running
/// (`bulkhead_core::vcpu`, module invariant); the borrow ends before the next call.
pub fn context<'a>(vcpu: VcpuId) -> &'a mut VcpuContext {
    Handle::of(vcpu).get()
}

unsafe extern "C" {
    fn enter_guest(context: *mut VcpuContext) -> u64;
    fn guest_copy(to: *mut u8, from: *const u8, bytes: usize) -> u64;
}

/// What the hardware says about an exit, before its syndrome is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct RawExit(u64);

impl RawExit {
    /// Synchronous exception: ESR_EL2 tells.
    pub const SYNCHRONOUS: Self = Self(0);
    /// IRQ: a secure interrupt.
    pub const IRQ: Self = Self(1);
    /// FIQ: a non-secure interrupt.
    pub const FIQ: Self = Self(2);
}

/// Runs a vCPU whose EL1 registers, tables and trap controls are on this core, or will be by the context synchronisation that
/// the exception return is. With ESR_EL2.
#[inline(always)]
pub fn enter(context: &mut VcpuContext) -> (RawExit, u64) {
    let (kind, esr);
    // SAFETY: the context belongs to this core (see `context`). `enter_guest` touches no memory but the context and its own
    // stack frame, preserves x19, x29 and the stack pointer, and changes the other registers, as said here.
    unsafe {
        core::arch::asm!(
            "bl {enter}",
            enter = sym enter_guest,
            inout("x0") context => kind, out("x1") esr, out("x2") _, out("x3") _, out("x4") _, out("x5") _, out("x6") _, out("x7") _,
            out("x8") _, out("x9") _, out("x10") _, out("x11") _, out("x12") _, out("x13") _, out("x14") _, out("x15") _,
            out("x16") _, out("x17") _, out("x18") _, out("x20") _, out("x21") _, out("x22") _, out("x23") _, out("x24") _,
            out("x25") _, out("x26") _, out("x27") _, out("x28") _, out("x30") _,
        );
    }
    (RawExit(kind), esr)
}

/// One SMC to EL3: a reply or a request to the SPMD, and what comes back. x0 to x7 are `x`, and the result; x8 to x17 are in
/// `regs` before and after.
#[inline(always)]
pub fn call_el3(x: Message, regs: &mut Regs) -> Message {
    let [mut x0, mut x1, mut x2, mut x3, mut x4, mut x5, mut x6, mut x7] = x;
    // SAFETY: EL3 preserves x18 to x30 and this world's memory; the loads and stores are within `regs`.
    unsafe {
        core::arch::asm!(
            "ldp x8, x9, [x20, #64]",
            "ldp x10, x11, [x20, #80]",
            "ldp x12, x13, [x20, #96]",
            "ldp x14, x15, [x20, #112]",
            "ldp x16, x17, [x20, #128]",
            "smc #0",
            "stp x8, x9, [x20, #64]",
            "stp x10, x11, [x20, #80]",
            "stp x12, x13, [x20, #96]",
            "stp x14, x15, [x20, #112]",
            "stp x16, x17, [x20, #128]",
            inout("x0") x0, inout("x1") x1, inout("x2") x2, inout("x3") x3, inout("x4") x4, inout("x5") x5, inout("x6") x6, inout("x7") x7,
            out("x8") _, out("x9") _, out("x10") _, out("x11") _, out("x12") _, out("x13") _, out("x14") _, out("x15") _, out("x16") _, out("x17") _,
            in("x20") regs.0.as_mut_ptr(),
            options(nostack)
        );
    }
    [x0, x1, x2, x3, x4, x5, x6, x7]
}

/// [`call_el3`] with all registers in `regs`.
pub fn smc(regs: &mut Regs) {
    let answer = call_el3(regs.message(), regs);
    regs.set_message(answer);
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
