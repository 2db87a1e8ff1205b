//! FP/SIMD, SVE and SME registers: filled with patterns and compared. Whoever calls has made them accessible.
#![expect(unsafe_code, reason = "assembly that moves vector registers, which this program does not use otherwise")]

use crate::registers::pattern;
use core::sync::atomic::{AtomicBool, Ordering};

core::arch::global_asm!(include_str!("vectors.s"));

unsafe extern "C" {
    fn simd_load(words: *const u64);
    fn simd_store(words: *mut u64);
    fn sve_load(z: *const u8, p: *const u8);
    fn sve_store(z: *mut u8, p: *mut u8);
    fn ffr_load(p: *const u8);
    fn ffr_store(p: *mut u8);
    fn streaming_enable(on: u64);
    fn sve_bytes() -> u64;
    fn za_bytes() -> u64;
    fn za_enable(on: u64);
    fn read_svcr() -> u64;
    fn za_load_row(row: u64, bytes: *const u8);
    fn za_store_row(row: u64, bytes: *mut u8);
}

/// Words of v0 to v31, FPSR and FPCR.
const SIMD: usize = 66;
/// FPSR: the cumulative exception bits.
const FPSR: u64 = 0x0800_009f;
/// FPCR: rounding mode, flush to zero, default NaN.
const FPCR: u64 = 0x07c0_0000;
/// Bytes of the longest z register.
const LONGEST: usize = 256;

fn simd_words(seed: u64) -> [u64; SIMD] {
    let mut words: [u64; SIMD] = core::array::from_fn(|n| pattern(seed, 0x1000 + n as u64));
    words[SIMD - 2] &= FPSR;
    words[SIMD - 1] &= FPCR;
    words
}

/// Fills v0 to v31, FPSR and FPCR.
pub fn fill_simd(seed: u64) {
    let words = simd_words(seed);
    // SAFETY: reads 66 words and changes registers that this program does not use.
    unsafe { simd_load(words.as_ptr()) };
}

/// How many of the 66 words of v0 to v31, FPSR and FPCR differ from `seed`'s pattern.
#[must_use]
pub fn check_simd(seed: u64) -> usize {
    let mut words = [0; SIMD];
    // SAFETY: writes 66 words.
    unsafe { simd_store(words.as_mut_ptr()) };
    words[SIMD - 2] &= FPSR;
    words[SIMD - 1] &= FPCR;
    words.iter().zip(simd_words(seed)).filter(|(found, expected)| **found != *expected).count()
}

/// Room for all SVE registers.
#[repr(C, align(16))]
pub struct Sve {
    z: [u8; 32 * LONGEST],
    p: [u8; 16 * LONGEST / 8],
    ffr: [u8; LONGEST / 8],
}

impl Sve {
    /// Zeroes.
    #[must_use]
    pub const fn new() -> Self {
        Self { z: [0; 32 * LONGEST], p: [0; 16 * LONGEST / 8], ffr: [0; LONGEST / 8] }
    }

    /// Fills z0 to z31, p0 to p15 and, outside streaming mode, the FFR.
    pub fn fill(&mut self, seed: u64) {
        for (n, byte) in self.z.iter_mut().enumerate() {
            *byte = pattern(seed, 0x2000 + n as u64 / 8).to_le_bytes()[n % 8];
        }
        for (n, byte) in self.p.iter_mut().enumerate() {
            *byte = pattern(seed, 0x4000 + n as u64 / 8).to_le_bytes()[n % 8];
        }
        // The FFR holds only values that a first-faulting load leaves: ones, then zeroes.
        self.ffr.fill(0);
        self.ffr[0] = 0x7f;
        // SAFETY: the arrays are as long as the longest registers; the FFR is used where it exists.
        unsafe {
            if !is_streaming() {
                ffr_load(self.ffr.as_ptr());
            }
            sve_load(self.z.as_ptr(), self.p.as_ptr());
        }
    }

    /// How many bytes of the registers differ from what [`Self::fill`] wrote into `filled`; this one is scratch.
    #[must_use]
    pub fn compare(&mut self, filled: &Self) -> usize {
        let length = vector_bytes();
        self.ffr = filled.ffr;
        // SAFETY: the arrays are as long as the longest registers; the FFR is used where it exists.
        unsafe {
            sve_store(self.z.as_mut_ptr(), self.p.as_mut_ptr());
            if !is_streaming() {
                ffr_store(self.ffr.as_mut_ptr());
            }
        }
        let differing = |a: &[u8], b: &[u8]| a.iter().zip(b).filter(|(a, b)| a != b).count();
        differing(&self.z[..32 * length], &filled.z[..32 * length])
            + differing(&self.p[..16 * length / 8], &filled.p[..16 * length / 8])
            + differing(&self.ffr[..length / 8], &filled.ffr[..length / 8])
    }
}

/// Whether the CPU is in streaming mode; `false` too without SME, which has been looked for by whoever turned it on.
fn is_streaming() -> bool {
    STREAMING.load(Ordering::Relaxed)
}

/// What [`streaming`] was told last.
static STREAMING: AtomicBool = AtomicBool::new(false);

/// Goes into streaming mode, or out of it; for a CPU with SME. Either way the vector registers are lost.
pub fn streaming(on: bool) {
    STREAMING.store(on, Ordering::Relaxed);
    // SAFETY: this program keeps nothing in vector registers.
    unsafe { streaming_enable(u64::from(on)) };
}

/// Whether the CPU with SME says that it is in streaming mode.
#[must_use]
pub fn says_streaming() -> bool {
    // SAFETY: reads SVCR.
    unsafe { read_svcr() & 1 != 0 }
}

impl Default for Sve {
    fn default() -> Self {
        Self::new()
    }
}

/// Bytes of a z register now.
#[must_use]
pub fn vector_bytes() -> usize {
    // SAFETY: reads the vector length.
    unsafe { sve_bytes() as usize }
}

/// Turns ZA on, and fills it.
pub fn fill_za(seed: u64) {
    // SAFETY: turns on an array that this program does not use otherwise, then fills it by rows of its own length.
    unsafe {
        za_enable(1);
        let rows = za_bytes();
        for row in 0..rows {
            let bytes: [u8; LONGEST] = core::array::from_fn(|n| pattern(seed, 0x8000 + row).to_le_bytes()[n % 8]);
            za_load_row(row, bytes.as_ptr());
        }
    }
}

/// How many rows of ZA differ from `seed`'s pattern, of how many; all of them when it was turned off.
#[must_use]
pub fn check_za(seed: u64) -> (u64, u64) {
    // SAFETY: reads SVCR and the row length; rows are stored only while ZA is on, each into a buffer of the longest length.
    unsafe {
        let rows = za_bytes();
        if read_svcr() & 2 == 0 {
            return (rows, rows);
        }
        let mut different = 0;
        for row in 0..rows {
            let mut bytes = [0; LONGEST];
            za_store_row(row, bytes.as_mut_ptr());
            let expected = pattern(seed, 0x8000 + row).to_le_bytes();
            let same = bytes[..rows as usize].iter().enumerate().all(|(n, byte)| *byte == expected[n % 8]);
            different += u64::from(!same);
        }
        (different, rows)
    }
}

/// Turns ZA off.
pub fn forget_za() {
    // SAFETY: nothing else uses ZA.
    unsafe { za_enable(0) };
}
