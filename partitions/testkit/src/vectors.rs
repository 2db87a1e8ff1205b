//! FP/SIMD, SVE and SME registers: filled with patterns and compared. Whoever calls has made them accessible.
#![expect(unsafe_code, reason = "assembly that moves vector registers, which this program does not use otherwise")]

use crate::registers::pattern;

core::arch::global_asm!(include_str!("vectors.s"));

unsafe extern "C" {
    fn simd_load(words: *const u64);
    fn simd_store(words: *mut u64);
    fn sve_load(z: *const u8, p: *const u8);
    fn sve_store(z: *mut u8, p: *mut u8);
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
    p: [u8; 17 * LONGEST / 8],
}

impl Sve {
    /// Zeroes.
    #[must_use]
    pub const fn new() -> Self {
        Self { z: [0; 32 * LONGEST], p: [0; 17 * LONGEST / 8] }
    }

    /// Fills z0 to z31, p0 to p15 and the FFR.
    pub fn fill(&mut self, seed: u64) {
        for (n, byte) in self.z.iter_mut().enumerate() {
            *byte = pattern(seed, 0x2000 + n as u64 / 8).to_le_bytes()[n % 8];
        }
        for (n, byte) in self.p.iter_mut().enumerate() {
            *byte = pattern(seed, 0x4000 + n as u64 / 8).to_le_bytes()[n % 8];
        }
        // The FFR holds only values that a first-faulting load leaves: ones, then zeroes.
        let predicate = vector_bytes() / 8;
        self.p[16 * predicate..17 * predicate].fill(0);
        self.p[16 * predicate] = 0x7f;
        // SAFETY: the arrays are as long as the longest registers.
        unsafe { sve_load(self.z.as_ptr(), self.p.as_ptr()) };
    }

    /// How many bytes of the registers differ from what [`Self::fill`] wrote into `filled`; this one is scratch.
    #[must_use]
    pub fn compare(&mut self, filled: &Self) -> usize {
        // SAFETY: the arrays are as long as the longest registers.
        unsafe { sve_store(self.z.as_mut_ptr(), self.p.as_mut_ptr()) };
        let length = vector_bytes();
        let differing = |a: &[u8], b: &[u8]| a.iter().zip(b).filter(|(a, b)| a != b).count();
        differing(&self.z[..32 * length], &filled.z[..32 * length]) + differing(&self.p[..17 * length / 8], &filled.p[..17 * length / 8])
    }
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
