//! FP/SIMD and SVE registers: whose are in the core, and the normal world's save area.
//!
//! Switched lazily. While a partition runs whose registers are not in the core, its first FP instruction traps
//! (CPTR_EL2.TFP), and [`take`] exchanges them. Partitions have FP/SIMD only: SVE and SME instructions of theirs trap,
//! so vector lengths, predicates, ZA and ZT0 stay the normal world's, and only what FP instructions overwrite (the Z
//! registers) or must not see (streaming mode) is saved: Z, P, FFR, FPSR, FPCR and SVCR.
#![expect(unsafe_code, reason = "register files are saved by assembly into static areas, one for each core")]

use crate::context::Simd;
use crate::sysreg::{self, isb, read_sysreg, write_sysreg};
use bulkhead_core::MAX_CORES;
use core::cell::UnsafeCell;

// FPCR is S3_3_C4_C4_0 and FPSR S3_3_C4_C4_1 below: the softfloat target does not know them by name.
core::arch::global_asm!(include_str!("simd.s"));

/// Bytes of a Z register at the architecture's longest vector length.
const LONGEST_VECTOR: usize = 256;
const TRAP_TRACE_AND_MONITORS: u64 = 1 << 30 | 1 << 20;
const RES1: u64 = 1 << 13 | 1 << 9 | 0xff;
const TRAP_SME: u64 = 1 << 12;
const TRAP_FP: u64 = 1 << 10;
const TRAP_SVE: u64 = 1 << 8;

/// CPTR_EL2 while a partition runs whose registers are not in the core.
pub const TRAP_ALL: u64 = TRAP_TRACE_AND_MONITORS | RES1 | TRAP_SME | TRAP_FP | TRAP_SVE;
/// CPTR_EL2 while a partition runs whose registers are in the core.
pub const TRAP_SCALABLE: u64 = TRAP_TRACE_AND_MONITORS | RES1 | TRAP_SME | TRAP_SVE;
/// CPTR_EL2 while S-EL2 itself saves or loads registers.
const TRAP_NOTHING: u64 = TRAP_TRACE_AND_MONITORS | RES1;

/// PSTATE.SM in SVCR.
const STREAMING: u64 = 1;
/// LEN of ZCR_EL2 and SMCR_EL2: as long as it gets.
const LONGEST: u64 = 0xf;
/// FA64 of SMCR_EL2: all instructions in streaming mode.
const FULL_A64: u64 = 1 << 31;

#[repr(C, align(16))]
struct World {
    z: [u8; 32 * LONGEST_VECTOR],
    p: [u8; 16 * LONGEST_VECTOR / 8],
    ffr: [u8; LONGEST_VECTOR / 8],
    fpsr: u64,
    fpcr: u64,
    svcr: u64,
}

struct Area(UnsafeCell<World>);

// SAFETY: an area is used only by the core whose index it has (`area`).
unsafe impl Sync for Area {}

const EMPTY: World = World { z: [0; 32 * LONGEST_VECTOR], p: [0; 2 * LONGEST_VECTOR], ffr: [0; LONGEST_VECTOR / 8], fpsr: 0, fpcr: 0, svcr: 0 };
static AREAS: [Area; MAX_CORES] = [const { Area(UnsafeCell::new(EMPTY)) }; MAX_CORES];

unsafe extern "C" {
    fn simd_save(v: *mut u8);
    fn simd_load(v: *const u8);
    fn sve_save(z: *mut u8, p: *mut u8);
    fn sve_load(z: *const u8, p: *const u8);
    fn ffr_save(ffr: *mut u8);
    fn ffr_load(ffr: *const u8);
}

fn has_sve() -> bool {
    sysreg::id_aa64pfr0_el1::read() >> 32 & 0xf != 0
}

fn has_sme() -> bool {
    sysreg::id_aa64pfr1_el1::read() >> 24 & 0xf != 0
}

/// ID_AA64SMFR0_EL1.FA64.
fn has_full_a64() -> bool {
    read_sysreg!("S3_0_C0_C4_5") >> 63 != 0
}

fn area(core: usize) -> *mut World {
    AREAS[core % MAX_CORES].0.get()
}

/// Vector lengths at their longest while registers are moved, so that no bit of a Z register is left out; puts the
/// normal world's own limits back when dropped.
struct Lengths {
    zcr: u64,
    smcr: Option<u64>,
}

impl Lengths {
    fn longest() -> Self {
        let zcr = sysreg::zcr_el2::read();
        sysreg::zcr_el2::write(LONGEST);
        let smcr = has_sme().then(sysreg::smcr_el2::read);
        if smcr.is_some() {
            let full = if has_full_a64() { FULL_A64 } else { 0 };
            // EZT0 (bit 30) stays as it is: ZT0 is not touched.
            sysreg::smcr_el2::write(LONGEST | full);
        }
        isb();
        Self { zcr, smcr }
    }
}

impl Drop for Lengths {
    fn drop(&mut self) {
        sysreg::zcr_el2::write(self.zcr);
        if let Some(smcr) = self.smcr {
            sysreg::smcr_el2::write(smcr);
        }
        isb();
    }
}

fn untrap() {
    sysreg::cptr_el2::write(TRAP_NOTHING);
    isb();
}

/// Saves the normal world's registers of this core, and leaves streaming mode.
pub fn save_world(core: usize) {
    untrap();
    let world = area(core);
    let svcr = if has_sme() { sysreg::svcr::read() } else { 0 };
    // SAFETY: `world` is this core's own area, large enough for the longest vectors; the reference lives in this call only.
    let world = unsafe { &mut *world };
    world.svcr = svcr;
    world.fpsr = read_sysreg!("S3_3_C4_C4_1");
    world.fpcr = read_sysreg!("S3_3_C4_C4_0");
    let streaming = svcr & STREAMING != 0;
    if has_sve() || streaming {
        let _lengths = Lengths::longest();
        // SAFETY: the area holds 32 Z and 16 P registers and FFR at the longest length; traps are off, and FFR is
        // read only where it exists (outside streaming mode, or with FA64).
        unsafe {
            sve_save(world.z.as_mut_ptr(), world.p.as_mut_ptr());
            if !streaming || has_full_a64() {
                ffr_save(world.ffr.as_mut_ptr());
            }
        }
        if streaming {
            // Partitions run outside streaming mode; ZA stays as it is.
            sysreg::svcr::write(svcr & !STREAMING);
        }
    } else {
        // SAFETY: the area holds 32 V registers; traps are off.
        unsafe { simd_save(world.z.as_mut_ptr()) };
    }
}

/// Loads what [`save_world`] saved.
pub fn load_world(core: usize) {
    untrap();
    // SAFETY: as in `save_world`.
    let world = unsafe { &*area(core) };
    let streaming = world.svcr & STREAMING != 0;
    if has_sve() || streaming {
        let _lengths = Lengths::longest();
        if streaming {
            sysreg::svcr::write(world.svcr);
        }
        // SAFETY: as in `save_world`; FFR before P0, which carries it.
        unsafe {
            if !streaming || has_full_a64() {
                ffr_load(world.ffr.as_ptr());
            }
            sve_load(world.z.as_ptr(), world.p.as_ptr());
        }
    } else {
        // SAFETY: as in `save_world`.
        unsafe { simd_load(world.z.as_ptr()) };
    }
    // After the change of mode, which resets FPSR.
    write_sysreg!("S3_3_C4_C4_1", world.fpsr);
    write_sysreg!("S3_3_C4_C4_0", world.fpcr);
    // Whoever runs next, does so without them.
    sysreg::cptr_el2::write(TRAP_ALL);
}

/// Saves a partition's registers.
pub fn save(simd: &mut Simd) {
    untrap();
    simd.fpsr = read_sysreg!("S3_3_C4_C4_1");
    simd.fpcr = read_sysreg!("S3_3_C4_C4_0");
    // SAFETY: `simd.v` holds 32 registers; traps are off.
    unsafe { simd_save(simd.v.as_mut_ptr().cast()) };
}

/// Loads a partition's registers; what is above their 128 bits becomes zero.
pub fn load(simd: &Simd) {
    untrap();
    // SAFETY: as `save`.
    unsafe { simd_load(simd.v.as_ptr().cast()) };
    write_sysreg!("S3_3_C4_C4_1", simd.fpsr);
    write_sysreg!("S3_3_C4_C4_0", simd.fpcr);
}
